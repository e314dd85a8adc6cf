"""
The recent past of a store, in memory: what watches, and lists at a past revision, are served from.

Belongs to the event loop's thread. Bounded by number and by bytes; a watcher that has more than the
bound waiting is cut off with Compacted.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence

from edgekube.store.base import Change, Compacted, FutureRevision, Record

CHANGES = 4096
"""How many changes are kept, and may wait for one watcher."""
BYTES = 4 << 20
"""How many bytes of values are kept."""


class _Watcher:
    """One watch's place in the stream."""

    __slots__ = ("lagging", "prefix", "waiting", "wake")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.waiting: deque[Change] = deque()
        self.wake = asyncio.Event()
        self.lagging = False


class Feed:
    """Publishes changes in revision order. `revision` is the newest one, `floor` the oldest to watch from."""

    def __init__(self, revision: int, *, changes: int = CHANGES, size: int = BYTES) -> None:
        self.revision = revision
        self.floor = revision
        self._limit, self._size = changes, size
        self._history: deque[Change] = deque()
        self._bytes = 0
        self._watchers: dict[str, set[_Watcher]] = {}
        self._closed = False

    def publish(self, changes: Sequence[Change], revision: int) -> None:
        """Add changes, the last at or before `revision`, and wake who watches them."""
        for change in changes:
            self._history.append(change)
            self._bytes += _weight(change)
            for prefix, watchers in self._watchers.items():
                if change.record.key.startswith(prefix):
                    for watcher in watchers:
                        self._hand(watcher, change)
        self.revision = revision
        while len(self._history) > self._limit or (self._bytes > self._size and len(self._history) > 1):
            gone = self._history.popleft()
            self._bytes -= _weight(gone)
            self.floor = gone.record.revision

    def _hand(self, watcher: _Watcher, change: Change) -> None:
        if len(watcher.waiting) >= self._limit:
            watcher.waiting.clear()
            watcher.lagging = True
        if not watcher.lagging:
            watcher.waiting.append(change)
        watcher.wake.set()

    def close(self) -> None:
        """End every watch."""
        self._closed = True
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.wake.set()

    async def watch(self, prefix: str, *, after: int) -> AsyncIterator[Sequence[Change]]:
        """Do as `Store.watch` says; the iterator ends when the store is closed."""
        if after < self.floor:
            raise Compacted(self.floor)
        watcher = _Watcher(prefix)
        watcher.waiting.extend(
            change
            for change in self._history
            if change.record.revision > after and change.record.key.startswith(prefix)
        )
        self._watchers.setdefault(prefix, set()).add(watcher)
        try:
            while True:
                if watcher.lagging:
                    raise Compacted(self.floor)
                if watcher.waiting:
                    batch = [change for change in watcher.waiting if change.record.revision > after]
                    watcher.waiting.clear()
                    if batch:
                        yield batch
                    continue
                if self._closed:
                    return
                watcher.wake.clear()
                await watcher.wake.wait()
        finally:
            self._forget(watcher)

    def _forget(self, watcher: _Watcher) -> None:
        watchers = self._watchers[watcher.prefix]
        watchers.discard(watcher)
        if not watchers:
            del self._watchers[watcher.prefix]

    def check(self, revision: int) -> None:
        """Raise Compacted or FutureRevision unless the state as of `revision` can be told."""
        if revision > self.revision:
            raise FutureRevision(f"revision {revision} is yet to come; now is {self.revision}")
        if revision < self.floor:
            raise Compacted(self.floor)

    def rewind(self, records: Iterable[Record], prefix: str, *, now: int, then: int) -> list[Record]:
        """
        Return all records under `prefix` as of revision `then`, given all those as of `now`.

        Raises Compacted.
        """
        if then < self.floor:
            raise Compacted(self.floor)
        state = {record.key: record for record in records}
        for change in reversed(self._history):
            if then < change.record.revision <= now and change.record.key.startswith(prefix):
                if change.previous is None:
                    state.pop(change.record.key, None)
                else:
                    state[change.record.key] = change.previous
        return [state[key] for key in sorted(state)]


def _weight(change: Change) -> int:
    return len(change.record.value) + (len(change.previous.value) if change.previous else 0)
