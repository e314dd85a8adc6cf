"""Nodes."""

from edgekube.api.defaults.fill import Tree


def node(tree: Tree) -> None:
    """Fill a Node: without reservations all it has can be allocated."""
    status = tree.get("status", {})
    if status.get("capacity") and "allocatable" not in status:
        status["allocatable"] = dict(status["capacity"])
