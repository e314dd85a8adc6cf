"""The embedded store as the event loop sees it."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from edgekube.api.resource import Durability
from edgekube.store.base import Change, Page, Record, Store, StoreError, StoreUnavailable
from edgekube.store.check import cut
from edgekube.store.feed import BYTES, CHANGES, Feed
from edgekube.store.sqlite import rows
from edgekube.store.sqlite.backup import copy_to
from edgekube.store.sqlite.batch import Batch, Write
from edgekube.store.sqlite.place import lock, path_of
from edgekube.store.sqlite.writer import FLUSH, GROUP, Call, Counters, Writer

WAITING = 8192
"""Writes that may wait; more of them are refused, for the flash is hopelessly behind."""


def open_store(url: str) -> Store:
    """Open the store in the file that `sqlite:///path` names, making it if need be. Raises StoreUnavailable."""
    return SqliteStore(path_of(url))


class SqliteStore:
    """
    One process may have the file open.

    `changes` and `size` bound the history; `flush` is for how many seconds a soft write may stay unsynced.
    """

    def __init__(
        self, path: Path, *, changes: int = CHANGES, size: int = BYTES, flush: float = FLUSH
    ) -> None:
        self._path = path
        self._lock = lock(path)
        self._reader: sqlite3.Connection | None = None
        try:
            self._writer = Writer(path, self._deliver_soon, flush=flush)
            self._reader = rows.connect(path)
        except BaseException:
            os.close(self._lock)
            raise
        self._feed = Feed(self._writer.revision, changes=changes, size=size)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting = 0
        self._gathered: list[Write] = []
        self._writer.start()

    @property
    def counters(self) -> Counters:
        """What was written so far."""
        return self._writer.counters

    async def get(self, key: str) -> Record | None:
        """Return the current record of `key`."""
        reader = self._usable()
        try:
            return self._writer.volatile.get(key) or rows.read(reader, key)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{self._path}: {error}") from error

    async def list(self, prefix: str, *, limit: int = 0, after: str = "", revision: int = 0) -> Page:
        """Return records under `prefix`, in key order."""
        if not revision:
            page: Page = await self._between(lambda writer: _page(writer, prefix, after=after, limit=limit))
            return page
        self._usable()
        self._feed.check(revision)
        everything: Page = await self._between(lambda writer: _page(writer, prefix, after="", limit=0))
        past = self._feed.rewind(everything.records, prefix, now=everything.revision, then=revision)
        return cut(past, after=after, limit=limit, revision=revision)

    async def put(
        self, key: str, value: bytes, *, expected: int, durability: Durability = Durability.DURABLE
    ) -> Record:
        """Write; returns when the value is as sure as `durability` says."""
        return await self._write(key, value, expected, durability)

    async def delete(self, key: str, *, expected: int, durability: Durability = Durability.DURABLE) -> Record:
        """Delete; returns when that is as sure as `durability` says."""
        return await self._write(key, None, expected, durability)

    async def _write(self, key: str, value: bytes | None, expected: int, durability: Durability) -> Record:
        self._usable()
        if self._waiting >= WAITING:
            raise StoreUnavailable("too many writes are waiting")
        future: asyncio.Future[Record] = self._running().create_future()
        self._waiting += 1
        if not self._gathered:
            # Whoever writes in the same turn of the loop shares one way to the thread, and its commit.
            self._running().call_soon(self._hand_over)
        self._gathered.append(Write(key, value, expected, durability, future))
        return await future

    def _hand_over(self) -> None:
        gathered, self._gathered = self._gathered, []
        for start in range(0, len(gathered), GROUP):
            self._writer.submit(gathered[start : start + GROUP])

    def watch(self, prefix: str, *, after: int) -> AsyncIterator[Sequence[Change]]:
        """Yield batches of changes after revision `after`; none survive a restart."""
        return self._feed.watch(prefix, after=after)

    async def revision(self) -> int:
        """Return the current revision."""
        self._usable()
        return self._feed.revision

    async def snapshot(self, path: Path) -> int:
        """Write a backup while writes go on; volatile values are not in it."""
        pinned, revision = await self._between(lambda writer: (_pin(self._path), writer.revision))
        await asyncio.to_thread(copy_to, pinned, path)
        return int(revision)

    async def close(self) -> None:
        """Finish the queued writes, sync, and let go of the file."""
        if self._reader is None:
            return
        reader, self._reader = self._reader, None
        self._running()
        self._hand_over()
        self._writer.stop()
        await asyncio.to_thread(self._writer.join)
        reader.close()
        os.close(self._lock)
        # What the writer delivered last is still to be called.
        await asyncio.sleep(0)
        self._feed.close()

    def _usable(self) -> sqlite3.Connection:
        if self._reader is None or not self._writer.is_alive():
            raise StoreUnavailable("the store is closed")
        return self._reader

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    async def _between(self, run: Callable[[Writer], Any]) -> Any:
        """Do something on the writing thread between two commits."""
        self._usable()
        loop = self._running()
        future: asyncio.Future[Any] = loop.create_future()
        self._hand_over()
        self._writer.submit(Call(run, lambda result, error: self._soon(_answer, future, result, error)))
        return await future

    def _soon(self, function: Callable[..., None], *args: object) -> None:
        """Call on the loop's thread; from the writer's."""
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)

    def _deliver_soon(self, batch: Batch) -> None:
        self._soon(self._deliver, batch)

    def _deliver(self, batch: Batch) -> None:
        """Tell the watchers, then the writers."""
        self._waiting -= len(batch.outcomes)
        changes = batch.changes()
        if changes:
            self._feed.publish(changes, changes[-1].record.revision)
        for outcome in batch.outcomes:
            _answer(outcome.write.future, outcome.change.record if outcome.change else None, outcome.error)


def _answer(future: "asyncio.Future[Any]", result: Any, error: StoreError | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def _page(writer: Writer, prefix: str, *, after: str, limit: int) -> Page:
    """List rows and volatile values together; on the writing thread."""
    found = rows.read_range(writer.connection, prefix, after=after, limit=limit + 1 if limit else 0)
    volatile = {
        key: value for key, value in writer.volatile.items() if key.startswith(prefix) and key > after
    }
    merged = {record.key: record for record in found} | volatile
    records = [merged[key] for key in sorted(merged)]
    if not limit or len(records) <= limit:
        return Page(records, writer.revision)
    last = records[limit - 1].key
    only_volatile = sum(key > last and rows.read(writer.connection, key) is None for key in volatile)
    remaining = rows.count_range(writer.connection, prefix, after=last) + only_volatile
    return Page(records[:limit], writer.revision, more=True, remaining=remaining)


def _pin(path: Path) -> sqlite3.Connection:
    """Return a connection that sees the file as it is now, whatever is written later."""
    connection = rows.plain(path)
    connection.execute("BEGIN")
    rows.reserved(connection)
    return connection
