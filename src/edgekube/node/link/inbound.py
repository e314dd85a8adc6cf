"""What comes in: the hub's numbered messages, into the mirror and onto the disk."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from edgekube.node.link.disk import Record, WishFile
from edgekube.node.link.wish import Wish
from edgekube.transport.base import Message, Transport
from edgekube.transport.session import Receiver, Switch, Verdict
from edgekube.transport.topics import Topics
from edgekube.transport.wire import Ack, Kind, ObjectDelta, Objects, SnapshotEnd

log = logging.getLogger(__name__)

ACKNOWLEDGED = (Kind.OBJECTS, Kind.SNAPSHOT_END)
DISK_PAUSE = 30.0
"""Seconds until a failed write to disk is tried again."""


class Inbound:
    """
    The wish, kept up to date. `want(everything=…)` asks for a resync, `everything` of a new hub.

    `satisfied` is called when a resync came through; `acknowledge` when messages are on disk.
    """

    def __init__(
        self, directory: Path, *, want: Callable[..., None], satisfied: Callable[[], None],
        acknowledge: Callable[[Ack], None],
    ) -> None:  # fmt: skip
        self.wish = Wish()
        self.switch = Switch()
        self._want, self._satisfied, self._acknowledge = want, satisfied, acknowledge
        self._own, self._broadcast = Receiver(), Receiver()
        self._disk = WishFile(directory)
        self._unsaved: list[Record] = []
        self._dirty = asyncio.Event()
        self._owed = False
        self.switch.on(Kind.OBJECTS, Objects, lambda _e, body: self._take(body.deltas))
        self.switch.on(Kind.SNAPSHOT_END, SnapshotEnd, lambda _e, body: self._compare(body.digest))
        stored = self._disk.load()
        self.wish.apply(stored.deltas)
        self._complete = stored.complete
        if stored.complete:
            self.wish.is_synced()

    def subscribe(self, transport: Transport, topics: Topics, node: str) -> None:
        """Listen."""
        transport.subscribe(topics.down(node), lambda message: self._arrive(message, self._own))
        transport.subscribe(topics.all_down, lambda message: self._arrive(message, self._broadcast))

    def restart(self) -> None:
        """Take whatever comes next as the start: there is a new connection, and a resync to come."""
        self._own.restart()
        self._broadcast.restart()

    async def save(self) -> None:
        """Write what is new to disk, then acknowledge it; until cancelled."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            epoch, seq = self._own.epoch, self._own.seq
            broadcast = self._broadcast.seq if self._broadcast.epoch == epoch else 0
            batch, self._unsaved = self._unsaved, []
            owed, self._owed = self._owed, False
            if batch and not await self._write(batch):
                self._unsaved, self._owed = batch + self._unsaved, self._owed or owed
                self._dirty.set()
                await asyncio.sleep(DISK_PAUSE)
            elif owed:
                self._acknowledge(Ack(epoch, seq, broadcast))

    def _arrive(self, message: Message, receiver: Receiver) -> None:
        envelope = self.switch.open(message.payload)
        if envelope is None:
            return
        first = not receiver.epoch
        verdict = receiver.decide(envelope)
        if verdict is Verdict.DUPLICATE:
            return
        # The first message of a connection is no surprise: the resync asked for at its start covers
        # what came before. Unless it is a hub that says hello: it may not have heard us ask.
        anew = verdict is Verdict.NEW_EPOCH and (envelope.kind == Kind.HELLO or not first)
        if anew or verdict is Verdict.GAP:
            log.info("asking for a resync: %s", verdict.value)
            self._want(everything=anew)
        if envelope.kind != Kind.HELLO:
            self.switch.serve(envelope)
        if receiver is self._own and envelope.kind in ACKNOWLEDGED:
            self._owed = True
        self._dirty.set()

    def _take(self, deltas: tuple[ObjectDelta, ...]) -> None:
        self._store(Record(self.wish.apply(deltas)))

    def _compare(self, digest: dict[str, str]) -> None:
        """Take the hub's list of everything: drop what is not on it, ask again for what is missing here."""
        removed = self.wish.apply(self.wish.surplus(digest))
        if self.wish.missing(digest):
            self._store(Record(removed))
            log.info("asking for a resync: something did not arrive")
            self._want(everything=False)
            return
        self._store(Record(removed, complete=True))
        self.wish.is_synced()
        self._satisfied()

    def _store(self, record: Record) -> None:
        completed = record.complete is not None and record.complete != self._complete
        if completed:
            self._complete = bool(record.complete)
        if record.deltas or completed:
            self._unsaved.append(record)

    async def _write(self, batch: list[Record]) -> bool:
        deltas = tuple(delta for record in batch for delta in record.deltas)
        complete = next((r.complete for r in reversed(batch) if r.complete is not None), None)
        try:
            await asyncio.to_thread(self._disk.append, Record(deltas, complete))
        except OSError as error:
            log.error("the wish cannot be stored: %s", error)  # noqa: TRY400 - expected, no traceback
            return False
        return True
