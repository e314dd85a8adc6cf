"""Label selectors."""

from typing import Any

from edgekube.api.validation import metadata, names
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
_WITH_VALUES = ("In", "NotIn")
_WITHOUT_VALUES = ("Exists", "DoesNotExist")


def label_selector(selector: Tree, path: str, problems: Problems) -> None:
    """Check a LabelSelector."""
    metadata.labels(selector.get("matchLabels", {}), f"{path}.matchLabels", problems)
    for index, term in enumerate(selector.get("matchExpressions", ())):
        here, operator, values = (
            f"{path}.matchExpressions[{index}]",
            term.get("operator", ""),
            term.get("values", ()),
        )
        if operator in _WITH_VALUES and not values:
            problems.required(f"{here}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in _WITHOUT_VALUES and values:
            problems.forbidden(
                f"{here}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            )
        elif operator not in (*_WITH_VALUES, *_WITHOUT_VALUES):
            problems.invalid(f"{here}.operator", operator, "not a valid selector operator")
        problems.each(f"{here}.key", term.get("key", ""), names.qualified(term.get("key", "")))
        for number, value in enumerate(values):
            problems.each(f"{here}.values[{number}]", value, names.label_value(value))


def matches(selector: Tree, labels: Tree) -> bool:
    """Whether labels fulfil a LabelSelector."""
    wanted = selector.get("matchLabels", {}).items()
    if any(labels.get(key) != value for key, value in wanted):
        return False
    return all(_holds(term, labels) for term in selector.get("matchExpressions", ()))


def _holds(term: Tree, labels: Tree) -> bool:
    key, operator = term.get("key", ""), term.get("operator")
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    return (labels.get(key) in term.get("values", ())) == (operator == "In")
