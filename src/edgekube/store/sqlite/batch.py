"""What a group of writes does, decided before anything is written."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgekube.api.resource import Durability
from edgekube.store.base import Change, Record, StoreError
from edgekube.store.check import check, check_present

Lookup = Callable[[str], Record | None]


@dataclass(frozen=True, slots=True)
class Write:
    """One write somebody waits for; `value` None deletes."""

    key: str
    value: bytes | None
    expected: int
    durability: Durability
    future: "asyncio.Future[Record]"


@dataclass(slots=True)
class Outcome:
    """The answer to one write."""

    write: Write
    change: Change | None = None
    error: StoreError | None = None


@dataclass(slots=True)
class Batch:
    """The writes of one commit, in order, each seeing those before it."""

    revision: int
    """The newest revision given away."""
    outcomes: list[Outcome] = field(default_factory=list)
    disk: dict[str, Record | None] = field(default_factory=dict)
    """Rows to store; None to delete."""
    memory: dict[str, Record | None] = field(default_factory=dict)
    """Volatile values to keep; None to forget."""
    synced: bool = False
    """Whether the commit must be on flash before the answers go out."""

    def changes(self) -> Sequence[Change]:
        """Return what happened, in order of revision."""
        return [outcome.change for outcome in self.outcomes if outcome.change is not None]


def plan(writes: Sequence[Write], revision: int, *, volatile: Lookup, stored: Lookup) -> Batch:
    """
    Decide a batch; `revision` is the newest one given away so far.

    `volatile` and `stored` look up values held in memory only, and rows of the file.
    """
    batch = Batch(revision)

    def on_disk(key: str) -> Record | None:
        return batch.disk[key] if key in batch.disk else stored(key)

    def in_memory(key: str) -> Record | None:
        return batch.memory[key] if key in batch.memory else volatile(key)

    for write in writes:
        current = in_memory(write.key) or on_disk(write.key)
        try:
            change = _change(write, current, batch.revision + 1)
        except StoreError as error:
            batch.outcomes.append(Outcome(write, error=error))
            continue
        batch.revision += 1
        batch.outcomes.append(Outcome(write, change))
        if write.value is None:
            _delete(batch, write, stored=on_disk(write.key) is not None)
        else:
            _put(batch, write, change.record)
    return batch


def _change(write: Write, current: Record | None, revision: int) -> Change:
    if write.value is None:
        last = check_present(write.key, current, write.expected)
        return Change(Record(write.key, last.value, revision, last.created), last, deleted=True)
    check(write.key, current, write.expected)
    return Change(Record(write.key, write.value, revision, current.created if current else revision), current)


def _put(batch: Batch, write: Write, record: Record) -> None:
    if write.durability is Durability.VOLATILE:
        batch.memory[write.key] = record
        return
    batch.disk[write.key] = record
    batch.memory[write.key] = None
    batch.synced = batch.synced or write.durability is Durability.DURABLE


def _delete(batch: Batch, write: Write, *, stored: bool) -> None:
    """Forget a key; one that never reached the file costs no write."""
    batch.memory[write.key] = None
    if stored:
        batch.disk[write.key] = None
        batch.synced = batch.synced or write.durability is Durability.DURABLE
