"""
Which thresholds are met, for how long, and what the node says of it. Pure (kubelet's eviction_manager.go).

A threshold once met stays met until its minimum reclaim is free again; a condition stays true
until the pressure has been over for the transition period, so that it does not flap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgekube.node.eviction.settings import SIGNALS, Threshold

ORDER = {signal: number for number, signal in enumerate(SIGNALS)}
NEAR = 2
"""Times the threshold under which memory is looked at often: it can go within seconds."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What there is of a signal: bytes, inodes or processes."""

    available: int
    capacity: int


Observations = Mapping[str, Observation]


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered from one look to the next; times in seconds of one clock."""

    met: tuple[Threshold, ...] = ()
    """Those that call for action: met, and for longer than their grace period."""
    first: Mapping[Threshold, float] = field(default_factory=dict)
    """Since when each threshold has been met."""
    pressures: Mapping[str, float] = field(default_factory=dict)
    """Condition → when it was last seen."""

    @property
    def conditions(self) -> frozenset[str]:
        """The conditions that are true now."""
        return frozenset(self.pressures)


def is_met(threshold: Threshold, observations: Observations, *, reclaiming: bool = False) -> bool:
    """Tell whether too little is available; `reclaiming` asks for the minimum reclaim on top."""
    seen = observations.get(threshold.signal)
    if seen is None or seen.capacity <= 0:
        return False
    wanted = threshold.amount.of(seen.capacity)
    if reclaiming:
        wanted += threshold.reclaim.of(seen.capacity)
    return seen.available < wanted


def look(
    state: State, thresholds: Sequence[Threshold], observations: Observations, *, now: float, transition: float
) -> State:  # fmt: skip
    """Return the state after a look."""
    unresolved = {t for t in state.met if is_met(t, observations, reclaiming=True)}
    met = [t for t in thresholds if is_met(t, observations) or t in unresolved]
    first = {t: state.first.get(t, now) for t in met}
    pressures = {c: at for c, at in state.pressures.items() if now - at < transition}
    pressures.update({t.condition: now for t in met})
    due = [t for t in met if now - first[t] >= (t.grace or 0.0)]
    due.sort(key=lambda t: (ORDER[t.signal], t.grace is not None))
    return State(tuple(due), first, pressures)


def next_look(
    state: State, thresholds: Sequence[Threshold], observations: Observations, *, now: float, period: float
) -> float:  # fmt: skip
    """Return in how many seconds to look again: soon while memory is nearly short, else after `period`."""
    waits = [period]
    waits += [
        max(since + t.grace - now, 0.1) for t, since in state.first.items() if t.grace and t not in state.met
    ]
    for threshold in thresholds:
        seen = observations.get(threshold.signal)
        if seen is None or threshold.signal != "memory.available":
            continue
        if seen.available < NEAR * threshold.amount.of(seen.capacity):
            waits.append(period / 5)
    return min(waits)
