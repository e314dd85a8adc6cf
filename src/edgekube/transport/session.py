"""
Numbered sequences of messages: what makes at-least-once delivery safe.

A sender counts its messages to one audience under an epoch (one run of the sender). A receiver
takes each number once; a hole or a new epoch means something was missed, and the receiver asks for
the difference to what it has. Nothing else is needed, because every body is a state, not a step.
"""

import zlib
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from edgekube.transport.wire import VERSION, Envelope, Kind

COMPRESS = 1024
"""Bodies over this many bytes are compressed."""
LARGEST = 32 << 20
"""Bytes a body may have after decompression; more is an attack or a bug."""


class Verdict(Enum):
    """What a receiver makes of a message."""

    NEXT = "next"
    """In order: take it."""
    GAP = "gap"
    """Take it, and ask for a resync: something before it is missing."""
    DUPLICATE = "duplicate"
    """Seen before, or older than what was seen: drop it."""
    BAD = "bad"
    """Not understood: drop it."""


@dataclass(slots=True)
class Outbox:
    """The sending end of one sequence."""

    epoch: str
    seq: int = 0

    def seal(self, kind: Kind, body: msgspec.Struct) -> bytes:
        """Return the next message as bytes."""
        self.seq += 1
        return encode(self.epoch, self.seq, kind, body)


def encode(epoch: str, seq: int, kind: Kind, body: msgspec.Struct) -> bytes:
    """Return a message; a negative kind says that its body is compressed."""
    data = msgspec.msgpack.encode(body)
    number = int(kind)
    if len(data) > COMPRESS:
        data, number = zlib.compress(data, 1), -number
    return msgspec.msgpack.encode(Envelope(VERSION, epoch, seq, number, data))


@dataclass(slots=True)
class Inbox:
    """The receiving end of one sequence; counts what it drops."""

    epoch: str = ""
    seq: int = 0
    dropped: dict[Verdict, int] = field(default_factory=dict)

    def open(self, payload: bytes) -> tuple[Verdict, Envelope | None]:
        """Judge a message; the envelope is None when the message is to be dropped."""
        envelope = decode(payload)
        verdict = self._judge(envelope)
        if verdict in {Verdict.DUPLICATE, Verdict.BAD}:
            self.dropped[verdict] = self.dropped.get(verdict, 0) + 1
            return verdict, None
        assert envelope is not None
        self.epoch, self.seq = envelope.epoch, envelope.seq
        return verdict, envelope

    def _judge(self, envelope: Envelope | None) -> Verdict:
        if envelope is None:
            return Verdict.BAD
        if envelope.epoch != self.epoch:
            return Verdict.NEXT if envelope.seq == 1 and not self.epoch else Verdict.GAP
        if envelope.seq <= self.seq:
            return Verdict.DUPLICATE
        return Verdict.NEXT if envelope.seq == self.seq + 1 else Verdict.GAP


def decode(payload: bytes) -> Envelope | None:
    """Return the envelope with its body decompressed, None when the bytes make no sense."""
    try:
        envelope = msgspec.msgpack.decode(payload, type=Envelope)
        if envelope.kind >= 0:
            return envelope
        expander = zlib.decompressobj()
        body = expander.decompress(envelope.body, LARGEST)
    except (msgspec.DecodeError, msgspec.ValidationError, zlib.error):
        return None
    if expander.unconsumed_tail or not expander.eof:
        return None
    return Envelope(envelope.version, envelope.epoch, envelope.seq, -envelope.kind, body)
