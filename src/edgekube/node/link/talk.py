"""Events of this node: repeats are counted, and who talks too much is slowed down."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from edgekube.control.mirror import NodeEvent
from edgekube.node.clock import stamp
from edgekube.transport.wire import EventReport

WINDOW = 600.0
"""Seconds after which the same event is a new one."""
PAUSE = 10.0
"""Seconds between two reports of the same event."""
BURST = 25.0
REFILL = 1 / 30.0
"""Events a second about one object, after BURST of them."""
MEMORY = 512


@dataclass(slots=True)
class _Known:
    count: int
    first: float
    last: float
    told: float
    """When it was last reported, or will be."""


@dataclass(slots=True)
class Talk:
    """Counts and limits; pure but for the clock."""

    clock: Callable[[], float]
    dropped: int = 0
    _known: OrderedDict[NodeEvent, _Known] = field(default_factory=OrderedDict)
    _buckets: OrderedDict[tuple[str, str], tuple[float, float]] = field(default_factory=OrderedDict)

    def hear(self, event: NodeEvent) -> tuple[EventReport, float] | None:
        """Return what to report and in how many seconds; None when it is too much."""
        now = self.clock()
        known = self._known.get(event)
        if known is None or now - known.last > WINDOW:
            if not self._allowed(event, now):
                self.dropped += 1
                return None
            known = self._known[event] = _Known(0, now, now, now - PAUSE)
        known.count, known.last = known.count + 1, now
        if known.told <= now:
            known.told = max(now, known.told + PAUSE)
        self._known.move_to_end(event)
        while len(self._known) > MEMORY:
            self._known.popitem(last=False)
        return _report(event, known), known.told - now

    def _allowed(self, event: NodeEvent, now: float) -> bool:
        owner = (event.path, event.uid or str(event.key))
        left, since = self._buckets.get(owner, (BURST, now))
        left = min(BURST, left + (now - since) * REFILL)
        self._buckets[owner] = (left - 1 if left >= 1 else left, now)
        self._buckets.move_to_end(owner)
        while len(self._buckets) > MEMORY:
            self._buckets.popitem(last=False)
        return left >= 1


def _report(event: NodeEvent, known: _Known) -> EventReport:
    return EventReport(
        event.path, event.key.namespace, event.key.name, event.uid, event.field_path, event.type,
        event.reason, event.message, known.count, stamp(known.first), stamp(known.last),
    )  # fmt: skip
