"""
Telling people what happened: core/v1 Events.

A Recorder never blocks and never fails: what it is told waits in a bounded queue, the same event
again raises a count (client-go's EventCorrelator), many like it are combined, and an object that
talks too much is cut off (burst 25, then one in five minutes).
"""

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from edgekube.api.errors import NotFound, StatusError
from edgekube.api.kinds import core_v1 as kinds
from edgekube.api.resource import Key, Object
from edgekube.api.types import core_v1, meta_v1
from edgekube.client.base import Unreachable
from edgekube.client.typed import Client
from edgekube.control.clock import Clock, stamp

K = TypeVar("K")
V = TypeVar("V")

log = logging.getLogger(__name__)

QUEUE = 1000
MEMORY = 4096
WINDOW = 600.0
"""Seconds after which the same event is a new one."""
SIMILAR = 10
"""Different messages of one kind about one object before they are combined."""
BURST = 25
REFILL = 300.0
NORMAL, WARNING = "Normal", "Warning"


class Described(Object, Protocol):
    """A typed object that knows its kind."""

    @property
    def api_version(self) -> str:
        """Its apiVersion."""
        ...

    @property
    def kind(self) -> str:
        """Its kind."""
        ...


@dataclass(frozen=True, slots=True)
class Said:
    """One event as told; equal ones are counted together."""

    about: core_v1.ObjectReference
    component: str
    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class _Known:
    key: Key
    count: int
    first: float
    last: float


class EventSink:
    """Writes what its recorders say; run `run`."""

    name = "events"

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._pending: OrderedDict[Said, int] = OrderedDict()
        self._known: OrderedDict[Said, _Known] = OrderedDict()
        self._similar: OrderedDict[Said, tuple[float, set[str]]] = OrderedDict()
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        self._wake = asyncio.Event()
        self._serial = 0
        self.dropped = 0

    def recorder(self, component: str) -> "Recorder":
        """Return a recorder that speaks as `component`."""
        return Recorder(self, component)

    def say(self, said: Said) -> None:
        """Queue one event; over the limits it is counted in `dropped` and forgotten."""
        if said not in self._pending and (len(self._pending) >= QUEUE or not self._allowed(said)):
            self.dropped += 1
            return
        self._pending[said] = self._pending.get(said, 0) + 1
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            while not self._pending:
                self._wake.clear()
                await self._wake.wait()
            said, times = self._pending.popitem(last=False)
            try:
                await self._write(self._combined(said), times)
            except (StatusError, Unreachable) as error:
                # An event is not worth a retry; e.g. its namespace is being deleted.
                log.info("event %s %s lost: %s", said.reason, said.about.name, error)

    async def _write(self, said: Said, times: int) -> None:
        now = self._clock()
        known = self._known.get(said)
        if known is not None and now - known.last < WINDOW:
            count = known.count + times
            patch = {"count": count, "lastTimestamp": stamp(now)}
            try:
                await self._client.patch(kinds.EVENTS, known.key, patch)
            except NotFound:
                pass
            else:
                self._remember(said, replace(known, count=count, last=now))
                return
        self._serial += 1
        event = _event(said, now, times, serial=self._serial)
        await self._client.create(kinds.EVENTS, event)
        key = Key(event.metadata.namespace, event.metadata.name)
        self._remember(said, _Known(key, times, now, now))

    def _remember(self, said: Said, known: _Known) -> None:
        self._known[said] = known
        self._known.move_to_end(said)
        _trim(self._known)

    def _combined(self, said: Said) -> Said:
        now, group = self._clock(), replace(said, message="")
        since, messages = self._similar.get(group, (now, set()))
        if now - since > WINDOW:
            since, messages = now, set()
        self._similar[group] = (since, messages)
        self._similar.move_to_end(group)
        _trim(self._similar)
        if said.message in messages:
            return said
        if len(messages) < SIMILAR:
            messages.add(said.message)
            return said
        return replace(said, message="(combined from similar events): " + said.message)

    def _allowed(self, said: Said) -> bool:
        now, owner = self._clock(), (said.about.uid or said.about.name, said.component)
        left, since = self._buckets.get(owner, (float(BURST), now))
        left = min(float(BURST), left + (now - since) / REFILL)
        self._buckets[owner] = (left - 1 if left >= 1 else left, now)
        self._buckets.move_to_end(owner)
        _trim(self._buckets)
        return left >= 1


class Recorder:
    """Says things as one component."""

    def __init__(self, sink: EventSink, component: str) -> None:
        self._sink, self._component = sink, component

    def normal(self, about: Described, reason: str, message: str) -> None:
        """Say something that goes as it should."""
        self._sink.say(Said(_reference(about), self._component, NORMAL, reason, message))

    def warning(self, about: Described, reason: str, message: str) -> None:
        """Say something a person may have to look at."""
        self._sink.say(Said(_reference(about), self._component, WARNING, reason, message))


def _reference(about: Described) -> core_v1.ObjectReference:
    # Without the resourceVersion: it would make every repetition another event.
    meta = about.metadata
    return core_v1.ObjectReference(
        api_version=about.api_version, kind=about.kind, namespace=meta.namespace, name=meta.name, uid=meta.uid
    )


def _event(said: Said, now: float, times: int, *, serial: int) -> core_v1.Event:
    return core_v1.Event(
        metadata=meta_v1.ObjectMeta(
            # As client-go: the object's name and a number that is different each time.
            name=f"{said.about.name}.{int(now * 1e6) << 12 | serial & 0xFFF:x}",
            namespace=said.about.namespace or "default",
        ),
        involved_object=said.about,
        type=said.type,
        reason=said.reason,
        message=said.message[:1024],
        count=times,
        first_timestamp=stamp(now),
        last_timestamp=stamp(now),
        source=core_v1.EventSource(component=said.component),
        reporting_component=said.component,
    )


def _trim(memory: OrderedDict[K, V]) -> None:
    while len(memory) > MEMORY:
        memory.popitem(last=False)
