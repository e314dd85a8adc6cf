"""
Scores: which of the nodes that will do is best.

A score is a function of pod and snapshot that returns a measure of a node, or None when it has
nothing to say. Measures are either 0…100 already or normalised over the nodes afterwards.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from edgekube.control.nodeaffinity import term_fits
from edgekube.control.taints import PREFER_NO_SCHEDULE, tolerates
from edgekube.scheduler.infos import NodeInfo, PodInfo, Snapshot

Measure = Callable[[NodeInfo], float]
Score = Callable[[PodInfo, Snapshot], Measure | None]
BEST = 100.0
_MIB = 1024**2
_SMALL, _LARGE = 23 * _MIB, 1000 * _MIB
"""Bytes of images below and above which more makes no difference (kube-scheduler's figures)."""

UNWELL: Mapping[str, float] = MappingProxyType({
    "UnderVoltage": 60.0, "Throttled": 40.0, "HighTemperature": 30.0, "MemoryPressure": 60.0, "DiskPressure": 60.0,
    "PIDPressure": 60.0, "FlashWorn": 50.0,
})  # fmt: skip
"""Node conditions and what each takes off a board's health."""


def least_allocated(pod: PodInfo, _: Snapshot) -> Measure:
    """Prefer nodes with much CPU and memory left."""
    cpu, memory = pod.weight

    def measure(node: NodeInfo) -> float:
        return (_left(node, "cpu", node.weight[0] + cpu) + _left(node, "memory", node.weight[1] + memory)) / 2

    return measure


def balanced_allocation(pod: PodInfo, _: Snapshot) -> Measure:
    """Prefer nodes whose CPU and memory would be used to the same degree."""
    cpu, memory = pod.weight

    def measure(node: NodeInfo) -> float:
        used = (
            BEST - _left(node, "cpu", node.weight[0] + cpu),
            BEST - _left(node, "memory", node.weight[1] + memory),
        )
        return BEST - abs(used[0] - used[1]) / 2

    return measure


def tolerated_taints(pod: PodInfo, _: Snapshot) -> Measure:
    """Count PreferNoSchedule taints the pod does not tolerate."""
    tolerations = pod.pod.spec.tolerations

    def measure(node: NodeInfo) -> float:
        return sum(
            taint.effect == PREFER_NO_SCHEDULE and not any(tolerates(t, taint) for t in tolerations)
            for taint in node.node.spec.taints
        )

    return measure


def preferred_nodes(pod: PodInfo, _: Snapshot) -> Measure | None:
    """Add up the weights of the preferred node affinity terms that hold."""
    affinity = pod.pod.spec.affinity.node_affinity if pod.pod.spec.affinity else None
    terms = affinity.preferred_during_scheduling_ignored_during_execution if affinity else ()
    if not terms:
        return None
    return lambda node: sum(
        term.weight for term in terms if term_fits(term.preference, node.name, node.labels)
    )


def image_locality(pod: PodInfo, snapshot: Snapshot) -> Measure | None:
    """Prefer nodes that have the images already: a pull over a slow link is the longest part of a start."""
    names = [_full(container.image) for container in pod.pod.spec.containers]
    total = max(len(snapshot.nodes), 1)
    spread = {name: count / total for name in names if (count := snapshot.images.get(name))}
    if not spread:
        return None
    floor, ceiling = _SMALL, _LARGE * max(len(names), 1)

    def measure(node: NodeInfo) -> float:
        size = sum(node.images.get(name, 0) * share for name, share in spread.items())
        return BEST * (min(max(size, floor), ceiling) - floor) / (ceiling - floor)

    return measure


def board_health(_pod: PodInfo, _: Snapshot) -> Measure:
    """Keep off boards that are hot, throttled or short of current while others are well."""

    def measure(node: NodeInfo) -> float:
        bad = sum(UNWELL.get(c.type, 0.0) for c in node.node.status.conditions if c.status == "True")
        return max(0.0, BEST - bad)

    return measure


def _left(node: NodeInfo, resource: str, used: int) -> float:
    capacity = node.allocatable.get(resource, 0)
    return BEST * (capacity - used) / capacity if 0 < used <= capacity else 0.0


def _full(image: str) -> str:
    """Return the image name with the tag that is meant when none is written."""
    return image if "@" in image or ":" in image.rsplit("/", 1)[-1] else f"{image}:latest"
