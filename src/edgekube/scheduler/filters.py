"""
Filters: which nodes may run this pod.

A filter is a function of pod and snapshot that returns a check to be asked for every node, or
None when it has nothing to say about this pod. A check returns the reasons against the node, in
kube-scheduler's words. A filter that refuses all nodes at once returns a Refusal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgekube.api.types import core_v1
from edgekube.control.nodeaffinity import chosen, picks_nodes
from edgekube.control.taints import NO_EXECUTE, NO_SCHEDULE, UNSCHEDULABLE, tolerates, untolerated
from edgekube.scheduler.infos import NodeInfo, PodInfo, Snapshot

Check = Callable[[NodeInfo], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """No node at all will do, whatever is taken away (a PreFilter that refuses)."""

    reason: str


Filter = Callable[[PodInfo, Snapshot], Check | Refusal | None]
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
    return lambda node: GOOD if chosen(pod.pod.spec, node.name, node.labels) else why


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
