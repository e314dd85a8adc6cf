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
            del self._cache[query[2:]]
            return None
        body, age = bytearray(entry.body), int(now - entry.stored)
        for offset in entry.ttls:
            (ttl,) = struct.unpack_from(">I", body, offset)
            struct.pack_into(">I", body, offset, max(0, ttl - age))
        return query[:2] + bytes(body)

    async def ask(self, query: bytes, *, tcp: bool = False) -> bytes | None:
        """Return the answer to a whole query; None when no upstream server answers."""
        known = self.remembered(query)
        if known is not None and not (tcp and known[2] & 2):
            return known
        loop = asyncio.get_running_loop()
        if not self._upstreams or loop.time() < self._down_until:
            return None
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
        return failed

    def _prefer(self, server: Server) -> None:
        if self._upstreams[0] != server:
            self._upstreams.remove(server)
            self._upstreams.insert(0, server)

    async def _exchange(self, query: bytes, server: Server, *, tcp: bool) -> bytes | None:
        # Our own id, and a port of its own each time: hard to guess for a forger.
        sent = secrets.token_bytes(2) + query[2:]
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await (_by_stream if tcp else _by_datagram)(sent, server)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return None

    def _remember(self, query: bytes, answer: bytes) -> None:
        entry = _entry(answer, asyncio.get_running_loop().time())
        if entry is not None:
            self._cache.pop(query[2:], None)
            while len(self._cache) >= _ENTRIES:
                del self._cache[next(iter(self._cache))]
            self._cache[query[2:]] = entry


async def _by_datagram(query: bytes, server: Server) -> bytes:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as made:
        made.connect(server)
        made.send(query)
        while True:
            answer = await loop.sock_recv(made, 65535)
            if _answers(query, answer):
                return answer


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
