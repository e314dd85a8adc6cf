"""What a PodDisruptionBudget allows, as a pure decision (pkg/controller/disruption in Kubernetes)."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgekube.api.intstr import scaled
from edgekube.api.types import core_v1, meta_v1, policy_v1
from edgekube.control.clock import seconds, stamp
from edgekube.controllers.pods import ready_since

DELETION_TIMEOUT = 120.0
"""Seconds after which a pod that was to be evicted and is still there counts again."""
ALLOWED = "DisruptionAllowed"


@dataclass(frozen=True, slots=True)
class Goal:
    """How many pods there should be, and how many of them healthy."""

    expected: int
    desired: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The status to write; pods that were not `deleted` in time; seconds to look `again`."""

    status: policy_v1.PodDisruptionBudgetStatus
    late: tuple[core_v1.Pod, ...]
    again: float | None


def needs_scale(spec: policy_v1.PodDisruptionBudgetSpec) -> bool:
    """Whether the goal depends on how many pods the owners want."""
    return spec.max_unavailable is not None or isinstance(spec.min_available, str)


def goal(spec: policy_v1.PodDisruptionBudgetSpec, *, pods: int, scale: int) -> Goal:
    """Return the goal for `pods` there are and `scale` that the owners want."""
    if spec.max_unavailable is not None:
        return Goal(scale, max(scale - scaled(spec.max_unavailable, scale, round_up=True), 0))
    if isinstance(spec.min_available, str):
        return Goal(scale, scaled(spec.min_available, scale, round_up=True))
    return Goal(pods, spec.min_available) if spec.min_available is not None else Goal(0, 0)


def plan(
    budget: policy_v1.PodDisruptionBudget, pods: Sequence[core_v1.Pod], aim: Goal, *, now: float
) -> Plan:
    """Count, and forget evictions that did not happen."""
    pending, late, waits = _disrupted(budget, pods, now)
    healthy = sum(
        1
        for pod in pods
        if not pod.metadata.deletion_timestamp
        and pod.metadata.name not in pending
        and ready_since(pod) is not None
    )
    allowed = max(healthy - aim.desired, 0) if aim.expected > 0 else 0
    status = policy_v1.PodDisruptionBudgetStatus(
        current_healthy=healthy,
        desired_healthy=aim.desired,
        expected_pods=aim.expected,
        disruptions_allowed=allowed,
        disrupted_pods=pending,
        observed_generation=budget.metadata.generation,
        conditions=_conditions(budget, allowed, now),
    )
    return Plan(status, late, min(waits, default=None))


def unknown(
    budget: policy_v1.PodDisruptionBudget, why: str, *, now: float
) -> policy_v1.PodDisruptionBudgetStatus:
    """Return the status when nothing can be said: nobody may be evicted."""
    old = budget.status
    condition = _condition(budget, "False", "SyncFailed", message=why, now=now)
    return policy_v1.PodDisruptionBudgetStatus(
        current_healthy=old.current_healthy,
        desired_healthy=old.desired_healthy,
        expected_pods=old.expected_pods,
        disruptions_allowed=0,
        disrupted_pods=old.disrupted_pods,
        observed_generation=budget.metadata.generation,
        conditions=(*(c for c in old.conditions if c.type != ALLOWED), condition),
    )


def _disrupted(
    budget: policy_v1.PodDisruptionBudget, pods: Sequence[core_v1.Pod], now: float
) -> tuple[dict[str, str], tuple[core_v1.Pod, ...], list[float]]:
    pending: dict[str, str] = {}
    late, waits = [], []
    for pod in pods:
        evicted = budget.status.disrupted_pods.get(pod.metadata.name)
        if evicted is None or pod.metadata.deletion_timestamp:
            continue
        left = seconds(evicted) + DELETION_TIMEOUT - now
        if left <= 0:
            late.append(pod)
        else:
            pending[pod.metadata.name] = evicted
            waits.append(left)
    return pending, tuple(late), waits


def _conditions(
    budget: policy_v1.PodDisruptionBudget, allowed: int, now: float
) -> tuple[meta_v1.Condition, ...]:
    status, reason = ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
    others = [c for c in budget.status.conditions if c.type != ALLOWED]
    return (*others, _condition(budget, status, reason, message="", now=now))


def _condition(
    budget: policy_v1.PodDisruptionBudget, status: str, reason: str, *, message: str, now: float
) -> meta_v1.Condition:
    before = next((c for c in budget.status.conditions if c.type == ALLOWED), None)
    same = before is not None and before.status == status
    since = before.last_transition_time if before is not None and same else stamp(now)
    return meta_v1.Condition(
        type=ALLOWED, status=status, reason=reason, message=message, last_transition_time=since,
        observed_generation=budget.metadata.generation,
    )  # fmt: skip
