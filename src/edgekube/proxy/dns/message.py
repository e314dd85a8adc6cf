"""DNS messages (RFC 1035, 6891): queries are read, answers are built; nothing here does I/O."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from edgekube.lib.errors import EdgekubeError

Name = tuple[str, ...]
"""Labels in lower case, `("web", "a", "svc", "cluster", "local")`; bytes above 127 as latin-1."""


class Type(IntEnum):
    """Record types that are looked at."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    ANY = 255


class Code(IntEnum):
    """Response codes."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


class Malformed(EdgekubeError):
    """Not a message one could answer."""


class Record(NamedTuple):
    """A resource record of class IN; `ttl` in seconds, `data` is the RDATA as sent."""

    name: Name
    type: int
    ttl: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Query:
    """What was asked. `size` is the largest UDP answer the client takes, in bytes."""

    id: bytes
    name: Name
    type: int
    internet: bool
    recursion: bool
    question: bytes
    """The question section as it came, letter case included."""
    edns: bool
    size: int
    code: Code
    """NOERROR, or why it cannot be answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What to say."""

    code: Code = Code.NOERROR
    answers: Sequence[Record] = ()
    authority: Sequence[Record] = ()
    additional: Sequence[Record] = ()
    authoritative: bool = True


_HEADER = struct.Struct(">2sHHHHH")
_FIXED = struct.Struct(">HHIH")
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION, _AVAILABLE = 0x8000, 0x400, 0x200, 0x100, 0x80
_OPCODE = 0x7800
_LARGEST = 1232
"""Bytes of a UDP answer that no path fragments (DNS flag day 2020)."""


def parse_query(data: bytes) -> Query:
    """Read a query; raises Malformed for what deserves no answer at all (too short, or an answer itself)."""
    if len(data) < 12:
        raise Malformed("shorter than a header")
    message_id, flags, questions, answers, authority, additional = _HEADER.unpack_from(data)
    if flags & _RESPONSE:
        raise Malformed("an answer, not a query")
    recursion = bool(flags & _RECURSION)
    if flags & _OPCODE:
        return _bad(message_id, Code.NOTIMP, recursion=recursion)
    try:
        if questions != 1:
            raise Malformed(f"{questions} questions")  # noqa: TRY301 - answered below like any other bad content
        name, offset = read_name(data, 12)
        kind, klass = struct.unpack_from(">HH", data, offset)
        question = data[12 : offset + 4]
        edns, size, version = _edns(data, offset + 4, answers + authority + additional)
    except (Malformed, struct.error):
        return _bad(message_id, Code.FORMERR, recursion=recursion)
    code = Code.BADVERS if version else Code.NOERROR
    return Query(message_id, name, kind, klass in {1, 255}, recursion, question, edns, size, code)


def _bad(message_id: bytes, code: Code, *, recursion: bool) -> Query:
    return Query(
        message_id, (), 0, internet=True, recursion=recursion, question=b"", edns=False, size=512, code=code
    )


def _edns(data: bytes, offset: int, records: int) -> tuple[bool, int, int]:
    """Look for the OPT record among `records`; return (there, UDP size, version)."""
    for found in read_records(data, offset, records):
        if found.type == Type.OPT:
            return True, max(512, min(found.klass, _LARGEST)), found.ttl >> 16 & 0xFF
    return False, 512, 0


def read_name(data: bytes, offset: int) -> tuple[Name, int]:
    """Read a name, following compression; return it and where the next field begins. Raises Malformed."""
    labels: list[str] = []
    after = -1
    length = 0
    while True:
        if offset >= len(data):
            raise Malformed("a name runs out of the message")
        size = data[offset]
        if size >= 0xC0:
            if offset + 1 >= len(data):
                raise Malformed("half a pointer")
            target = (size & 0x3F) << 8 | data[offset + 1]
            if target >= offset:
                # Pointers lead back only, so this ends.
                raise Malformed("a pointer forwards")
            after = offset + 2 if after < 0 else after
            offset = target
            continue
        if size > 63:
            raise Malformed("an unknown kind of label")
        offset += 1
        if size == 0:
            return tuple(labels), offset if after < 0 else after
        length += size + 1
        if length > 254 or offset + size > len(data):
            raise Malformed("a name too long")
        labels.append(data[offset : offset + size].decode("latin-1").lower())
        offset += size


class Found(NamedTuple):
    """A record in a message: `ttl_at` is where its TTL stands, `data_at` where its RDATA begins."""

    name: Name
    type: int
    klass: int
    ttl: int
    ttl_at: int
    data_at: int
    data_size: int


def read_records(data: bytes, offset: int, count: int) -> Iterable[Found]:
    """Yield `count` records from `offset`; raises Malformed."""
    for _number in range(count):
        name, offset = read_name(data, offset)
        if offset + 10 > len(data):
            raise Malformed("half a record")
        kind, klass, ttl, size = _FIXED.unpack_from(data, offset)
        if offset + 10 + size > len(data):
            raise Malformed("a record runs out of the message")
        yield Found(name, kind, klass, ttl, offset + 4, offset + 10, size)
        offset += 10 + size


def pack_name(name: Name) -> bytes:
    """Pack a name without compression."""
    return b"".join(bytes([len(label)]) + label.encode("latin-1") for label in name) + b"\0"


@dataclass(slots=True)
class _Names:
    """Where suffixes of names stand in the message being written."""

    places: dict[Name, int] = field(default_factory=dict)

    def pack(self, name: Name, offset: int) -> bytes:
        packed = b""
        for start in range(len(name)):
            suffix = name[start:]
            place = self.places.get(suffix)
            if place is not None:
                return packed + struct.pack(">H", 0xC000 | place)
            if offset + len(packed) < 0x4000:
                self.places[suffix] = offset + len(packed)
            packed += bytes([len(name[start])]) + name[start].encode("latin-1")
        return packed + b"\0"


def build(query: Query, answer: Answer, *, limit: int, recursion_available: bool = False) -> bytes:
    """Write the answer in at most `limit` bytes: additional records are left out first, then it is truncated."""
    opt = _opt(answer.code) if query.edns else b""
    size = 12 + len(query.question)
    names = _Names()
    names.pack(query.name, 12)
    parts: list[bytes] = []
    counts = [0, 0, 0]
    truncated = False
    for section, records in enumerate((answer.answers, answer.authority, answer.additional)):
        for record in records:
            packed = (
                names.pack(record.name, size)
                + _FIXED.pack(record.type, 1, record.ttl, len(record.data))
                + record.data
            )
            if size + len(packed) + len(opt) > limit:
                truncated = truncated or section < 2
                break
            parts.append(packed)
            counts[section] += 1
            size += len(packed)
        if truncated:
            break
    flags = _flags(query, answer, recursion_available=recursion_available) | (_TRUNCATED if truncated else 0)
    head = _HEADER.pack(
        query.id,
        flags,
        1 if query.question else 0,
        counts[0],
        counts[1],
        counts[2] + (1 if query.edns else 0),
    )
    return b"".join((head, query.question, *parts, opt))


def _flags(query: Query, answer: Answer, *, recursion_available: bool) -> int:
    return (
        _RESPONSE
        | (_AUTHORITATIVE if answer.authoritative else 0)
        | (_RECURSION if query.recursion else 0)
        | (_AVAILABLE if recursion_available else 0)
        | (answer.code & 0xF)
    )


def _opt(code: Code) -> bytes:
    return b"\0" + _FIXED.pack(Type.OPT, _LARGEST, (code >> 4) << 24, 0)
