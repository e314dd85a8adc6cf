"""What an autoscaler decides (pkg/controller/podautoscaler/horizontal.go in Kubernetes)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from edgekube.api.types import autoscaling_v2 as v2
from edgekube.control.clock import stamp
from edgekube.controllers.autoscale.behavior import Decision, Moment, Rules, limited, rules_of, steady
from edgekube.controllers.autoscale.samples import NoMetric

ABLE, ACTIVE, LIMITED = "AbleToScale", "ScalingActive", "ScalingLimited"


@dataclass(frozen=True, slots=True)
class Memory:
    """What was advised and what was changed lately; lost with the process, as in Kubernetes."""

    advised: tuple[Moment, ...] = ()
    changes: tuple[Moment, ...] = ()

    def since(self, time: float) -> "Memory":
        """Forget what is older."""
        return Memory(
            tuple(m for m in self.advised if m.time > time), tuple(m for m in self.changes if m.time > time)
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric computed: how many pods it asks for, and what the status says of it."""

    replicas: int
    name: str
    status: v2.MetricStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`desired` pods (equal to the current number: nothing to do), the status, and what to remember."""

    desired: int
    status: v2.HorizontalPodAutoscalerStatus
    memory: Memory
    reason: str = ""
    """Why the number changes."""
    warning: tuple[str, str] | None = None
    """Reason and message of an Event."""


@dataclass(slots=True)
class _Conditions:
    """The conditions as they come out; a time changes only with the status."""

    old: Sequence[v2.HorizontalPodAutoscalerCondition]
    now: float
    found: dict[str, v2.HorizontalPodAutoscalerCondition] = field(default_factory=dict)

    def say(self, kind: str, status: str, reason: str, message: str) -> None:
        """Set one."""
        before = next((c for c in self.old if c.type == kind), None)
        since = before.last_transition_time if before and before.status == status else stamp(self.now)
        self.found[kind] = v2.HorizontalPodAutoscalerCondition(
            type=kind, status=status, reason=reason, message=message, last_transition_time=since
        )

    def all(self) -> tuple[v2.HorizontalPodAutoscalerCondition, ...]:
        """Return them, those not said kept."""
        kept = {c.type: c for c in self.old}
        return tuple((kept | self.found).values())


def failed(
    owner: v2.HorizontalPodAutoscaler, now: float, reason: str, message: str
) -> v2.HorizontalPodAutoscalerStatus:
    """Return the status when the target cannot be read."""
    old = owner.status or v2.HorizontalPodAutoscalerStatus(desired_replicas=0)
    says = _Conditions(old.conditions, now)
    says.say(ABLE, "False", reason, message)
    return msgspec.structs.replace(old, conditions=says.all(), observed_generation=owner.metadata.generation)


def plan(
    owner: v2.HorizontalPodAutoscaler,
    current: int,
    readings: Sequence[Reading | NoMetric],
    memory: Memory,
    now: float,
) -> Plan:
    """Decide; `current` is the target's spec.replicas."""
    old = owner.status or v2.HorizontalPodAutoscalerStatus(desired_replicas=0)
    low = 1 if owner.spec.min_replicas is None else owner.spec.min_replicas
    high, rules = owner.spec.max_replicas, rules_of(owner.spec.behavior)
    memory = memory.since(now - rules.memory)
    says = _Conditions(old.conditions, now)
    says.say(
        ABLE, "True", "SucceededGetScale", "the HPA controller was able to get the target's current scale"
    )
    good = [reading for reading in readings if isinstance(reading, Reading)]
    warning, reason = None, ""
    if current == 0 and low != 0:
        desired = 0
        says.say(
            ACTIVE,
            "False",
            "ScalingDisabled",
            "scaling is disabled since the replica count of the target is zero",
        )
    elif current > high:
        desired, reason = high, "Current number of replicas above Spec.MaxReplicas"
    elif current < low:
        desired, reason = low, "Current number of replicas below Spec.MinReplicas"
    else:
        wanted, reason, warning = _wanted(readings, good, current, says)
        desired = current
        if wanted is not None:
            desired, memory = _bounded(
                wanted, rules, memory, says, current=current, low=low, high=high, now=now
            )
    status = v2.HorizontalPodAutoscalerStatus(
        conditions=says.all(), current_metrics=tuple(r.status for r in good) or old.current_metrics,
        current_replicas=current, desired_replicas=desired, last_scale_time=old.last_scale_time,
        observed_generation=owner.metadata.generation,
    )  # fmt: skip
    return Plan(desired=desired, status=status, memory=memory, reason=reason, warning=warning)


def scaled(decided: Plan, current: int, now: float) -> Plan:
    """Return the plan after the target was changed."""
    says = _Conditions(decided.status.conditions, now)
    says.say(ABLE, "True", "SucceededRescale", f"the HPA controller was able to update the target scale to {decided.desired}")  # fmt: skip
    status = msgspec.structs.replace(
        decided.status, conditions=says.all(), last_scale_time=stamp(now), current_replicas=current
    )
    change = Moment(now, decided.desired - current)
    memory = Memory(decided.memory.advised, (*decided.memory.changes, change))
    return Plan(desired=decided.desired, status=status, memory=memory, reason=decided.reason)


def _wanted(
    readings: Sequence[Reading | NoMetric], good: Sequence[Reading], current: int, says: _Conditions
) -> tuple[int | None, str, tuple[str, str] | None]:
    """Return the most any metric asks for; a metric that is not known never lets the target shrink."""
    bad = [reading for reading in readings if isinstance(reading, NoMetric)]
    best = max(good, key=lambda reading: reading.replicas, default=None)
    if best is None or (bad and best.replicas < current):
        first = bad[0] if bad else NoMetric("no metrics", "InvalidMetrics")
        says.say(ACTIVE, "False", first.reason, f"the HPA was unable to compute the replica count: {first}")
        return None, "", ("FailedComputeMetricsReplicas", f"invalid metrics ({len(bad)} invalid out of {len(readings)}), first error is: {first}")  # fmt: skip
    says.say(ACTIVE, "True", "ValidMetricFound", f"the HPA was able to successfully calculate a replica count from {best.name}")  # fmt: skip
    reason = f"{best.name} above target" if best.replicas > current else "All metrics below target"
    return best.replicas, reason, None


def _bounded(
    wanted: int,
    rules: Rules,
    memory: Memory,
    says: _Conditions,
    *,
    current: int,
    low: int,
    high: int,
    now: float,
) -> tuple[int, Memory]:
    # The number found at the first look counts as advised, so that a new process does not shrink at once.
    advised = memory.advised or (Moment(now, current),)
    calm = steady(wanted, rules, advised, current=current, now=now)
    if calm.reason:
        says.say(ABLE, "True", calm.reason, calm.message)
    else:
        says.say(ABLE, "True", "ReadyForNewScale", "recommended size matches current size")
    final = limited(calm.pods, rules, memory.changes, current=current, low=low, high=high, now=now)
    final = _clipped(final, low, high)
    if final.reason:
        says.say(LIMITED, "True", final.reason, final.message)
    else:
        says.say(LIMITED, "False", "DesiredWithinRange", "the desired count is within the acceptable range")
    return final.pods, Memory((*advised, Moment(now, wanted)), memory.changes)


def _clipped(decision: Decision, low: int, high: int) -> Decision:
    return Decision(max(low, min(high, decision.pods)), decision.reason, decision.message)
