"""
What carries SPDY/3.1 frames: a connection that was upgraded to it, or a WebSocket (KEP-4006).

Clients of before Kubernetes 1.31, and every program that uses client-go's SPDY executor, do the former.
"""

import contextlib
from asyncio import StreamReader
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from aiohttp import WSMsgType, web
from aiohttp.http import StreamWriter
from multidict import CIMultiDict

from edgekube.api.errors import Forbidden
from edgekube.apiserver.upgrading import upgrade, wanted

SPDY = "SPDY/3.1"
PROTOCOL = "X-Stream-Protocol-Version"
"""Says what the streams of a SPDY connection are for: the client its choices, the server which it takes."""
CHUNK = 64 * 1024


class Carrier(Protocol):
    """Bytes both ways."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield what the client says, until it goes."""
        ...

    async def send(self, data: bytes) -> None:
        """Send whole frames; raises ConnectionResetError when the client is gone."""
        ...

    async def close(self) -> None:
        """Say no more."""
        ...


class WebSocketCarrier:
    """Binary messages of a WebSocket."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield messages."""
        async for message in self._socket:
            if message.type is WSMsgType.BINARY:
                yield message.data

    async def send(self, data: bytes) -> None:
        """Send one message."""
        await self._socket.send_bytes(data)

    async def close(self) -> None:
        """Close the WebSocket."""
        await self._socket.close()


class UpgradedCarrier:
    """A connection that speaks SPDY itself; it ends with the request."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield what comes."""
        with contextlib.suppress(OSError):
            while data := await self._reader.read(CHUNK):
                yield data

    async def send(self, data: bytes) -> None:
        """Write."""
        await self._writer.write(data)

    async def close(self) -> None:
        """Leave it to the end of the request."""


def over_spdy(request: web.BaseRequest) -> bool:
    """Whether a request asks for SPDY/3.1."""
    return wanted(request).upper() == SPDY


def negotiated(request: web.BaseRequest, served: Sequence[str]) -> str:
    """Return the first protocol of the client's choices that is served, "" if it names none; raises Forbidden."""
    lines = request.headers.getall(PROTOCOL, ())
    choices = [name for line in lines for word in line.split(",") if (name := word.strip())]
    if not choices:
        return ""
    for name in choices:
        if name in served:
            return name
    offered, accepted = " ".join(choices), " ".join(served)
    raise Forbidden(
        f"unable to upgrade: unable to negotiate protocol: client supports [{offered}], server accepts [{accepted}]"
    )


async def spdy_upgrade(request: web.BaseRequest, protocol: str) -> tuple[web.StreamResponse, UpgradedCarrier]:
    """Change a connection to SPDY/3.1 whose streams are for `protocol`."""
    headers: CIMultiDict[str] = CIMultiDict({PROTOCOL: protocol} if protocol else {})
    response, reader, writer = await upgrade(request, headers, SPDY)
    return response, UpgradedCarrier(reader, writer)
