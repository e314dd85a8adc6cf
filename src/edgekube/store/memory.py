"""The store in memory: nothing outlives the process. For tests, and for trying things out."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from edgekube.api.resource import Durability
from edgekube.store.base import Change, Page, Record, Store, StoreUnavailable
from edgekube.store.check import check, check_present, cut
from edgekube.store.feed import BYTES, CHANGES, Feed


def open_store(_url: str) -> Store:
    """Open an empty store; the URL says nothing more."""
    return MemoryStore()


class MemoryStore:
    """A dict with revisions; `changes` and `size` bound the history."""

    def __init__(self, *, changes: int = CHANGES, size: int = BYTES) -> None:
        self._records: dict[str, Record] = {}
        self._keys: list[str] = []
        self._feed = Feed(1, changes=changes, size=size)
        self._closed = False

    async def get(self, key: str) -> Record | None:
        """Return the current record of `key`."""
        self._usable()
        return self._records.get(key)

    async def list(self, prefix: str, *, limit: int = 0, after: str = "", revision: int = 0) -> Page:
        """Return records under `prefix`, in key order."""
        self._usable()
        now = self._feed.revision
        if revision:
            self._feed.check(revision)
            past = self._feed.rewind(self._under(prefix, 0), prefix, now=now, then=revision)
            return cut(past, after=after, limit=limit, revision=revision)
        start = bisect_right(self._keys, after) if after else 0
        return cut(self._under(prefix, start), after="", limit=limit, revision=now)

    def _under(self, prefix: str, start: int) -> Sequence[Record]:
        found: list[Record] = []
        for index in range(max(start, bisect_left(self._keys, prefix)), len(self._keys)):
            key = self._keys[index]
            if not key.startswith(prefix):
                break
            found.append(self._records[key])
        return found

    async def put(
        self, key: str, value: bytes, *, expected: int, durability: Durability = Durability.DURABLE
    ) -> Record:
        """Write; every class is as durable as memory is."""
        del durability
        self._usable()
        current = self._records.get(key)
        check(key, current, expected)
        revision = self._feed.revision + 1
        record = Record(key, value, revision, current.created if current else revision)
        if current is None:
            insort(self._keys, key)
        self._records[key] = record
        self._feed.publish([Change(record, current)], revision)
        return record

    async def delete(self, key: str, *, expected: int, durability: Durability = Durability.DURABLE) -> Record:
        """Delete; every class is as durable as memory is."""
        del durability
        self._usable()
        current = check_present(key, self._records.get(key), expected)
        revision = self._feed.revision + 1
        record = Record(key, current.value, revision, current.created)
        del self._records[key]
        del self._keys[bisect_left(self._keys, key)]
        self._feed.publish([Change(record, current, deleted=True)], revision)
        return record

    def watch(self, prefix: str, *, after: int) -> AsyncIterator[Sequence[Change]]:
        """Yield batches of changes after revision `after`."""
        return self._feed.watch(prefix, after=after)

    async def revision(self) -> int:
        """Return the current revision."""
        self._usable()
        return self._feed.revision

    async def snapshot(self, path: Path) -> int:
        """Write all records in the layout of the embedded store, which can be opened from it."""
        self._usable()
        from edgekube.store.sqlite.backup import write_new  # noqa: PLC0415 - seldom used

        write_new(path, self._records.values(), self._feed.revision)
        return self._feed.revision

    async def close(self) -> None:
        """End every watch."""
        self._closed = True
        self._feed.close()

    def _usable(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")
