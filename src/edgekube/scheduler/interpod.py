"""Pod affinity and anti-affinity, as filter and as score (core/v1 PodAffinityTerm)."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from edgekube.api.types import core_v1, meta_v1
from edgekube.control.selectors import matches
from edgekube.scheduler.filters import GOOD, Check
from edgekube.scheduler.infos import NodeInfo, PodInfo, Snapshot

Term = core_v1.PodAffinityTerm
_AFFINITY = ("node(s) didn't match pod affinity rules",)
_ANTI = ("node(s) didn't match pod anti-affinity rules",)
_EXISTING = ("node(s) didn't satisfy existing pods anti-affinity rules",)


def inter_pod_affinity(pod: PodInfo, snapshot: Snapshot) -> Check | None:
    """Only nodes near the pods it must be near, and far from those that it or they must not be near."""
    affinity = pod.pod.spec.affinity
    near = affinity.pod_affinity if affinity else None
    wanted = near.required_during_scheduling_ignored_during_execution if near else ()
    existing = _domains_refusing(pod, snapshot)
    if not (wanted or pod.anti_affinity or existing):
        return None
    together = [(term.topology_key, _domains(term, pod, snapshot)) for term in wanted]
    # The first pod of a group that wants to be with itself may go anywhere.
    first = not any(domains for _, domains in together) and all(
        fits(term, pod, pod.key.namespace, pod, snapshot) for term in wanted
    )
    apart = [(term.topology_key, _domains(term, pod, snapshot)) for term in pod.anti_affinity]

    def check(node: NodeInfo) -> Sequence[str]:
        labels = node.labels
        for key, domains in together:
            if key not in labels or not (first or labels[key] in domains):
                return _AFFINITY
        if any(labels.get(key) in domains for key, domains in apart):
            return _ANTI
        return _EXISTING if any(labels.get(key) == value for key, value in existing) else GOOD

    return check


def preferred_pods(pod: PodInfo, snapshot: Snapshot) -> Callable[[NodeInfo], float] | None:
    """Prefer nodes by the weights of the preferred terms that hold there."""
    terms = list(_preferences(pod))
    if not terms:
        return None
    sums = [
        (term.topology_key, weight, _domains(term, pod, snapshot)) for weight, term in terms
    ]  # fmt: skip

    def score(node: NodeInfo) -> float:
        return sum(weight * domains[node.labels[key]] for key, weight, domains in sums if key in node.labels)

    return score


def fits(term: Term, other: PodInfo, home: str, mine: PodInfo, snapshot: Snapshot) -> bool:
    """Tell whether `other` is one of the pods a term of `mine` (in namespace `home`) means."""
    if not _namespace_fits(term, other.key.namespace, home, snapshot):
        return False
    return matches(_selector(term, mine), other.labels)


def _namespace_fits(term: Term, namespace: str, home: str, snapshot: Snapshot) -> bool:
    if not term.namespaces and term.namespace_selector is None:
        return namespace == home
    if namespace in term.namespaces:
        return True
    return matches(term.namespace_selector, snapshot.namespaces.get(namespace, {}))


def _selector(term: Term, mine: PodInfo) -> meta_v1.LabelSelector | None:
    """Add matchLabelKeys and mismatchLabelKeys, whose values come from the pod itself (KEP-3633)."""
    if term.label_selector is None or not (term.match_label_keys or term.mismatch_label_keys):
        return term.label_selector
    keys = [(key, "In") for key in term.match_label_keys] + [
        (key, "NotIn") for key in term.mismatch_label_keys
    ]
    extra = tuple(
        meta_v1.LabelSelectorRequirement(key=key, operator=operator, values=(mine.labels[key],))
        for key, operator in keys
        if key in mine.labels
    )
    return meta_v1.LabelSelector(
        match_labels=term.label_selector.match_labels,
        match_expressions=(*term.label_selector.match_expressions, *extra),
    )


def _domains(term: Term, pod: PodInfo, snapshot: Snapshot) -> Counter[str]:
    """Count the pods a term of `pod` means, by the topology value of their nodes."""
    selector, home = _selector(term, pod), pod.key.namespace
    counts: Counter[str] = Counter()
    for node in snapshot.nodes:
        domain = node.labels.get(term.topology_key)
        if domain is None:
            continue
        found = sum(
            1
            for other in node.pods.values()
            if matches(selector, other.labels) and _namespace_fits(term, other.key.namespace, home, snapshot)
        )
        if found:
            counts[domain] += found
    return counts


def _domains_refusing(pod: PodInfo, snapshot: Snapshot) -> set[tuple[str, str]]:
    """Return where pods that are there already do not want this one."""
    return {
        (term.topology_key, node.labels[term.topology_key])
        for node, other in snapshot.exclusive()
        for term in other.anti_affinity
        if term.topology_key in node.labels and fits(term, pod, other.key.namespace, other, snapshot)
    }


def _preferences(pod: PodInfo) -> Iterator[tuple[int, Term]]:
    affinity = pod.pod.spec.affinity
    if affinity is None:
        return
    if affinity.pod_affinity is not None:
        yield from _weighted(affinity.pod_affinity.preferred_during_scheduling_ignored_during_execution, 1)
    if affinity.pod_anti_affinity is not None:
        yield from _weighted(
            affinity.pod_anti_affinity.preferred_during_scheduling_ignored_during_execution, -1
        )


def _weighted(terms: Iterable[core_v1.WeightedPodAffinityTerm], sign: int) -> Iterator[tuple[int, Term]]:
    for weighted in terms:
        yield sign * weighted.weight, weighted.pod_affinity_term
