"""
Port-forwarding: SPDY inside a WebSocket (kubectl) or alone, or WebSocket channels (the Python client).

Every forwarded connection is one stream to the node.
"""

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NoReturn

from aiohttp import WSMsgType, web

from edgekube.apiserver.streams import spdy
from edgekube.apiserver.streams.carriers import Carrier
from edgekube.lib.errors import EdgekubeError
from edgekube.transport.base import STDIN, STDOUT, Stream, StreamClosed

log = logging.getLogger(__name__)

PROTOCOLS = ("SPDY/3.1+portforward.k8s.io",)
"""Over WebSockets (KEP-4006)."""
SPDY_PROTOCOLS = ("portforward.k8s.io",)
PENDING = 256
"""Frames of one connection that may wait for the node; then the whole tunnel waits."""
Connect = Callable[[int], Awaitable[Stream]]
"""Opens a stream to a port of the pod; raises EdgekubeError."""


@dataclass(slots=True)
class _Pair:
    """A connection: SPDY's error and data streams with the same requestID."""

    error: int = 0
    data: int = 0
    port: int = 0
    incoming: "asyncio.Queue[bytes]" = field(default_factory=lambda: asyncio.Queue(PENDING))


async def tunnel(carrier: Carrier, connect: Connect) -> None:
    """Serve SPDY/3.1 until the client goes."""
    try:
        async with asyncio.TaskGroup() as group:
            # When it ends, those connections still open have lost their client.
            await _Tunnel(carrier, connect, group).run()
    except* (_ClientGone, ConnectionResetError):
        pass
    except* spdy.SpdyError as errors:
        log.warning("port-forward: %s", errors.exceptions[0])
    await carrier.close()


class _ClientGone(EdgekubeError):
    """Ends the task group."""


class _Tunnel:
    def __init__(self, carrier: Carrier, connect: Connect, group: asyncio.TaskGroup) -> None:
        self._carrier = carrier
        self._connect = connect
        self._group = group
        self._spdy = spdy.Connection()
        self._pairs: dict[str, _Pair] = {}
        self._streams: dict[int, _Pair] = {}

    async def run(self) -> None:
        async for data in self._carrier:
            for event in self._spdy.feed(data):
                await self._take(event)
        _gone()

    async def _take(self, event: spdy.Event) -> None:
        if isinstance(event, spdy.Opened):
            await self._opened(event)
        elif isinstance(event, spdy.Data):
            pair = self._streams.get(event.stream)
            if pair is not None and event.stream == pair.data:
                if event.data:
                    await pair.incoming.put(event.data)
                if event.fin:
                    await pair.incoming.put(b"")
        elif isinstance(event, spdy.Reset):
            pair = self._streams.pop(event.stream, None)
            if pair is not None and event.stream == pair.data:
                await pair.incoming.put(b"")
        elif isinstance(event, spdy.Answer):
            await self._carrier.send(event.data)

    async def _opened(self, event: spdy.Opened) -> None:
        request, kind = event.headers.get("requestid", ""), event.headers.get("streamtype")
        pair = self._pairs.setdefault(request, _Pair())
        self._streams[event.stream] = pair
        await self._carrier.send(self._spdy.reply(event.stream))
        if kind == "error":
            pair.error = event.stream
        elif kind == "data":
            pair.data = event.stream
            pair.port = int(event.headers.get("port", "0") or "0")
        if pair.error and pair.data:
            del self._pairs[request]
            self._group.create_task(self._serve(pair), name="forward")

    async def _serve(self, pair: _Pair) -> None:
        problem = ""
        try:
            stream = await self._connect(pair.port)
        except EdgekubeError as error:
            problem = str(error)
        else:
            problem = await self._copy(pair, stream)
        if problem:
            text = f"an error occurred forwarding to port {pair.port}: {problem}"
            await self._carrier.send(spdy.data(pair.error, text.encode()))
        await self._carrier.send(spdy.data(pair.error, b"", fin=True))
        await self._carrier.send(spdy.data(pair.data, b"", fin=True))
        self._streams.pop(pair.data, None)
        self._streams.pop(pair.error, None)

    async def _copy(self, pair: _Pair, stream: Stream) -> str:
        feeding = asyncio.create_task(_feed(pair.incoming, stream), name="forward-in")
        try:
            while (frame := await stream.receive()) is not None:
                if frame[0] == STDOUT and frame[1]:
                    await self._carrier.send(spdy.data(pair.data, frame[1]))
        except StreamClosed as error:
            return error.reason
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            await stream.close()
        return ""


async def _feed(incoming: "asyncio.Queue[bytes]", stream: Stream) -> None:
    try:
        while data := await incoming.get():
            await stream.send(STDIN, data)
        await stream.send(STDIN, b"")
    except StreamClosed:
        return


async def by_channels(socket: web.WebSocketResponse, ports: list[int], connect: Connect) -> None:
    """Serve v4 channels: two a port, data then error; each begins with the port, little-endian."""
    queues: list[asyncio.Queue[bytes]] = [asyncio.Queue(PENDING) for _ in ports]
    try:
        async with asyncio.TaskGroup() as group:
            for index, port in enumerate(ports):
                for channel in (2 * index, 2 * index + 1):
                    await socket.send_bytes(bytes((channel,)) + struct.pack("<H", port))
                group.create_task(_channel(socket, index, queues[index], await connect(port)), name="forward")
            await _dispatch(socket, queues)
    except* (_ClientGone, ConnectionResetError, EdgekubeError):
        pass
    await socket.close()


async def _dispatch(socket: web.WebSocketResponse, queues: "list[asyncio.Queue[bytes]]") -> None:
    async for message in socket:
        if message.type is WSMsgType.BINARY and len(message.data) > 1 and message.data[0] // 2 < len(queues):
            await queues[message.data[0] // 2].put(message.data[1:])
    _gone()


def _gone() -> NoReturn:
    raise _ClientGone


async def _channel(
    socket: web.WebSocketResponse, index: int, incoming: "asyncio.Queue[bytes]", stream: Stream
) -> None:
    feeding = asyncio.create_task(_feed(incoming, stream), name="forward-in")
    try:
        while (frame := await stream.receive()) is not None:
            if frame[0] == STDOUT and frame[1]:
                await socket.send_bytes(bytes((2 * index,)) + frame[1])
    except StreamClosed as error:
        await socket.send_bytes(bytes((2 * index + 1,)) + error.reason.encode())
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        await stream.close()
    if not socket.closed:
        await socket.close()
