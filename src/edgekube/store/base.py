"""
The store port: etcd's semantics as Kubernetes needs them, no more.

One global revision counts every change. An acknowledged durable write survives kill -9 and
power cut; a watch from revision r delivers every later event once, in order, or raises
Compacted; revisions never repeat, not even after a crash.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgekube.api.resource import Durability
from edgekube.lib.errors import EdgekubeError


@dataclass(frozen=True, slots=True)
class Record:
    """A key and its value; `revision` is that of its last change (of the deletion, in a delete event)."""

    key: str
    value: bytes
    revision: int
    created: int
    """The revision at which the key was created."""


@dataclass(frozen=True, slots=True)
class Change:
    """One event: `record` is the new form (of a deletion: the last value, at the deletion's revision)."""

    record: Record
    previous: Record | None
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Records in key order, all as of `revision`; `more` tells that the limit cut the list."""

    records: Sequence[Record]
    revision: int
    more: bool = False
    remaining: int = 0


class StoreError(EdgekubeError):
    """Root of the port's errors."""


class KeyExists(StoreError):
    """`create` of a key that is there."""

    def __init__(self, current: Record) -> None:
        super().__init__(f"{current.key} exists")
        self.current = current


class Mismatch(StoreError):
    """The expected revision is not the current one; `current` is None when the key is not there."""

    def __init__(self, key: str, current: Record | None) -> None:
        super().__init__(f"{key} changed")
        self.current = current


class Compacted(StoreError):
    """The revision asked for is no longer kept; list again. `oldest` is the first revision still watchable."""

    def __init__(self, oldest: int) -> None:
        super().__init__(f"compacted before {oldest}")
        self.oldest = oldest


class FutureRevision(StoreError):
    """`list` at a revision that has not happened yet."""


class StoreUnavailable(StoreError):
    """The store cannot answer now (full disk, no quorum); the write did not happen or its fate is unknown."""


class Store(Protocol):
    """A key-value store with revisions. Every write is atomic and single-key."""

    async def get(self, key: str) -> Record | None:
        """Return the current record of `key`."""
        ...

    async def list(self, prefix: str, *, limit: int = 0, after: str = "", revision: int = 0) -> Page:
        """
        Return records under `prefix` in key order, from the key after `after`, at most `limit` (0: all).

        `revision` other than 0 asks for the state as of then; raises Compacted when it is too old,
        FutureRevision when it is yet to come.
        """
        ...

    async def put(
        self, key: str, value: bytes, *, expected: int, durability: Durability = Durability.DURABLE
    ) -> Record:
        """
        Write if the key's current revision is `expected` (0: the key must not exist); return the new record.

        Raises KeyExists (expected 0), Mismatch (else) or StoreUnavailable.
        """
        ...

    async def delete(self, key: str, *, expected: int, durability: Durability = Durability.DURABLE) -> Record:
        """
        Delete if the current revision is `expected`; return the last value at the deletion's revision.

        Raises Mismatch (`current` None: not there) or StoreUnavailable. A key never written with less
        than `durability` is gone as surely as it was there.
        """
        ...

    def watch(self, prefix: str, *, after: int) -> AsyncIterator[Sequence[Change]]:
        """
        Yield batches of changes with revision > `after`, in order, for ever; raises Compacted.

        A consumer that falls too far behind gets Compacted and lists again. A write's change is handed
        to watchers before the writer gets its answer.
        """
        ...

    async def revision(self) -> int:
        """Return the current revision (of the newest acknowledged change)."""
        ...

    async def snapshot(self, path: Path) -> int:
        """Write a consistent backup to `path` while running; return its revision."""
        ...

    async def close(self) -> None:
        """Flush and release."""
        ...
