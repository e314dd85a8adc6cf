"""Priority classes."""

from edgekube.api.defaults.fill import Tree, fill


def priority_class(tree: Tree) -> None:
    """Fill a PriorityClass."""
    fill(tree, {"preemptionPolicy": "PreemptLowerPriority", "value": 0})
