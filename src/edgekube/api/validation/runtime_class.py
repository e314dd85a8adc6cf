"""Runtime classes (pkg/apis/node/validation)."""

from typing import Any

from edgekube.api.errors import Cause
from edgekube.api.validation import metadata, names
from edgekube.api.validation.problems import Problems
from edgekube.api.validation.resources import requirements

Tree = dict[str, Any]
_OPERATORS = ("Equal", "Exists")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def runtime_class(tree: Tree, problems: Problems) -> None:
    """Check a RuntimeClass."""
    handler = tree.get("handler", "")
    problems.each("handler", handler, names.label(handler))
    if "overhead" in tree:
        _overhead(tree["overhead"], problems)
    scheduling = tree.get("scheduling", {})
    metadata.labels(scheduling.get("nodeSelector", {}), "scheduling.nodeSelector", problems)
    given = scheduling.get("tolerations", ())
    for index, one in enumerate(given):
        path = f"scheduling.tolerations[{index}]"
        _toleration(one, path, problems)
        if one in given[:index]:
            problems.duplicate(path, one)


def update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change."""
    problems.unchanged(tree, old, "handler", "")


def _overhead(overhead: Tree, problems: Problems) -> None:
    """The rules are those of limits; only the paths differ."""
    found = Problems()
    requirements({"limits": overhead.get("podFixed", {})}, "overhead", found)
    for cause in found.causes:
        field = cause.field.replace("overhead.limits", "overhead.podFixed", 1)
        problems.causes.append(Cause(cause.reason, cause.message, field))


def _toleration(one: Tree, path: str, problems: Problems) -> None:
    key, operator = one.get("key", ""), one.get("operator", "") or "Equal"
    if key:
        problems.each(f"{path}.key", key, names.qualified(key))
    elif operator != "Exists":
        problems.invalid(
            f"{path}.operator",
            operator,
            'operator must be Exists when `key` is empty, which means "match all values and all keys"',
        )
    if operator not in _OPERATORS:
        problems.unsupported(f"{path}.operator", operator, _OPERATORS)
    if operator == "Exists" and one.get("value"):
        problems.invalid(f"{path}.operator", one, "value must be empty when `operator` is 'Exists'")
    if one.get("effect") and one["effect"] not in _EFFECTS:
        problems.unsupported(f"{path}.effect", one["effect"], _EFFECTS)
    if one.get("tolerationSeconds") is not None and one.get("effect") != "NoExecute":
        problems.invalid(
            f"{path}.effect",
            one.get("effect", ""),
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        )
