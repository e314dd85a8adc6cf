"""What a DaemonSet needs next (pkg/controller/daemon in Kubernetes)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgekube.api.intstr import scaled
from edgekube.api.types import apps_v1, core_v1
from edgekube.control.clock import seconds
from edgekube.controllers.daemonset.nodes import Fit, fit, node_of
from edgekube.controllers.pods import ENDED, available_at, ready_since
from edgekube.controllers.revisions import LABEL

ON_DELETE = "OnDelete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A set, the nodes there are, its pods, and the hash of the template of now."""

    owner: apps_v1.DaemonSet
    nodes: Sequence[core_v1.Node]
    pods: Sequence[core_v1.Pod]
    hash: str
    now: float


@dataclass(slots=True)
class Plan:
    """Nodes that get a pod, pods to delete, failed pods to replace with patience, when to look again."""

    create: list[str] = field(default_factory=list)
    delete: list[core_v1.Pod] = field(default_factory=list)
    failed: list[core_v1.Pod] = field(default_factory=list)
    again: float | None = None

    @property
    def busy(self) -> bool:
        """Whether pods come or go."""
        return bool(self.create or self.delete or self.failed)


@dataclass(frozen=True, slots=True)
class _Site:
    """A node as the set sees it."""

    name: str
    fit: Fit
    pods: tuple[core_v1.Pod, ...]


def plan(facts: Facts) -> Plan:
    """Decide the next step."""
    decided = Plan(again=_next_available(facts))
    if facts.owner.metadata.deletion_timestamp:
        return decided
    sites = _sites(facts)
    for site in sites:
        _manage(facts, decided, site)
    known = {site.name for site in sites}
    lost = [pod for pod in facts.pods if node_of(pod) not in known and not pod.metadata.deletion_timestamp]
    # Bound pods of a node that went are the pod collector's.
    decided.delete += [pod for pod in lost if not pod.spec.node_name]
    strategy = facts.owner.spec.update_strategy
    if not decided.busy and (strategy is None or strategy.type != ON_DELETE):
        _roll(facts, decided, sites)
    return decided


def current(facts: Facts, pod: core_v1.Pod) -> bool:
    """Whether the pod is of the template of now."""
    return pod.metadata.labels.get(LABEL) == facts.hash


def available(facts: Facts, pod: core_v1.Pod) -> bool:
    """Whether the pod has been ready for minReadySeconds and stays."""
    at = available_at(pod, facts.owner.spec.min_ready_seconds or 0)
    return at is not None and at <= facts.now and not pod.metadata.deletion_timestamp


def _sites(facts: Facts) -> list[_Site]:
    by_node: dict[str, list[core_v1.Pod]] = defaultdict(list)
    for pod in facts.pods:
        by_node[node_of(pod)].append(pod)
    return [
        _Site(node.metadata.name, fit(facts.owner, node), tuple(by_node.get(node.metadata.name, ())))
        for node in facts.nodes
    ]


def _manage(facts: Facts, decided: Plan, site: _Site) -> None:
    """Create the missing pod of a node, delete those too many."""
    going = [pod for pod in site.pods if pod.metadata.deletion_timestamp]
    failed = [pod for pod in site.pods if pod.status.phase in ENDED and pod not in going]
    running = [pod for pod in site.pods if pod not in going and pod not in failed]
    if not site.fit.stay:
        decided.delete += [*running, *failed]
        return
    if not site.pods:
        if site.fit.run:
            decided.create.append(site.name)
        return
    decided.failed += failed
    if len(running) > 1:
        decided.delete += _too_many(facts, running)


def _too_many(facts: Facts, running: Sequence[core_v1.Pod]) -> Sequence[core_v1.Pod]:
    """Return all but one: while surging an old one may stay until the new one is available."""
    by_age = sorted(
        running, key=lambda pod: (not pod.spec.node_name, seconds(pod.metadata.creation_timestamp))
    )
    new = [pod for pod in by_age if current(facts, pod)]
    old = [pod for pod in by_age if not current(facts, pod)]
    if not (_surge(facts, len(facts.nodes)) and new and old):
        return by_age[1:]
    if available(facts, new[0]) or not available(facts, old[0]):
        return [*new[1:], *old]
    return [*new[1:], *old[1:]]


def _roll(facts: Facts, decided: Plan, sites: Sequence[_Site]) -> None:
    """Replace pods of older templates, as availability allows."""
    active = [site for site in sites if site.fit.run]
    surge, fewer = _surge(facts, len(active)), _unavailable(facts, len(active))
    old = [(site, pod) for site in active for pod in _staying(site) if not current(facts, pod)]
    if surge:
        surging = sum(len(_staying(site)) > 1 for site in active)
        alone = [site for site, pod in old if len(_staying(site)) == 1 and available(facts, pod)]
        decided.delete += [pod for site, pod in old if len(_staying(site)) == 1 and not available(facts, pod)]
        decided.create += [site.name for site in alone[: max(0, surge - surging)]]
        return
    missing = sum(not any(available(facts, pod) for pod in site.pods) for site in active)
    broken = [pod for _, pod in old if not available(facts, pod)]
    working = [pod for _, pod in old if available(facts, pod)]
    # What does not work anyway costs nothing.
    decided.delete += [*broken, *working[: max(0, fewer - missing)]]


def _staying(site: _Site) -> list[core_v1.Pod]:
    return [pod for pod in site.pods if not pod.metadata.deletion_timestamp]


def _surge(facts: Facts, nodes: int) -> int:
    rolling = _rolling(facts)
    return scaled(rolling.max_surge or 0, nodes, round_up=True)


def _unavailable(facts: Facts, nodes: int) -> int:
    wish = _rolling(facts).max_unavailable
    return scaled(1 if wish is None else wish, nodes, round_up=True)


def _rolling(facts: Facts) -> apps_v1.RollingUpdateDaemonSet:
    strategy = facts.owner.spec.update_strategy
    return (strategy and strategy.rolling_update) or apps_v1.RollingUpdateDaemonSet()


def _next_available(facts: Facts) -> float | None:
    patience = facts.owner.spec.min_ready_seconds or 0
    times = [available_at(pod, patience) for pod in facts.pods]
    return min((at - facts.now for at in times if at is not None and at > facts.now), default=None)


def status(facts: Facts, collisions: int) -> apps_v1.DaemonSetStatus:
    """Count the nodes; `collisions` counts revisions whose name was taken."""
    old = facts.owner.status or _NONE
    counts: Mapping[str, int] = _counts(facts)
    return apps_v1.DaemonSetStatus(
        current_number_scheduled=counts["current"],
        desired_number_scheduled=counts["desired"],
        number_misscheduled=counts["misplaced"],
        number_ready=counts["ready"],
        updated_number_scheduled=counts["updated"] or None,
        number_available=counts["available"] or None,
        number_unavailable=counts["desired"] - counts["available"] or None,
        collision_count=collisions or old.collision_count,
        conditions=old.conditions,
        observed_generation=facts.owner.metadata.generation,
    )


_NONE = apps_v1.DaemonSetStatus(
    current_number_scheduled=0, desired_number_scheduled=0, number_misscheduled=0, number_ready=0
)


def _counts(facts: Facts) -> dict[str, int]:
    counts = dict.fromkeys(("current", "desired", "misplaced", "ready", "updated", "available"), 0)
    for site in _sites(facts):
        if not site.fit.run:
            counts["misplaced"] += bool(site.pods)
            continue
        counts["desired"] += 1
        if not site.pods:
            continue
        counts["current"] += 1
        newest = max(site.pods, key=lambda pod: seconds(pod.metadata.creation_timestamp))
        ready = [pod for pod in site.pods if ready_since(pod) is not None]
        counts["ready"] += bool(ready)
        counts["available"] += any(available(facts, pod) for pod in ready)
        counts["updated"] += current(facts, newest)
    return counts
