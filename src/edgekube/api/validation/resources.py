"""What containers request and may use at most."""

from typing import Any

from edgekube.api import quantity
from edgekube.api.validation import names
from edgekube.api.validation.problems import NOT_NEGATIVE, Problems

Tree = dict[str, Any]
_STANDARD = ("cpu", "memory", "ephemeral-storage")
_NATIVE = "kubernetes.io/"


def requirements(tree: Tree, path: str, problems: Problems) -> None:
    """Check ResourceRequirements: amounts, names, and that no request is over its limit."""
    limits, requests = tree.get("limits", {}), tree.get("requests", {})
    for part, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            here = f"{path}.{part}[{name}]"
            _name(name, here, problems)
            if quantity.parse(amount) < 0:
                problems.invalid(here, amount, NOT_NEGATIVE)
            elif is_extended(name) and quantity.parse(amount) % 1:
                problems.invalid(here, amount, "must be an integer")
    for name, amount in requests.items():
        _fits(name, amount, limits.get(name), path=f"{path}.requests", problems=problems)


def is_extended(name: str) -> bool:
    """Whether a resource is a device or the like, which cannot be overcommitted."""
    return "/" in name and _NATIVE not in name


def _name(name: str, path: str, problems: Problems) -> None:
    problems.each(path, name, names.qualified(name))
    if "/" not in name and name not in _STANDARD and not name.startswith("hugepages-"):
        problems.invalid(path, name, "must be a standard resource type or fully qualified")
        problems.invalid(path, name, "must be a standard resource for containers")


def _fits(name: str, amount: str, limit: str | None, *, path: str, problems: Problems) -> None:
    fixed = is_extended(name) or name.startswith("hugepages-")
    if limit is None:
        if fixed:
            problems.required(
                path.replace(".requests", ".limits"), "Limit must be set for non overcommitable resources"
            )
    elif fixed and quantity.parse(amount) != quantity.parse(limit):
        problems.invalid(path, amount, f"must be equal to {name} limit of {limit}")
    elif quantity.parse(amount) > quantity.parse(limit):
        problems.invalid(path, amount, f"must be less than or equal to {name} limit of {limit}")
