"""Which nodes a pod chooses: nodeSelector and required node affinity (core/v1)."""

from collections.abc import Callable, Mapping, Sequence

from edgekube.api.types import core_v1


def picks_nodes(spec: core_v1.PodSpec) -> bool:
    """Tell whether the pod chooses nodes by label or field."""
    return bool(spec.node_selector) or required_of(spec) is not None


def chosen(spec: core_v1.PodSpec, name: str, labels: Mapping[str, str]) -> bool:
    """Tell whether nodeSelector and required node affinity allow the node `name`."""
    if any(labels.get(key) != wanted for key, wanted in spec.node_selector.items()):
        return False
    required = required_of(spec)
    return required is None or selected(required, name, labels)


def selected(selector: core_v1.NodeSelector, name: str, labels: Mapping[str, str]) -> bool:
    """Tell whether any term fits the node `name`."""
    return any(term_fits(term, name, labels) for term in selector.node_selector_terms)


def term_fits(term: core_v1.NodeSelectorTerm, name: str, labels: Mapping[str, str]) -> bool:
    """Tell whether all requirements of a term hold; an empty term fits nothing."""
    if not (term.match_expressions or term.match_fields):
        return False
    return all(_holds(want, labels.get(want.key)) for want in term.match_expressions) and all(
        _holds(want, name if want.key == "metadata.name" else None) for want in term.match_fields
    )


def required_of(spec: core_v1.PodSpec) -> core_v1.NodeSelector | None:
    """Return the node affinity that must hold."""
    affinity = spec.affinity.node_affinity if spec.affinity else None
    return affinity.required_during_scheduling_ignored_during_execution if affinity else None


def _compare(have: str | None, values: Sequence[str]) -> int:
    """Return the sign of `have` minus the one value; 0 when either is no number."""
    try:
        left, right = int(have or ""), int(values[0])
    except (ValueError, IndexError):
        return 0
    return (left > right) - (left < right)


_OPERATORS: dict[str, Callable[[str | None, Sequence[str]], bool]] = {
    "In": lambda have, values: have is not None and have in values,
    "NotIn": lambda have, values: have not in values,
    "Exists": lambda have, _: have is not None,
    "DoesNotExist": lambda have, _: have is None,
    "Gt": lambda have, values: _compare(have, values) > 0,
    "Lt": lambda have, values: _compare(have, values) < 0,
}


def _holds(want: core_v1.NodeSelectorRequirement, have: str | None) -> bool:
    return _OPERATORS[want.operator](have, want.values)
