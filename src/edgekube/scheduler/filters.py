"""
Filters: which nodes may run this pod.

A filter is a function of pod and snapshot that returns a check to be asked for every node, or
None when it has nothing to say about this pod. A check returns the reasons against the node, in
kube-scheduler's words.
"""

from collections.abc import Callable, Sequence

from edgekube.api.types import core_v1
from edgekube.control.taints import NO_EXECUTE, NO_SCHEDULE, UNSCHEDULABLE, tolerates, untolerated
from edgekube.scheduler.infos import NodeInfo, PodInfo, Snapshot

Check = Callable[[NodeInfo], Sequence[str]]
Filter = Callable[[PodInfo, Snapshot], Check | None]
GOOD: Sequence[str] = ()


def node_unschedulable(pod: PodInfo, _: Snapshot) -> Check | None:
    """Keep off cordoned nodes."""
    taint = core_v1.Taint(key=UNSCHEDULABLE, effect=NO_SCHEDULE)
    if any(tolerates(toleration, taint) for toleration in pod.pod.spec.tolerations):
        return None
    return lambda node: ("node(s) were unschedulable",) if node.node.spec.unschedulable else GOOD


def node_name(pod: PodInfo, _: Snapshot) -> Check | None:
    """Only the node asked for by name."""
    wanted = pod.pod.spec.node_name
    if not wanted:
        return None
    return lambda node: GOOD if node.name == wanted else ("node(s) didn't match the requested node name",)


def taint_toleration(pod: PodInfo, _: Snapshot) -> Check:
    """Keep off nodes with taints the pod does not tolerate."""
    tolerations = pod.pod.spec.tolerations

    def check(node: NodeInfo) -> Sequence[str]:
        taints = node.node.spec.taints
        if not taints:
            return GOOD
        taint = untolerated(taints, tolerations, (NO_SCHEDULE, NO_EXECUTE))
        return GOOD if taint is None else (f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}",)

    return check


def node_affinity(pod: PodInfo, _: Snapshot) -> Check | None:
    """Only nodes the nodeSelector and the required node affinity choose."""
    if not picks_nodes(pod.pod.spec):
        return None
    why = ("node(s) didn't match Pod's node affinity/selector",)
    return lambda node: GOOD if chosen(pod.pod.spec, node) else why


def node_ports(pod: PodInfo, _: Snapshot) -> Check | None:
    """Only nodes whose host ports are free."""
    if not pod.ports:
        return None
    why = ("node(s) didn't have free ports for the requested pod ports",)
    return lambda node: why if any(node.port_taken(port) for port in pod.ports) else GOOD


def resources_fit(pod: PodInfo, _: Snapshot) -> Check:
    """Only nodes with enough left of everything."""
    needs = [(name, amount) for name, amount in pod.requests.items() if amount]

    def check(node: NodeInfo) -> Sequence[str]:
        reasons = []
        if len(node.pods) + 1 > node.allocatable.get("pods", 0):
            reasons.append("Too many pods")
        for name, amount in needs:
            if amount > node.allocatable.get(name, 0) - node.requested.get(name, 0):
                reasons.append(f"Insufficient {name}")
        return reasons

    return check


def picks_nodes(spec: core_v1.PodSpec) -> bool:
    """Tell whether the pod chooses nodes by label or field."""
    return bool(spec.node_selector) or _required(spec) is not None


def chosen(spec: core_v1.PodSpec, node: NodeInfo) -> bool:
    """Tell whether nodeSelector and required node affinity allow `node`."""
    labels = node.labels
    if any(labels.get(key) != wanted for key, wanted in spec.node_selector.items()):
        return False
    required = _required(spec)
    return required is None or any(term_fits(term, node) for term in required.node_selector_terms)


def term_fits(term: core_v1.NodeSelectorTerm, node: NodeInfo) -> bool:
    """Tell whether all requirements of a term hold; an empty term fits nothing."""
    if not (term.match_expressions or term.match_fields):
        return False
    return all(_holds(want, node.labels.get(want.key)) for want in term.match_expressions) and all(
        _holds(want, node.name if want.key == "metadata.name" else None) for want in term.match_fields
    )


def _required(spec: core_v1.PodSpec) -> core_v1.NodeSelector | None:
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
