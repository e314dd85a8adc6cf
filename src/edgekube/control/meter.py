"""What a work queue tells of itself: Kubernetes' workqueue_* metrics, at a fraction of a microsecond a key."""

from bisect import bisect_left
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

BUCKETS = tuple(10.0**power for power in range(-8, 2))
"""Upper bounds, seconds."""


@dataclass(slots=True)
class Histogram:
    """Durations in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    seconds: float = 0.0

    def note(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds


@dataclass(slots=True)
class Meter:
    """The numbers of one queue; times are seconds of any steady clock."""

    adds: int = 0
    retries: int = 0
    """Keys asked for after a delay."""
    waits: Histogram = field(default_factory=Histogram)
    """Between asking for a key and taking it."""
    works: Histogram = field(default_factory=Histogram)
    """Between taking a key and giving it back."""
    queued: dict[Any, float] = field(default_factory=dict)
    taken: dict[Any, float] = field(default_factory=dict)

    def added(self, key: Hashable, now: float) -> None:
        """Note that a key waits from now on."""
        self.adds += 1
        self.queued[key] = now

    def began(self, key: Hashable, now: float) -> None:
        """Note that a key is worked on from now on."""
        self.waits.note(now - self.queued.pop(key, now))
        self.taken[key] = now

    def ended(self, key: Hashable, now: float) -> None:
        """Note that it was given back."""
        self.works.note(now - self.taken.pop(key, now))


def text(meters: Iterable[tuple[str, int, Meter]], now: float) -> Iterator[str]:
    """Yield the metrics of queues (name, depth, meter) in Prometheus' text format."""
    every = [(f'name="{name}"', depth, meter) for name, depth, meter in meters]
    for name, kind, value in (
        ("adds_total", "counter", lambda _, meter: meter.adds),
        ("retries_total", "counter", lambda _, meter: meter.retries),
        ("depth", "gauge", lambda depth, _: depth),
        ("unfinished_work_seconds", "gauge", lambda _, meter: sum(now - one for one in meter.taken.values())),
        (
            "longest_running_processor_seconds",
            "gauge",
            lambda _, meter: max((now - one for one in meter.taken.values()), default=0),
        ),
    ):
        yield f"# TYPE workqueue_{name} {kind}"
        for labels, depth, meter in every:
            yield f"workqueue_{name}{{{labels}}} {value(depth, meter):.6g}"
    for name in ("queue", "work"):
        yield f"# TYPE workqueue_{name}_duration_seconds histogram"
        for labels, _, meter in every:
            found = meter.waits if name == "queue" else meter.works
            yield from _histogram(f"workqueue_{name}_duration_seconds", labels, found)


def _histogram(name: str, labels: str, found: Histogram) -> Iterator[str]:
    total = 0
    for bound, number in zip((*(f"{one:g}" for one in BUCKETS), "+Inf"), found.counts, strict=True):
        total += number
        yield f'{name}_bucket{{{labels},le="{bound}"}} {total}'
    yield f"{name}_sum{{{labels}}} {found.seconds:.6f}"
    yield f"{name}_count{{{labels}}} {total}"
