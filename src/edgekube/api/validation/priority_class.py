"""Priority classes (pkg/apis/scheduling/validation)."""

from typing import Any

from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
HIGHEST = 1_000_000_000
"""The most a user may give a class."""
SYSTEM = "system-"
SYSTEM_CLASSES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
_POLICIES = ("Never", "PreemptLowerPriority")


def priority_class(tree: Tree, problems: Problems) -> None:
    """Check a PriorityClass."""
    name, value = tree["metadata"].get("name", ""), tree.get("value", 0)
    if name.startswith(SYSTEM):
        if why := _not_system(name, value, globally=tree.get("globalDefault", False)):
            problems.forbidden(
                "metadata.name",
                f"priority class names with '{SYSTEM}' prefix are reserved for system use only. error: {why}",
            )
    elif value > HIGHEST:
        problems.forbidden("value", f"maximum allowed value of a user defined priority is {HIGHEST}")
    policy = tree.get("preemptionPolicy")
    if policy and policy not in _POLICIES:
        problems.unsupported("preemptionPolicy", policy, _POLICIES)


def update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change."""
    if tree.get("value", 0) != old.get("value", 0):
        problems.forbidden("value", "may not be changed in an update.")
    problems.unchanged(tree, old, "preemptionPolicy", "")


def _not_system(name: str, value: int, *, globally: bool) -> str:
    if name not in SYSTEM_CLASSES:
        return f"{name} is not a known system priority class"
    if value != SYSTEM_CLASSES[name]:
        return f"value of {name} PriorityClass must be {SYSTEM_CLASSES[name]}"
    return f"globalDefault of {name} PriorityClass must be false" if globally else ""
