"""
The one thread that writes: takes what waits, decides it as one batch, commits it once.

While a commit syncs, the next batch gathers, so concurrent writers share one sync without anybody
waiting on purpose. How sure a commit is depends on what is in it:

* anything DURABLE: `synchronous=FULL`, the log is on flash before the answers go out;
* SOFT only: `synchronous=NORMAL`, the commit is written into the log file but not synced. The
  kernel has it, so killing the process loses nothing. The next durable commit syncs the same log,
  or this thread does after `flush` seconds. A power cut loses at most the unsynced end of the log:
  SQLite drops it as a whole (WAL frames are chained by checksum), so what survives is a state that was;
* VOLATILE only: no commit at all.

Revisions are given away only below a mark that is on flash already, and reading a file begins
above its mark: so no crash makes a revision happen twice, not even those of lost or volatile writes.
"""

import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekube.store.base import Record, StoreError, StoreUnavailable
from edgekube.store.sqlite import rows
from edgekube.store.sqlite.batch import Batch, Outcome, Write, plan

log = logging.getLogger(__name__)

BLOCK = 10_000
"""Revisions reserved at a time."""
GROUP = 512
"""Writes in one commit at most."""
FLUSH = 2.0
"""Seconds that a soft write may stay unsynced."""


FAILURES = (sqlite3.Error, OSError, ValueError, OverflowError, MemoryError)
"""What SQLite's module raises; the others of values that it cannot take, and of a board without memory."""


@dataclass(frozen=True, slots=True)
class Call:
    """Something to do between commits, with everything before it in place; `answer` gets the result or the error."""

    run: Callable[["Writer"], Any]
    answer: Callable[[Any, StoreError | None], None]


class _Stop:
    """Asks the thread to end."""


Item = list[Write] | Call | _Stop


@dataclass(slots=True)
class Counters:
    """What was written since the store was opened."""

    commits: int = 0
    """Transactions written to the log."""
    synced: int = 0
    """Of these, the ones that waited for the flash."""
    flushes: int = 0
    """Syncs of soft writes by the clock."""
    writes: int = 0
    """Acknowledged puts and deletes, of every class."""


class Writer(threading.Thread):
    """Owns the writing connection and the volatile values; `deliver` is called on this thread, in revision order."""

    def __init__(self, path: Path, deliver: Callable[[Batch], None], *, flush: float = FLUSH) -> None:
        super().__init__(name="store-writer", daemon=True)
        self.connection = rows.connect(path)
        self.volatile: dict[str, Record] = {}
        self.counters = Counters()
        self._wal = path.with_name(path.name + "-wal")
        self._deliver = deliver
        self._flush_after = flush
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._reserved = rows.reserved(self.connection)
        self.revision = self._reserved + 1
        """The newest revision; at the start one that nobody had before."""
        self._unsynced_since = 0.0
        self._synchronous = True

    def submit(self, item: list[Write] | Call) -> None:
        """Queue work, at most GROUP writes at once; answers come in the same order."""
        self._queue.put(item)

    def stop(self) -> None:
        """End after what is queued."""
        self._queue.put(_Stop())

    def run(self) -> None:
        """Work until stopped."""
        group: list[Write] = []
        while True:
            item = self._next(wait=not group)
            if isinstance(item, list) and len(group) + len(item) <= GROUP:
                group += item
                continue
            if group:
                self._commit(group)
            group = []
            match item:
                case list():
                    group += item
                case Call():
                    self._call(item)
                case _Stop():
                    break
                case None:
                    self._flush_if_due()
        self._close()

    def _next(self, *, wait: bool) -> Item | None:
        """Return the next item; None when nothing is there, or when it is time to flush."""
        try:
            if not wait:
                return self._queue.get_nowait()
            if not self._unsynced_since:
                return self._queue.get()
            return self._queue.get(
                timeout=max(self._unsynced_since + self._flush_after - time.monotonic(), 0.001)
            )
        except queue.Empty:
            return None

    def _call(self, call: Call) -> None:
        try:
            result = call.run(self)
        except FAILURES as error:
            call.answer(None, _unavailable(error))
        except StoreError as error:
            call.answer(None, error)
        else:
            call.answer(result, None)

    def _commit(self, group: list[Write]) -> None:
        """Decide and write a group; when the file cannot be written, what needs no file still happens."""
        batch = Batch(self.revision)
        try:
            batch = self._plan(group)
            self._write(batch)
        except FAILURES as error:
            self._rollback()
            self._split(group, batch, _unavailable(error))
        else:
            self._deliver(batch)
        self._flush_if_due()

    def _plan(self, group: list[Write]) -> Batch:
        batch = plan(
            group,
            self.revision,
            volatile=self.volatile.get,
            stored=lambda key: rows.read(self.connection, key),
        )
        # Even if the commit fails, its fate may be unknown: these revisions are spent.
        self.revision = batch.revision
        return batch

    def _split(self, group: list[Write], batch: Batch, error: StoreUnavailable) -> None:
        """Fail the writes that need the file, or all of them if it is not they that failed."""
        failed = [write for write in group if write.key in batch.disk] or group
        if len(failed) < len(group):
            self._commit([write for write in group if write.key not in batch.disk])
        self._deliver(Batch(self.revision, [Outcome(write, error=error) for write in failed]))

    def _write(self, batch: Batch) -> None:
        mark = self._mark(batch)
        if batch.disk or mark:
            self._synchronise(wanted=batch.synced or bool(mark))
            self.connection.execute("BEGIN IMMEDIATE")
            rows.write(self.connection, batch.disk)
            if mark:
                rows.reserve(self.connection, mark)
            self.connection.execute("COMMIT")
            self._reserved = mark or self._reserved
            self.counters.commits += 1
            self._note_commit()
        self._remember(batch)

    def _mark(self, batch: Batch) -> int:
        """Return how far to reserve in this commit; 0: not now. A commit that syncs anyway does it early."""
        if not batch.changes():
            return 0
        left = self._reserved - batch.revision
        if left < 0 or (batch.synced and left < BLOCK // 2):
            return batch.revision + BLOCK
        return 0

    def _synchronise(self, *, wanted: bool) -> None:
        if wanted is not self._synchronous:
            self.connection.execute(f"PRAGMA synchronous = {'FULL' if wanted else 'NORMAL'}")
            self._synchronous = wanted

    def _note_commit(self) -> None:
        if self._synchronous:
            self.counters.synced += 1
            self._unsynced_since = 0.0
        elif not self._unsynced_since:
            self._unsynced_since = time.monotonic()

    def _remember(self, batch: Batch) -> None:
        self.counters.writes += len(batch.changes())
        for key, record in batch.memory.items():
            if record is None:
                self.volatile.pop(key, None)
            else:
                self.volatile[key] = record

    def _rollback(self) -> None:
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        except sqlite3.Error:
            log.exception("rolling back failed")

    def _flush_if_due(self) -> None:
        if self._unsynced_since and time.monotonic() >= self._unsynced_since + self._flush_after:
            self._flush()

    def _flush(self) -> None:
        """Sync the log. Its locks are on other files, so that opening and closing it here is safe."""
        try:
            handle = os.open(self._wal, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fdatasync(handle)
            finally:
                os.close(handle)
        except OSError:
            log.exception("%s cannot be synced; trying again in %g s", self._wal, self._flush_after)
            self._unsynced_since = time.monotonic()
        else:
            self.counters.flushes += 1
            self._unsynced_since = 0.0

    def _close(self) -> None:
        if self._unsynced_since:
            self._flush()
        try:
            self.connection.close()
        except sqlite3.Error:
            log.exception("closing the store failed")


def _unavailable(error: Exception) -> StoreUnavailable:
    unavailable = StoreUnavailable(f"the store cannot answer: {error}")
    unavailable.__cause__ = error
    return unavailable
