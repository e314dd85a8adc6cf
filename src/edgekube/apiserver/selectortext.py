"""LabelSelectors as query strings (labels.Selector.String)."""

from collections.abc import Callable, Mapping
from typing import Any

EXPRESSIONS: Mapping[str, Callable[[str, str], str]] = {
    "In": lambda key, values: f"{key} in ({values})",
    "NotIn": lambda key, values: f"{key} notin ({values})",
    "Exists": lambda key, _values: key,
    "DoesNotExist": lambda key, _values: f"!{key}",
}


def selector_text(selector: Mapping[str, Any]) -> str:
    """Return a LabelSelector as text, sorted by key."""
    terms = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    terms += [
        (item["key"], EXPRESSIONS[item["operator"]](item["key"], ",".join(sorted(item.get("values") or ()))))
        for item in selector.get("matchExpressions") or ()
    ]
    return ",".join(text for _, text in sorted(terms))
