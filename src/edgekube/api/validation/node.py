"""Nodes."""

from typing import Any

from edgekube.api import quantity
from edgekube.api.validation import names
from edgekube.api.validation.problems import NOT_NEGATIVE, Problems

Tree = dict[str, Any]
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def node(tree: Tree, problems: Problems) -> None:
    """Check a Node."""
    spec = tree.get("spec", {})
    _taints(spec.get("taints", ()), problems)
    for index, text in enumerate(spec.get("podCIDRs", ())):
        problems.each(f"spec.podCIDRs[{index}]", text, names.cidr(text))
    for part in ("capacity", "allocatable"):
        for name, amount in tree.get("status", {}).get(part, {}).items():
            if quantity.parse(amount) < 0:
                problems.invalid(f"status.{part}[{name}]", amount, NOT_NEGATIVE)


def update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change once it is known."""
    spec, before = tree.get("spec", {}), old.get("spec", {})
    for field, path, name in (
        ("podCIDRs", "spec.podCIDRs", "podCIDR"),
        ("providerID", "spec.providerID", "providerID"),
    ):
        if before.get(field) and spec.get(field) != before[field]:
            problems.forbidden(path, f'node updates may not change {name} except from "" to valid')


def _taints(taints: list[Tree], problems: Problems) -> None:
    seen = set()
    for index, taint in enumerate(taints):
        path = f"spec.taints[{index}]"
        key, effect = taint.get("key", ""), taint.get("effect", "")
        problems.each(f"{path}.key", key, names.qualified(key))
        problems.each(f"{path}.value", taint.get("value", ""), names.label_value(taint.get("value", "")))
        problems.one_of(taint, "effect", path, supported=_EFFECTS)
        if (key, effect) in seen:
            problems.duplicate(path, taint)
        seen.add((key, effect))
