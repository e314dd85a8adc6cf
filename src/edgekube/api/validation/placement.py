"""Where a pod wants to run: affinity and topology spread."""

from typing import Any

from edgekube.api.validation import names
from edgekube.api.validation.label_selector import label_selector
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_WEIGHT = "must be in the range 1-100"
_UNSATISFIABLE = ("DoNotSchedule", "ScheduleAnyway")


def placement(spec: Tree, path: str, problems: Problems) -> None:
    """Check a PodSpec's affinity and topologySpreadConstraints."""
    affinity = spec.get("affinity", {})
    if "nodeAffinity" in affinity:
        _node_affinity(affinity["nodeAffinity"], f"{path}.affinity.nodeAffinity", problems)
    for field in ("podAffinity", "podAntiAffinity"):
        if field in affinity:
            _pod_affinity(affinity[field], f"{path}.affinity.{field}", problems)
    _spread(spec.get("topologySpreadConstraints", ()), f"{path}.topologySpreadConstraints", problems)


def node_requirement(term: Tree, path: str, problems: Problems) -> None:
    """Check a NodeSelectorRequirement."""
    operator, values = term.get("operator", ""), term.get("values", ())
    if operator in ("In", "NotIn"):
        if not values:
            problems.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            problems.forbidden(
                f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            )
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            problems.required(
                f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'"
            )
    else:
        problems.invalid(f"{path}.operator", operator, "not a valid selector operator")
    problems.each(f"{path}.key", term.get("key", ""), names.qualified(term.get("key", "")))


def _node_affinity(affinity: Tree, path: str, problems: Problems) -> None:
    if _REQUIRED in affinity:
        terms = affinity[_REQUIRED].get("nodeSelectorTerms", ())
        here = f"{path}.{_REQUIRED}.nodeSelectorTerms"
        if not terms:
            problems.required(here, "must have at least one node selector term")
        for index, term in enumerate(terms):
            _node_term(term, f"{here}[{index}]", problems)
    for index, preferred in enumerate(affinity.get(_PREFERRED, ())):
        here = f"{path}.{_PREFERRED}[{index}]"
        _weight(preferred, here, problems)
        _node_term(preferred.get("preference", {}), f"{here}.preference", problems)


def _node_term(term: Tree, path: str, problems: Problems) -> None:
    for index, requirement in enumerate(term.get("matchExpressions", ())):
        node_requirement(requirement, f"{path}.matchExpressions[{index}]", problems)
    for index, requirement in enumerate(term.get("matchFields", ())):
        _node_field(requirement, f"{path}.matchFields[{index}]", problems)


def _node_field(requirement: Tree, path: str, problems: Problems) -> None:
    """Nodes are chosen by one field only, their name."""
    key, values = requirement.get("key", ""), requirement.get("values", ())
    if requirement.get("operator") not in ("In", "NotIn"):
        problems.invalid(f"{path}.operator", requirement.get("operator", ""), "not a valid selector operator")
    elif len(values) != 1:
        problems.required(
            f"{path}.values",
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        )
    if key != "metadata.name":
        problems.invalid(f"{path}.key", key, "not a valid field selector key")
        return
    for number, value in enumerate(values):
        problems.each(f"{path}.values[{number}]", value, names.subdomain(value))


def _pod_affinity(affinity: Tree, path: str, problems: Problems) -> None:
    for index, term in enumerate(affinity.get(_REQUIRED, ())):
        _pod_term(term, f"{path}.{_REQUIRED}[{index}]", problems)
    for index, preferred in enumerate(affinity.get(_PREFERRED, ())):
        here = f"{path}.{_PREFERRED}[{index}]"
        _weight(preferred, here, problems)
        _pod_term(preferred.get("podAffinityTerm", {}), f"{here}.podAffinityTerm", problems)


def _pod_term(term: Tree, path: str, problems: Problems) -> None:
    for field in ("labelSelector", "namespaceSelector"):
        if field in term:
            label_selector(term[field], f"{path}.{field}", problems)
    for index, namespace in enumerate(term.get("namespaces", ())):
        problems.each(f"{path}.namespaces[{index}]", namespace, names.label(namespace))
    _topology_key(term, path, problems)


def _topology_key(term: Tree, path: str, problems: Problems) -> None:
    key = term.get("topologyKey", "")
    if key:
        problems.each(f"{path}.topologyKey", key, names.qualified(key))
    else:
        problems.required(f"{path}.topologyKey", "can not be empty")


def _weight(preferred: Tree, path: str, problems: Problems) -> None:
    weight = preferred.get("weight", 0)
    if not 1 <= weight <= 100:
        problems.invalid(f"{path}.weight", weight, _WEIGHT)


def _spread(constraints: list[Tree], path: str, problems: Problems) -> None:
    seen = set()
    for index, constraint in enumerate(constraints):
        here = f"{path}[{index}]"
        if constraint.get("maxSkew", 0) <= 0:
            problems.invalid(f"{here}.maxSkew", constraint.get("maxSkew", 0), "must be greater than zero")
        _topology_key(constraint, here, problems)
        problems.one_of(constraint, "whenUnsatisfiable", here, supported=_UNSATISFIABLE)
        key = f"{{{constraint.get('topologyKey', '')}, {constraint.get('whenUnsatisfiable', '')}}}"
        if key in seen:
            problems.duplicate(f"{here}.{{topologyKey, whenUnsatisfiable}}", key)
        seen.add(key)
        if "labelSelector" in constraint:
            label_selector(constraint["labelSelector"], f"{here}.labelSelector", problems)
        _domains(constraint, here, problems)


def _domains(constraint: Tree, path: str, problems: Problems) -> None:
    least = constraint.get("minDomains")
    if least is not None and least <= 0:
        problems.invalid(f"{path}.minDomains", least, "must be greater than 0")
    if least is not None and constraint.get("whenUnsatisfiable") != "DoNotSchedule":
        problems.invalid(
            f"{path}.minDomains", least,
            f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {constraint.get('whenUnsatisfiable')}",
        )  # fmt: skip
    for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        if field in constraint:
            problems.one_of(constraint, field, path, supported=("Honor", "Ignore"))
    for index, key in enumerate(constraint.get("matchLabelKeys", ())):
        here = f"{path}.matchLabelKeys[{index}]"
        if "labelSelector" not in constraint:
            problems.forbidden(here, "must not be specified when labelSelector is not set")
        problems.each(here, key, names.qualified(key))
