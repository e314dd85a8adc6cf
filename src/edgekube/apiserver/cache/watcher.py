"""One client's watch: a filter, and a bounded queue that the cache fills and the client's own task empties."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Self

from edgekube.api.errors import Expired
from edgekube.api.selectors import ANY_FIELDS, EVERYTHING, FieldMatcher, LabelMatcher
from edgekube.apiserver.cache.entry import Entry
from edgekube.apiserver.cache.event import EventType, Occurrence, WatchEvent

INITIAL_BATCH = 250
"""How many initial objects are handed out at once, so that a large list is not encoded in one go."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What a client selects; "" stands for every namespace or name."""

    namespace: str = ""
    name: str = ""
    labels: LabelMatcher = EVERYTHING
    fields: FieldMatcher = ANY_FIELDS

    def matches(self, entry: Entry | None) -> bool:
        """Whether the client would see `entry`."""
        return (
            entry is not None
            and (not self.namespace or entry.namespace == self.namespace)
            and (not self.name or entry.name == self.name)
            and self.fields.matches(entry.fields)
            and self.labels.matches(entry.labels)
        )

    def event(self, occurrence: Occurrence) -> WatchEvent | None:
        """Return what the client sees of a change."""
        return occurrence.seen(before=self.matches(occurrence.previous), now=self.matches(occurrence.entry))

    def exact(self, key: str) -> str | None:
        """Return the one value a field must have."""
        if key == "metadata.name" and self.name:
            return self.name
        if key == "metadata.namespace" and self.namespace:
            return self.namespace
        return self.fields.exact(key)


class Watcher:
    """
    Events for one client. Iterate, or call `batch`; `close` it in the end (it is a context manager).

    Events that were there at the start (`initial`) come first and never share a batch with later
    ones: after the batch that makes `synced` true, a client that asked for initial events gets its
    `initial-events-end` bookmark, at `revision`.
    """

    def __init__(
        self,
        chosen: Filter,
        *,
        initial: Sequence[Entry],
        limit: int,
        current: Callable[[], int],
        close: Callable[["Watcher"], None],
    ) -> None:
        self.filter = chosen
        self._initial = deque(initial)
        self._pending: deque[WatchEvent] = deque()
        self._limit = limit
        self._current = current
        self._close = close
        self._wake = asyncio.Event()
        self._closed = False
        self._lost = False
        self._nudged = False

    @property
    def synced(self) -> bool:
        """Whether all initial events were handed out."""
        return not self._initial

    @property
    def revision(self) -> int:
        """The revision up to which everything was handed out: what a bookmark may say (once `synced`)."""
        return self._pending[0].entry.revision - 1 if self._pending else self._current()

    def offer(self, event: WatchEvent) -> None:
        """Queue an event that the client selects; only the cache calls this."""
        if self._lost:
            return
        if len(self._pending) >= self._limit:
            self.expire()
        else:
            self._pending.append(event)
            self._wake.set()

    def expire(self) -> None:
        """End the watch with Expired: its client has missed something."""
        self._lost = True
        self._pending.clear()
        self._wake.set()

    async def batch(self) -> Sequence[WatchEvent]:
        """
        Return what waits; wait if nothing does. An empty batch: the watch is over, or was nudged.

        May be cancelled without loss. Raises Expired when the client was too slow, or the cache itself
        missed something.
        """
        while not (self._initial or self._pending or self._closed or self._lost or self._nudged):
            self._wake.clear()
            await self._wake.wait()
        if self._lost:
            raise Expired("too old resource version: the watch fell too far behind")
        if self._initial:
            count = min(INITIAL_BATCH, len(self._initial))
            return [WatchEvent(EventType.ADDED, self._initial.popleft()) for _ in range(count)]
        events = list(self._pending)
        self._pending.clear()
        if not events:
            self._nudged = False
        return events

    def nudge(self) -> None:
        """Give whoever waits an empty batch: cheaper than a timeout around every wait."""
        self._nudged = True
        self._wake.set()

    @property
    def closed(self) -> bool:
        """Whether the watch is over."""
        return self._closed

    async def __aiter__(self) -> AsyncIterator[WatchEvent]:
        while True:
            events = await self.batch()
            if not events and self._closed:
                return
            for event in events:
                yield event

    def close(self) -> None:
        """End the watch; whoever waits for a batch gets an empty one, after what is queued."""
        if not self._closed:
            self._closed = True
            self._close(self)
            self._wake.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
