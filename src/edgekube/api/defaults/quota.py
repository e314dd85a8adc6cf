"""LimitRanges (pkg/apis/core/v1/defaults.go)."""

from edgekube.api.defaults.fill import Tree, fill, items


def limit_range(tree: Tree) -> None:
    """Fill the defaults of containers from their bounds."""
    for item in items(tree.get("spec", {}), "limits"):
        if item.get("type") != "Container":
            continue
        limits = {**item.get("max", {}), **item.get("default", {})}
        requests = {**item.get("min", {}), **limits, **item.get("defaultRequest", {})}
        if limits:
            item["default"] = limits
        if requests:
            fill(item.setdefault("defaultRequest", {}), requests)
