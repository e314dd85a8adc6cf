"""
The node's DNS server: cluster names from the mirror, the rest from upstream servers.

It answers whether or not the master can be reached. Answers about the cluster are kept as bytes
until anything changes, so most questions cost a dictionary lookup.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack

from edgekube.api.types import core_v1
from edgekube.control.dns import DNS_CONFIG
from edgekube.control.mirror import Mirror
from edgekube.lib.errors import EdgekubeError
from edgekube.proxy.dns.forward import Server
from edgekube.proxy.dns.message import Answer, Code, Malformed, Query, Type, build, parse_query, read_records
from edgekube.proxy.dns.message import Record as DnsRecord
from edgekube.proxy.dns.upstreams import Upstreams
from edgekube.proxy.dns.zone import Alias, Zone

log = logging.getLogger(__name__)

_IP_FREEBIND = 15
_DRAIN = 64
"""Datagrams taken at a time, so that a flood does not starve the other loops."""
_ANSWERS = 2048
"""Answers kept."""
_WAITING = 256
"""Questions waiting for upstream servers at most."""
_CONNECTIONS = 64
_IDLE = 10.0
"""Seconds a TCP connection may be silent."""
_LARGEST_STREAM = 65535


class DnsError(EdgekubeError):
    """The server cannot listen."""


class DnsServer:
    """Serves UDP and TCP on `addresses`, which need not be there yet."""

    def __init__(
        self,
        mirror: Mirror,
        *,
        addresses: Sequence[str],
        domain: str = "cluster.local",
        upstreams: Sequence[str] = (),
        port: int = 53,
    ) -> None:
        """Upstream servers are `address` or `address:port` (IPv4), never one of our own."""
        self._mirror = mirror
        self._addresses = addresses
        self._port = port
        self._zone = Zone(domain, addresses)
        servers = [_server(text) for text in upstreams]
        self._upstreams = Upstreams(servers, {(own, port) for own in addresses})
        self._answers: dict[bytes, bytes] = {}
        self._changes = -1
        self._turn = 0
        self._waiting = 0
        self._connections = 0
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Serve until cancelled; raises DnsError when an address is taken."""
        self._mirror.services.subscribe(self._zone.service_changed)
        self._mirror.endpoint_slices.subscribe(self._zone.slice_changed)
        self._mirror.config_maps.subscribe(self._config_changed)
        config = self._mirror.config_maps.get(DNS_CONFIG)
        self._config_changed(None, config)
        loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            # Before the task group, which would wrap the error.
            listeners = [self._open(stack, address) for address in self._addresses]
            async with asyncio.TaskGroup() as group:
                self._group = group
                for datagrams, stream in listeners:
                    server = await asyncio.start_server(self._connected, sock=stream)
                    stack.callback(server.close)
                    loop.add_reader(datagrams, self._readable, datagrams)
                    stack.callback(loop.remove_reader, datagrams)
                await loop.create_future()

    def _config_changed(self, old: core_v1.ConfigMap | None, new: core_v1.ConfigMap | None) -> None:
        if self._upstreams.config_changed(old, new):
            self._answers.clear()

    def _open(self, stack: ExitStack, address: str) -> tuple[socket.socket, socket.socket]:
        datagrams = stack.enter_context(_listen(address, self._port, socket.SOCK_DGRAM))
        return datagrams, stack.enter_context(_listen(address, self._port, socket.SOCK_STREAM))

    def _readable(self, listener: socket.socket) -> None:
        for _number in range(_DRAIN):
            try:
                data, client = listener.recvfrom(4096)
            except BlockingIOError:
                return
            except OSError as error:
                log.debug("dns receive: %s", error)
                return
            if self._changes != self._zone.changes:
                self._answers.clear()
                self._changes = self._zone.changes
            known = self._answers.get(data[2:])
            if known is not None:
                _send(listener, data[:2] + known, client)
            else:
                self._asked(data, listener, client)

    def _asked(self, data: bytes, listener: socket.socket, client: Server) -> None:
        """Answer a datagram now, or start looking elsewhere."""
        try:
            query = parse_query(data)
        except Malformed:
            return
        answer = self._local(query)
        if isinstance(answer, Answer):
            packed = self._build(query, answer, limit=query.size)
            if self._may_keep(query, answer):
                self._answers[data[2:]] = packed[2:]
            _send(listener, packed, client)
            return
        remembered = self._upstreams.of(query.name).remembered(data) if answer is None else None
        if remembered is not None:
            _send(listener, remembered, client)
        elif self._group is None or self._waiting >= _WAITING:
            _send(listener, self._build(query, Answer(Code.SERVFAIL), limit=query.size), client)
        else:
            self._waiting += 1
            self._group.create_task(self._answer_later(data, query, answer, listener, client))

    async def _answer_later(
        self, data: bytes, query: Query, alias: Alias | None, listener: socket.socket, client: Server
    ) -> None:
        try:
            _send(listener, await self._elsewhere(data, query, alias, tcp=False), client)
        finally:
            self._waiting -= 1

    def _local(self, query: Query) -> Answer | Alias | None:
        """Return what this server knows itself; None or an Alias need the upstream servers."""
        refusal = self._refusal(query)
        if refusal is not None:
            return Answer(refusal, authoritative=False)
        answer = self._zone.answer(query.name, query.type)
        if isinstance(answer, Alias):
            if self._zone.owns(answer.target):
                inner = self._zone.answer(answer.target, query.type)
                if isinstance(inner, Answer):
                    return Answer(
                        inner.code, [answer.record, *inner.answers], inner.authority, inner.additional
                    )
            elif self._upstreams.of(answer.target).available:
                return answer
            return Answer(answers=[answer.record])
        if answer is None and not self._upstreams.of(query.name).available:
            return Answer(Code.REFUSED, authoritative=False)
        return answer

    def _refusal(self, query: Query) -> Code | None:
        if query.code is not Code.NOERROR:
            return query.code
        if not query.internet:
            return Code.REFUSED
        if self._zone.owns(query.name) and not self._synced():
            # Better "ask again" than "no such name".
            return Code.SERVFAIL
        return None

    def _synced(self) -> bool:
        return self._mirror.services.synced.is_set() and self._mirror.endpoint_slices.synced.is_set()

    def _may_keep(self, query: Query, answer: Answer) -> bool:
        """Tell whether the same bytes may be sent again."""
        if query.code is not Code.NOERROR or not self._synced():
            return False
        if len(self._answers) >= _ANSWERS:
            self._answers.clear()
        # Several addresses take turns.
        return len(answer.answers) < 2

    def _build(self, query: Query, answer: Answer, *, limit: int) -> bytes:
        if len(answer.answers) > 1 and answer.answers[0].type in {Type.A, Type.AAAA}:
            self._turn += 1
            first = self._turn % len(answer.answers)
            turned = [*answer.answers[first:], *answer.answers[:first]]
            answer = Answer(answer.code, turned, answer.authority, answer.additional)
        return build(query, answer, limit=limit, recursion_available=self._upstreams.of(query.name).available)

    async def _elsewhere(self, data: bytes, query: Query, alias: Alias | None, *, tcp: bool) -> bytes:
        """Ask the upstream servers; what they say of an alias's target is joined to it."""
        limit = _LARGEST_STREAM if tcp else query.size
        if alias is None:
            answer = await self._upstreams.of(query.name).ask(data, tcp=tcp)
            return answer or self._build(query, Answer(Code.SERVFAIL, authoritative=False), limit=limit)
        asked = _question(query, alias)
        answer = await self._upstreams.of(alias.target).ask(asked, tcp=tcp)
        records = _addresses_in(answer, alias) if answer else None
        if records is None:
            return self._build(query, Answer(Code.SERVFAIL, [alias.record]), limit=limit)
        return self._build(query, Answer(answers=[alias.record, *records]), limit=limit)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._group is None or self._connections >= _CONNECTIONS:
            writer.close()
            return
        self._connections += 1
        self._group.create_task(self._serve_stream(reader, writer))

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the questions of one TCP connection (RFC 7766), one after the other."""
        try:
            while True:
                async with asyncio.timeout(_IDLE):
                    (size,) = struct.unpack(">H", await reader.readexactly(2))
                    data = await reader.readexactly(size)
                query = parse_query(data)
                answer = self._local(query)
                if isinstance(answer, Answer):
                    packed = self._build(query, answer, limit=_LARGEST_STREAM)
                else:
                    packed = await self._elsewhere(data, query, answer, tcp=True)
                writer.write(struct.pack(">H", len(packed)) + packed)
                async with asyncio.timeout(_IDLE):
                    await writer.drain()
        except (Malformed, OSError, TimeoutError, asyncio.IncompleteReadError):
            return
        finally:
            self._connections -= 1
            writer.close()


def _listen(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    try:
        if kind is socket.SOCK_STREAM:
            # Connections of the process before us may still be waiting for their end.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        made.bind((address, port))
        if kind is socket.SOCK_STREAM:
            made.listen(128)
    except OSError as error:
        made.close()
        raise DnsError(f"cannot listen on {address} port {port}: {error.strerror}") from error
    return made


def _send(listener: socket.socket, data: bytes, client: Server) -> None:
    try:
        listener.sendto(data, client)
    except OSError as error:
        # A client that is gone, or a full buffer: it will ask again.
        log.debug("dns answer to %s: %s", client[0], error)


def _server(text: str) -> Server:
    host, colon, port = text.rpartition(":")
    return (host, int(port)) if colon and ":" not in host else (text, 53)


def _question(query: Query, alias: Alias) -> bytes:
    """Return a query for the alias's target."""
    return struct.pack(">2sHHHHH", query.id, 0x100, 1, 0, 0, 0) + alias.record.data + query.question[-4:]


def _addresses_in(answer: bytes, alias: Alias) -> list[DnsRecord] | None:
    """Return the address records of an answer as records of the alias's target; None if it is a failure."""
    if answer[3] & 0xF not in {Code.NOERROR, Code.NXDOMAIN}:
        return None
    try:
        offset = 12 + len(alias.record.data) + 4
        found = list(read_records(answer, offset, struct.unpack_from(">H", answer, 6)[0]))
    except Malformed:
        return None
    return [
        DnsRecord(
            alias.target, record.type, record.ttl, answer[record.data_at : record.data_at + record.data_size]
        )
        for record in found
        if record.type in {Type.A, Type.AAAA}
    ]
