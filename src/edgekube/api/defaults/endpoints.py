"""Endpoints and EndpointSlices."""

from edgekube.api.defaults.fill import Tree, fill, fill_empty, items


def endpoints(tree: Tree) -> None:
    """Fill an Endpoints object."""
    for subset in items(tree, "subsets"):
        for port in items(subset, "ports"):
            fill_empty(port, {"protocol": "TCP"})


def endpoint_slice(tree: Tree) -> None:
    """Fill an EndpointSlice."""
    for port in items(tree, "ports"):
        fill(port, {"name": "", "protocol": "TCP"})
