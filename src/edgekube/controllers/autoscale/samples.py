"""
How many pods a metric asks for (pkg/controller/podautoscaler/replica_calculator.go, KEP-853 for the tolerance).

Amounts are thousandths: millicores, thousandths of bytes. Pods that give no sample count against
the direction of the change: as idle when growing, as fully loaded when shrinking.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from edgekube.api import quantity
from edgekube.api.types import core_v1
from edgekube.control.clock import seconds
from edgekube.lib.errors import EdgekubeError

TOLERANCE = 0.1
STARTUP = 300.0
"""Seconds after its start in which a pod's CPU counts only if it was ready for the whole sample."""
FIRST_READINESS = 30.0
"""Seconds in which a pod that was never ready yet is still starting."""


class NoMetric(EdgekubeError):
    """A metric that cannot be computed; the message says why."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Sample:
    """One pod's usage by container (thousandths), over `window` seconds until `time` (Unix seconds)."""

    time: float
    window: float
    containers: Mapping[str, int]

    def of(self, container: str) -> int:
        """Return one container's amount, or all containers' for ""."""
        return self.containers.get(container, 0) if container else sum(self.containers.values())


@dataclass(frozen=True, slots=True)
class Groups:
    """Pod names by what can be said of them."""

    ready: frozenset[str]
    unready: frozenset[str]
    missing: frozenset[str]


@dataclass(frozen=True, slots=True)
class Proposal:
    """`replicas` wanted; `average` thousandths per pod now, `utilization` percent of the request (0: not asked)."""

    replicas: int
    average: int
    utilization: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a metric should be: percent of the requests, or thousandths per pod."""

    utilization: int | None = None
    average: int | None = None
    resource: str = ""
    container: str = ""
    up: float = TOLERANCE
    down: float = TOLERANCE

    def near(self, ratio: float) -> bool:
        """Tell whether the metric is close enough to change nothing."""
        return 1.0 - self.down <= ratio <= 1.0 + self.up


def propose(
    pods: Sequence[core_v1.Pod], samples: Mapping[str, Sample], target: Target, *, current: int, now: float
) -> Proposal:
    """Return what `target` asks for; raises NoMetric."""
    if not pods:
        raise NoMetric("no pods returned by selector while calculating replica count")
    groups = grouped(pods, samples, target.resource, now=now)
    used = {name: samples[name].of(target.container) for name in groups.ready}
    if not used:
        raise NoMetric("did not receive metrics for targeted pods (pods might be unready)")
    wishes = _wishes(pods, target)
    ratio = _ratio(used, wishes)
    average = sum(used.values()) // len(used)
    utilization = None
    if target.utilization is not None:
        utilization = int(ratio * target.utilization + 1e-9)
    replicas = _replicas(groups, used, wishes, target=target, current=current)
    return Proposal(replicas, average, utilization)


def _replicas(
    groups: Groups, used: Mapping[str, int], wishes: Mapping[str, int], *, target: Target, current: int
) -> int:
    ratio = _ratio(used, wishes)
    growing, starting = ratio > 1.0, bool(groups.unready) and ratio > 1.0
    if not starting and not groups.missing:
        return current if target.near(ratio) else ceiled(ratio * len(groups.ready))
    filled = dict(used)
    if ratio < 1.0:
        # Unknown pods count as using what they should, or their whole request when that is more.
        over = max(100, target.utilization or 100) / (target.utilization or 100)
        filled.update({name: int(wishes[name] * over) for name in groups.missing})
    elif growing:
        filled.update(dict.fromkeys(groups.missing, 0))
    if starting:
        filled.update(dict.fromkeys(groups.unready, 0))
    again = _ratio(filled, wishes)
    if target.near(again) or (ratio < 1.0 < again) or (again < 1.0 < ratio):
        return current
    wanted = ceiled(again * len(filled))
    turned = (again < 1.0 and wanted > current) or (again > 1.0 and wanted < current)
    return current if turned else wanted


def grouped(
    pods: Sequence[core_v1.Pod], samples: Mapping[str, Sample], resource: str, *, now: float
) -> Groups:
    """Sort pods; those on their way out or failed belong nowhere."""
    ready, unready, missing = set(), set(), set()
    for pod in pods:
        name = pod.metadata.name
        if pod.metadata.deletion_timestamp or pod.status.phase == "Failed":
            continue
        if pod.status.phase == "Pending":
            unready.add(name)
        elif (sample := samples.get(name)) is None:
            missing.add(name)
        elif resource == "cpu" and _starting(pod, sample, now):
            unready.add(name)
        else:
            ready.add(name)
    return Groups(frozenset(ready), frozenset(unready), frozenset(missing))


def _starting(pod: core_v1.Pod, sample: Sample, now: float) -> bool:
    """Tell whether its CPU says nothing yet, because it is still starting up."""
    condition = next((c for c in pod.status.conditions if c.type == "Ready"), None)
    started = seconds(pod.status.start_time)
    if condition is None or not started:
        return True
    changed, ready = seconds(condition.last_transition_time), condition.status != "False"
    if started + STARTUP > now:
        return not ready or sample.time < changed + sample.window
    return not ready and started + FIRST_READINESS > changed


def _wishes(pods: Sequence[core_v1.Pod], target: Target) -> dict[str, int]:
    """Return what each pod should use, in thousandths."""
    if target.average is not None:
        return {pod.metadata.name: target.average for pod in pods}
    share = (target.utilization or 0) / 100
    wishes = {}
    for pod in pods:
        requests = 0
        sidecars = [c for c in pod.spec.init_containers if c.restart_policy == "Always"]
        for container in (*pod.spec.containers, *sidecars):
            if target.container and container.name != target.container:
                continue
            asked = container.resources.requests.get(target.resource) if container.resources else None
            if asked is None:
                raise NoMetric(
                    f"missing request for {target.resource} in container {container.name} of Pod {pod.metadata.name}"
                )
            requests += quantity.milli(asked)
        wishes[pod.metadata.name] = int(requests * share)
    return wishes


def _ratio(used: Mapping[str, int], wishes: Mapping[str, int]) -> float:
    wished = sum(wishes[name] for name in used)
    if not wished:
        raise NoMetric("no metrics returned matched known pods")
    return sum(used.values()) / wished


def ceiled(number: float) -> int:
    """Round up."""
    # What is whole but for the rounding of floats stays whole.
    return ceil(number - 1e-9)
