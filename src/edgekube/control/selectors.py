"""Label selectors over typed objects (metav1.LabelSelector)."""

from collections.abc import Callable, Mapping, Sequence

from edgekube.api.types import meta_v1

Labels = Mapping[str, str]
_Test = Callable[[Labels, str, Sequence[str]], bool]


def _not_in(labels: Labels, key: str, values: Sequence[str]) -> bool:
    return labels.get(key) not in values


_OPERATORS: dict[str, _Test] = {
    "In": lambda labels, key, values: key in labels and labels[key] in values,
    "NotIn": _not_in,
    "Exists": lambda labels, key, _values: key in labels,
    "DoesNotExist": lambda labels, key, _values: key not in labels,
}


def matches(selector: meta_v1.LabelSelector | None, labels: Labels) -> bool:
    """Tell whether `labels` satisfy `selector`; an empty selector matches all, None nothing."""
    if selector is None:
        return False
    return subset(selector.match_labels, labels) and all(
        _OPERATORS[want.operator](labels, want.key, want.values) for want in selector.match_expressions
    )


def subset(wanted: Labels, labels: Labels) -> bool:
    """Tell whether `labels` have every pair of `wanted`."""
    return all(labels.get(key) == value for key, value in wanted.items())


def empty(selector: meta_v1.LabelSelector) -> bool:
    """Tell whether `selector` says nothing, and so would match everything."""
    return not (selector.match_labels or selector.match_expressions)
