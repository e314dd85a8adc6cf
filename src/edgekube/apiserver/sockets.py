"""
Watches and logs as WebSocket messages (apimachinery's wsstream): for browsers, which can read no endless answer.

A watch event is a message, of text, or binary in protobuf. Of a log every piece is a binary message, or one
of base64 text when the client asks for that.
"""

import asyncio
import base64
import contextlib
from collections.abc import Sequence
from typing import Protocol

from aiohttp import web

from edgekube.api.errors import BadRequest
from edgekube.apiserver.authn.base import SUBPROTOCOL
from edgekube.apiserver.upgrading import wanted
from edgekube.apiserver.watching import Events

BINARY, BASE64 = "binary.k8s.io", "base64.binary.k8s.io"
READERS = (BINARY, BASE64)
LARGEST = 4096
"""Bytes of a message from a client that has nothing to say."""
PREFIX = 4
"""Bytes of the length before an event in protobuf (apimachinery's length-delimited frames)."""


def over_websocket(request: web.BaseRequest) -> bool:
    """Whether a request asks for a WebSocket."""
    return wanted(request).lower() == "websocket"


def offered(request: web.BaseRequest) -> Sequence[str]:
    """Return the subprotocols a client offers; its token, which comes among them, is none."""
    names = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
    return [text for name in names if (text := name.strip()) and not text.startswith(SUBPROTOCOL)]


async def opened(request: web.BaseRequest, protocols: Sequence[str]) -> web.WebSocketResponse:
    """Change a connection to a WebSocket."""
    socket = web.WebSocketResponse(protocols=protocols, max_msg_size=LARGEST)
    await socket.prepare(request)
    return socket


async def gone(socket: web.WebSocketResponse) -> None:
    """Return when the client closes; what it says until then is not listened to, but for pings."""
    async for _ in socket:
        pass


class Sink(Protocol):
    """Where the pieces of a log go."""

    async def write(self, data: bytes) -> None:
        """Send a piece; raises ConnectionResetError."""
        ...

    async def close(self) -> None:
        """Say that this was all."""
        ...


class Messages:
    """A log as messages of a WebSocket."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def write(self, data: bytes) -> None:
        """Send a message."""
        if self._socket.ws_protocol == BASE64:
            await self._socket.send_str(base64.b64encode(data).decode())
        else:
            await self._socket.send_bytes(data)

    async def close(self) -> None:
        """Close it."""
        await self._socket.close()


def readers(request: web.BaseRequest) -> Sequence[str]:
    """Return the subprotocols for a log; raises BadRequest when a client offers others only."""
    names = offered(request)
    if names and not set(names) & set(READERS):
        raise BadRequest(f"unable to upgrade: no subprotocol in common, got {sorted(names)}")
    return READERS


async def follow(request: web.BaseRequest, events: Events, *, text: bool) -> web.StreamResponse:
    """Send each event of a watch as a message, until either side ends."""
    socket = await opened(request, offered(request))
    ways = (
        asyncio.create_task(gone(socket), name="watch-client"),
        asyncio.create_task(_tell(socket, events, text=text), name="watch-events"),
    )
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
    await socket.close()
    return socket


async def _tell(socket: web.WebSocketResponse, events: Events, *, text: bool) -> None:
    with contextlib.suppress(ConnectionResetError):
        async for batch in events:
            for event in batch:
                if text:
                    await socket.send_str(event.frame.decode().rstrip("\n"))
                else:
                    # A message says itself how long it is.
                    await socket.send_bytes(event.frame[PREFIX:])
