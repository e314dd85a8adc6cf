"""
Numbered sequences over messages that may be lost, repeated or overtaken.

A sender numbers what it says on one topic from 1, under an epoch that names its run. A receiver
decides per message; it keeps no copies: what is missing is made good by a resync, whose digest is
compared with what is there. Pure: no clock, no I/O.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

import msgspec

from edgekube.transport.base import TransportError
from edgekube.transport.wire import VERSION, Envelope, Kind

B = TypeVar("B")

COMPRESS_FROM = 1024
"""Bytes of a body above which it is compressed."""
LARGEST = 16 << 20
"""Bytes a body may have after decompression; a bomb is malformed."""
EPOCHS = 8
"""Former epochs remembered, so that a message left over from one is not taken for a new one."""

_envelopes = msgspec.msgpack.Decoder(Envelope)


class Malformed(TransportError):
    """The payload is no envelope, or its body is not what its kind says."""


class Verdict(Enum):
    """What a receiver makes of a message."""

    ACCEPT = "accept"
    DUPLICATE = "duplicate"
    """Seen, overtaken, or left over from an earlier epoch: drop it."""
    GAP = "gap"
    """Use it, and ask for a resync: something before it is missing."""
    NEW_EPOCH = "new epoch"
    """Use it, and ask for a resync: the sender started anew."""


@dataclass(slots=True)
class Sender:
    """Numbers and encodes one sequence."""

    epoch: str
    seq: int = 0

    def encode(self, kind: Kind, body: object = None) -> bytes:
        """Return the next message of the sequence."""
        self.seq += 1
        return encode(self.epoch, self.seq, kind, body)


@dataclass(slots=True)
class Receiver:
    """Follows one sequence."""

    epoch: str = ""
    seq: int = 0
    skipped: int = 0
    """Messages that were dropped as duplicates."""
    _former: dict[str, int] = field(default_factory=dict)
    """Epochs followed before, and how far."""

    def decide(self, envelope: Envelope) -> Verdict:
        """Return what to do with a message, and remember it."""
        if envelope.epoch != self.epoch:
            return self._turn(envelope)
        if envelope.seq <= self.seq:
            self.skipped += 1
            return Verdict.DUPLICATE
        verdict = Verdict.ACCEPT if envelope.seq == self.seq + 1 else Verdict.GAP
        self.seq = envelope.seq
        return verdict

    def _turn(self, envelope: Envelope) -> Verdict:
        """Follow another epoch. One that was followed before may be a leftover, or the one that lives after all."""
        if envelope.seq <= self._former.get(envelope.epoch, 0):
            self.skipped += 1
            return Verdict.DUPLICATE
        if self.epoch:
            self._former[self.epoch] = self.seq
            while len(self._former) > EPOCHS:
                del self._former[next(iter(self._former))]
        self._former.pop(envelope.epoch, None)
        self.epoch, self.seq = envelope.epoch, envelope.seq
        return Verdict.NEW_EPOCH

    def restart(self) -> None:
        """Take whatever comes next as the start: a resync is under way."""
        self.epoch, self.seq = "", 0
        self._former.clear()


def encode(epoch: str, seq: int, kind: Kind, body: object = None) -> bytes:
    """Return one message; `body` is a wire Struct, or None for an empty one."""
    raw = b"" if body is None else msgspec.msgpack.encode(body)
    number = int(kind)
    if len(raw) > COMPRESS_FROM:
        raw, number = zlib.compress(raw, 6), -number
    return msgspec.msgpack.encode(Envelope(VERSION, epoch, seq, number, raw))


def decode(payload: bytes) -> Envelope:
    """Return the envelope, its body decompressed and its kind positive; raises Malformed."""
    try:
        envelope = _envelopes.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"no envelope: {error}") from error
    if envelope.version != VERSION:
        raise Malformed(f"version {envelope.version}, not {VERSION}")
    if envelope.kind >= 0:
        return envelope
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(envelope.body, LARGEST)
    except zlib.error as error:
        raise Malformed(f"bad compression: {error}") from error
    if not inflater.eof:
        raise Malformed(f"compressed body is cut off, or over {LARGEST} bytes")
    return Envelope(envelope.version, envelope.epoch, envelope.seq, -envelope.kind, body)


def body_of(envelope: Envelope, shape: type[B]) -> B:
    """Return the decoded body; raises Malformed."""
    try:
        return msgspec.msgpack.decode(envelope.body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"kind {envelope.kind}: {error}") from error


@dataclass(slots=True)
class Switch:
    """Kind → handler; malformed bodies and unknown kinds are counted, never raised."""

    malformed: int = 0
    unknown: int = 0
    _rows: dict[int, Callable[[Envelope], None]] = field(default_factory=dict)

    def on(self, kind: Kind, shape: type[B], handler: Callable[[Envelope, B], None]) -> None:
        """Call `handler(envelope, body)` for messages of `kind`."""

        def serve(envelope: Envelope) -> None:
            handler(envelope, body_of(envelope, shape))

        self._rows[int(kind)] = serve

    def open(self, payload: bytes) -> Envelope | None:
        """Return the envelope of a payload, None when it is malformed."""
        try:
            return decode(payload)
        except Malformed:
            self.malformed += 1
            return None

    def serve(self, envelope: Envelope) -> None:
        """Call the handler of the envelope's kind."""
        row = self._rows.get(envelope.kind)
        if row is None:
            self.unknown += 1
            return
        try:
            row(envelope)
        except Malformed:
            self.malformed += 1
