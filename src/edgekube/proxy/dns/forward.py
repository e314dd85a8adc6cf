"""Names the cluster does not have are asked of the upstream servers; answers are remembered for as long as they say."""

import asyncio
import secrets
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from edgekube.proxy.dns.message import Code, Malformed, Type, read_name, read_records

Server = tuple[str, int]
"""Address and port."""

_TIMEOUT = 1.5
"""Seconds an upstream server has to answer."""
_DOWN = 2.0
"""Seconds without questions after no upstream answered: a node offline says so at once."""
_LONGEST, _LONGEST_DENIAL = 300, 30
"""Seconds an answer, or a denial, is remembered at most."""
_STALE, _STALE_TTL = 86400, 30
"""Seconds an answer may be told after it ran out, while nobody can be asked; and the TTL it has then."""
_ENTRIES = 1000
_TRUNCATED = 0x200
_FAILURES = {Code.SERVFAIL, Code.REFUSED}


@dataclass(frozen=True, slots=True)
class _Entry:
    body: bytes
    """The answer without its id."""
    stored: float
    expires: float
    ttls: tuple[int, ...]
    """Where in `body` the TTLs stand."""


class Forwarder:
    """Asks `upstreams` in turn, beginning with the one that answered last."""

    def __init__(self, upstreams: Sequence[Server]) -> None:
        self._upstreams = list(upstreams)
        self._cache: dict[bytes, _Entry] = {}
        self._down_until = float("-inf")

    @property
    def available(self) -> bool:
        """Whether there is anybody to ask."""
        return bool(self._upstreams)

    def remembered(self, query: bytes) -> bytes | None:
        """Return the answer to a whole query if it is still remembered, its TTLs counted down."""
        entry = self._cache.get(query[2:])
        if entry is None:
            return None
        now = asyncio.get_running_loop().time()
        if now >= entry.expires:
            return None
        body, age = bytearray(entry.body), int(now - entry.stored)
        for offset in entry.ttls:
            (ttl,) = struct.unpack_from(">I", body, offset)
            struct.pack_into(">I", body, offset, max(0, ttl - age))
        return query[:2] + bytes(body)

    def stale(self, query: bytes) -> bytes | None:
        """Return an answer that was true not long ago, for when nobody can be asked (RFC 8767)."""
        entry = self._cache.get(query[2:])
        if entry is None:
            return None
        if asyncio.get_running_loop().time() >= entry.expires + _STALE:
            del self._cache[query[2:]]
            return None
        body = bytearray(entry.body)
        for offset in entry.ttls:
            struct.pack_into(">I", body, offset, _STALE_TTL)
        return query[:2] + bytes(body)

    async def ask(self, query: bytes, *, tcp: bool = False) -> bytes | None:
        """Return the answer to a whole query, a stale one if need be; None when no upstream server answers."""
        known = self.remembered(query)
        if known is not None and not (tcp and known[2] & 2):
            return known
        loop = asyncio.get_running_loop()
        if not self._upstreams or loop.time() < self._down_until:
            return self.stale(query)
        failed: bytes | None = None
        # A single server gets a second chance: datagrams do get lost.
        for server in [*self._upstreams, *(self._upstreams if len(self._upstreams) == 1 else ())]:
            answer = await self._exchange(query, server, tcp=tcp)
            if answer is not None and answer[3] & 0xF in _FAILURES:
                # Another server may know more.
                failed = query[:2] + answer[2:]
            elif answer is not None:
                self._prefer(server)
                self._remember(query, answer)
                return query[:2] + answer[2:]
        if failed is None:
            self._down_until = loop.time() + _DOWN
        return self.stale(query) or failed

    def _prefer(self, server: Server) -> None:
        if self._upstreams[0] != server:
            self._upstreams.remove(server)
            self._upstreams.insert(0, server)

    async def _exchange(self, query: bytes, server: Server, *, tcp: bool) -> bytes | None:
        # Our own id, a port of its own each time, and letters by chance: hard to guess for a forger.
        try:
            sent = secrets.token_bytes(2) + disguised(query[2:], secrets.randbits(256))
            async with asyncio.timeout(_TIMEOUT):
                if not tcp:
                    answer = await _by_datagram(sent, server)
                    if answer is not None:
                        return _undisguised(answer, query)
                return _undisguised(await _by_stream(sent, server), query)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, Malformed):
            return None

    def _remember(self, query: bytes, answer: bytes) -> None:
        entry = _entry(answer, asyncio.get_running_loop().time())
        if entry is not None:
            self._cache.pop(query[2:], None)
            while len(self._cache) >= _ENTRIES:
                del self._cache[next(iter(self._cache))]
            self._cache[query[2:]] = entry


def disguised(body: bytes, bits: int) -> bytes:
    """Return a query without its id, the case of its name's letters by `bits` (draft-vixie-dnsext-dns0x20)."""
    _name, end = read_name(b"\0\0" + body, 12)
    made = bytearray(body)
    for offset in range(10, end - 2):
        # A length is below 64, never a letter.
        if 64 < made[offset] & 0xDF < 91:
            made[offset] ^= (bits & 1) << 5
            bits >>= 1
    return bytes(made)


def _undisguised(answer: bytes, query: bytes) -> bytes:
    """Return the answer with the question as our client wrote it."""
    if answer[4:6] == b"\0\0":
        return answer
    _name, end = read_name(query, 12)
    return answer[:12] + query[12:end] + answer[end:]


async def _by_datagram(query: bytes, server: Server) -> bytes | None:
    """Return the answer; None if it might be forged, so that TCP has to tell."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as made:
        made.connect(server)
        made.send(query)
        while True:
            answer = await loop.sock_recv(made, 65535)
            if _answers(query, answer):
                return answer if _same_letters(query, answer) else None


def _same_letters(query: bytes, answer: bytes) -> bool:
    """Tell whether the question came back letter by letter; a few old servers answer in their own."""
    _name, end = read_name(query, 12)
    return answer[4:6] == b"\0\0" or answer[12:end] == query[12:end]


async def _by_stream(query: bytes, server: Server) -> bytes:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(struct.pack(">H", len(query)) + query)
        while True:
            (size,) = struct.unpack(">H", await reader.readexactly(2))
            answer = await reader.readexactly(size)
            if _answers(query, answer):
                return answer
    finally:
        writer.close()


def _answers(query: bytes, answer: bytes) -> bool:
    """Tell whether it is an answer to this query: same id, same question."""
    if len(answer) < 12 or answer[:2] != query[:2] or not answer[2] & 0x80:
        return False
    try:
        asked, end = read_name(query, 12)
        if answer[4:6] == b"\0\0":
            # Refusals may come without the question.
            return bool(answer[3] & 0xF)
        said, said_end = read_name(answer, 12)
    except Malformed:
        return False
    return asked == said and query[end : end + 4] == answer[said_end : said_end + 4]


def _entry(answer: bytes, now: float) -> _Entry | None:
    """Return what to remember of an answer; None if nothing (failures, truncated, malformed)."""
    flags, questions, *counts = struct.unpack_from(">HHHHH", answer, 2)
    code = flags & 0xF
    if flags & _TRUNCATED or code not in {0, 3} or questions != 1:
        return None
    try:
        _name, offset = read_name(answer, 12)
        records = list(read_records(answer, offset + 4, sum(counts)))
    except Malformed:
        return None
    real = [record for record in records if record.type != Type.OPT]
    lifetime = min([_LONGEST, *(record.ttl for record in real)])
    if code == 3 or not counts[0]:
        starts = [record for record in real if record.type == Type.SOA and record.data_size >= 22]
        if not starts:
            return None
        end = starts[0].data_at + starts[0].data_size
        lifetime = min(lifetime, _LONGEST_DENIAL, *struct.unpack_from(">I", answer, end - 4))
    if lifetime <= 0:
        return None
    return _Entry(answer[2:], now, now + lifetime, tuple(record.ttl_at - 2 for record in real))
