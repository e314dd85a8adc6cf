"""Topology spread (KEP-895): as a filter for DoNotSchedule, as a score for ScheduleAnyway and by default."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from edgekube.api.types import core_v1, meta_v1
from edgekube.control.nodeaffinity import chosen
from edgekube.control.selectors import matches
from edgekube.control.taints import NO_EXECUTE, NO_SCHEDULE, untolerated
from edgekube.scheduler.filters import GOOD, Check
from edgekube.scheduler.infos import NodeInfo, PodInfo, Snapshot

Constraint = core_v1.TopologySpreadConstraint
_SKEW = ("node(s) didn't match pod topology spread constraints",)
_LABEL = ("node(s) didn't match pod topology spread constraints (missing required label)",)


def topology_spread(pod: PodInfo, snapshot: Snapshot) -> Check | None:
    """Only nodes that leave the pods spread evenly enough."""
    constraints = _of(pod, "DoNotSchedule")
    if not constraints:
        return None
    rules = [_rule(constraint, pod, snapshot) for constraint in constraints]

    def check(node: NodeInfo) -> Sequence[str]:
        for constraint, counts, floor, own in rules:
            domain = node.labels.get(constraint.topology_key)
            if domain is None:
                return _LABEL
            if counts.get(domain, 0) + own - floor > constraint.max_skew:
                return _SKEW
        return GOOD

    return check


def spread_score(pod: PodInfo, snapshot: Snapshot) -> Callable[[NodeInfo], float] | None:
    """Count the pods already there: the fewer the better."""
    soft = _of(pod, "ScheduleAnyway")
    if soft:
        counted = [(c.topology_key, _counts(c, pod, snapshot)) for c in soft]
        return lambda node: sum(counts.get(node.labels.get(key, ""), 0) for key, counts in counted)
    if pod.pod.spec.topology_spread_constraints or not pod.owner:
        return None
    return lambda node: node.owners.get(pod.owner, 0)


def _of(pod: PodInfo, action: str) -> list[Constraint]:
    return [c for c in pod.pod.spec.topology_spread_constraints if c.when_unsatisfiable == action]


def _rule(
    constraint: Constraint, pod: PodInfo, snapshot: Snapshot
) -> tuple[Constraint, Mapping[str, int], int, int]:
    counts = _counts(constraint, pod, snapshot)
    few = len(counts) < (constraint.min_domains or 1)
    floor = 0 if few else min(counts.values(), default=0)
    return constraint, counts, floor, int(matches(_selector(constraint, pod), pod.labels))


def _counts(constraint: Constraint, pod: PodInfo, snapshot: Snapshot) -> Mapping[str, int]:
    """Count matching pods per topology value, over the nodes that count; values without pods have 0."""
    selector = _selector(constraint, pod)
    counts: Counter[str] = Counter()
    for node in snapshot.nodes:
        domain = node.labels.get(constraint.topology_key)
        if domain is None or not _eligible(constraint, pod, node):
            continue
        counts[domain] += sum(
            1
            for other in node.pods.values()
            if other.key.namespace == pod.key.namespace
            and not other.pod.metadata.deletion_timestamp
            and matches(selector, other.labels)
        )
    return counts


def _selector(constraint: Constraint, pod: PodInfo) -> meta_v1.LabelSelector | None:
    selector = constraint.label_selector
    if selector is None or not constraint.match_label_keys:
        return selector
    extra = {key: pod.labels[key] for key in constraint.match_label_keys if key in pod.labels}
    return meta_v1.LabelSelector(
        match_labels={**selector.match_labels, **extra}, match_expressions=selector.match_expressions
    )


def _eligible(constraint: Constraint, pod: PodInfo, node: NodeInfo) -> bool:
    spec = pod.pod.spec
    if constraint.node_affinity_policy != "Ignore" and not chosen(spec, node.name, node.labels):
        return False
    if constraint.node_taints_policy != "Honor":
        return True
    return untolerated(node.node.spec.taints, spec.tolerations, (NO_SCHEDULE, NO_EXECUTE)) is None
