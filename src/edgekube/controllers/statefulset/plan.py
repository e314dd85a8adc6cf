"""
What a StatefulSet needs next (pkg/controller/statefulset in Kubernetes).

OrderedReady: one pod at a time, the next only when the one before is available. Parallel: all at
once. Updates go from the highest ordinal down to the partition, `maxUnavailable` at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgekube.api.intstr import scaled
from edgekube.api.types import apps_v1, core_v1
from edgekube.controllers.pods import ENDED, available_at, ready_since
from edgekube.controllers.revisions import LABEL
from edgekube.controllers.statefulset.pods import by_ordinal, start, wanted

PARALLEL, ON_DELETE = "Parallel", "OnDelete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A set, its pods, and the names of the two revisions that matter."""

    owner: apps_v1.StatefulSet
    pods: Sequence[core_v1.Pod]
    current: str
    update: str
    now: float


@dataclass(slots=True)
class Plan:
    """Ordinals to create with the revision to use, pods to delete, and when to look again (seconds)."""

    create: list[tuple[int, str]] = field(default_factory=list)
    delete: list[core_v1.Pod] = field(default_factory=list)
    again: float | None = None

    @property
    def busy(self) -> bool:
        """Whether pods come or go."""
        return bool(self.create or self.delete)


def plan(facts: Facts) -> Plan:
    """Decide the next step."""
    decided = Plan(again=_next_available(facts))
    if facts.owner.metadata.deletion_timestamp:
        return decided
    found = by_ordinal(facts.owner, facts.pods)
    first = start(facts.owner)
    replicas = range(first, first + wanted(facts.owner))
    one_by_one = facts.owner.spec.pod_management_policy != PARALLEL
    if _fill(facts, decided, replicas, found, one_by_one=one_by_one) and _shrink(
        facts,
        decided,
        [pod for ordinal, pod in found.items() if ordinal not in replicas],
        found,
        one_by_one=one_by_one,
    ):
        _roll(facts, decided, [found[ordinal] for ordinal in replicas if ordinal in found])
    return decided


def revision_of(pod: core_v1.Pod) -> str:
    """Return the name of the revision the pod was made after."""
    return pod.metadata.labels.get(LABEL, "")


def partition(owner: apps_v1.StatefulSet) -> int:
    """Return how many of the lowest ordinals keep their revision."""
    strategy = owner.spec.update_strategy
    rolling = strategy.rolling_update if strategy else None
    return (rolling.partition or 0) if rolling else 0


def available(facts: Facts, pod: core_v1.Pod) -> bool:
    """Whether the pod has been ready for minReadySeconds."""
    at = available_at(pod, facts.owner.spec.min_ready_seconds or 0)
    return at is not None and at <= facts.now and pod.status.phase == "Running"


def healthy(facts: Facts, pod: core_v1.Pod) -> bool:
    """Whether the pod is available and stays."""
    return available(facts, pod) and not pod.metadata.deletion_timestamp


def _fill(
    facts: Facts, decided: Plan, replicas: range, found: Mapping[int, core_v1.Pod], *, one_by_one: bool
) -> bool:
    """Create what is missing; return whether the next step may follow."""
    for ordinal in replicas:
        pod = found.get(ordinal)
        if pod is None:
            decided.create.append((ordinal, _revision_for(facts, ordinal - replicas.start)))
        elif pod.status.phase in ENDED and not pod.metadata.deletion_timestamp:
            decided.delete.append(pod)
        elif not one_by_one or healthy(facts, pod):
            continue
        if one_by_one:
            return False
    return True


def _revision_for(facts: Facts, index: int) -> str:
    strategy = facts.owner.spec.update_strategy
    rolls = strategy is None or strategy.type != ON_DELETE
    return facts.current if rolls and index < partition(facts.owner) else facts.update


def _shrink(
    facts: Facts,
    decided: Plan,
    condemned: Sequence[core_v1.Pod],
    found: Mapping[int, core_v1.Pod],
    *,
    one_by_one: bool,
) -> bool:
    """Delete what is too much, highest ordinal first; return whether the next step may follow."""
    staying = (pod for pod in found.values() if pod not in condemned)
    sick = next((pod for pod in (*staying, *reversed(condemned)) if not healthy(facts, pod)), None)
    for pod in reversed(condemned):
        if pod.metadata.deletion_timestamp:
            if one_by_one:
                return False
            continue
        if one_by_one and not available(facts, pod) and pod is not sick:
            # A pod that is not well waits for another that was not well before it.
            return False
        decided.delete.append(pod)
        if one_by_one:
            return False
    return not condemned


def _roll(facts: Facts, decided: Plan, pods: Sequence[core_v1.Pod]) -> None:
    """Delete pods of an older revision, so that they come again."""
    strategy = facts.owner.spec.update_strategy
    if strategy is not None and strategy.type == ON_DELETE:
        return
    rolling = strategy.rolling_update if strategy else None
    wish = rolling.max_unavailable if rolling else None
    allowed = max(1, scaled(1 if wish is None else wish, wanted(facts.owner), round_up=True))
    targets = list(reversed(pods[partition(facts.owner) :]))
    unavailable = sum(not healthy(facts, pod) for pod in pods) + wanted(facts.owner) - len(pods)
    for pod in targets:
        if pod.metadata.deletion_timestamp:
            continue
        if revision_of(pod) == facts.update:
            if not healthy(facts, pod) and allowed == 1:
                return
            continue
        if healthy(facts, pod):
            if unavailable >= allowed:
                return
            unavailable += 1
        elif unavailable > allowed:
            return
        decided.delete.append(pod)
        if allowed == 1:
            return


def _next_available(facts: Facts) -> float | None:
    patience = facts.owner.spec.min_ready_seconds or 0
    times = [available_at(pod, patience) for pod in facts.pods]
    return min((at - facts.now for at in times if at is not None and at > facts.now), default=None)


def status(facts: Facts, collisions: int) -> apps_v1.StatefulSetStatus:
    """Return the status; `collisions` counts revisions whose name was taken."""
    owner, pods = facts.owner, list(by_ordinal(facts.owner, facts.pods).values())
    old = owner.status or apps_v1.StatefulSetStatus(replicas=0)
    staying = [pod for pod in pods if not pod.metadata.deletion_timestamp]
    ready = [pod for pod in pods if ready_since(pod) is not None and pod.status.phase == "Running"]
    updated = sum(revision_of(pod) == facts.update for pod in staying)
    current = sum(revision_of(pod) == facts.current for pod in staying)
    goal, running = wanted(owner), facts.current
    strategy = owner.spec.update_strategy
    rolls = strategy is None or strategy.type != ON_DELETE
    if rolls and updated == len(ready) == len(pods) == goal:
        running, current = facts.update, updated
    return apps_v1.StatefulSetStatus(
        replicas=len(pods),
        ready_replicas=len(ready) or None,
        available_replicas=sum(available(facts, pod) for pod in pods),
        current_replicas=current or None,
        updated_replicas=updated or None,
        current_revision=running,
        update_revision=facts.update,
        collision_count=collisions,
        conditions=old.conditions,
        observed_generation=owner.metadata.generation,
    )
