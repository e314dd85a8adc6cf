"""
Upgraded connections (RFC 9110 §7.8) passed on as they are: SPDY/3.1, WebSockets, whatever both ends agree on.

Nothing here reads what goes through: frames, pings and extensions are between the two ends.
"""

import asyncio
import contextlib
import logging
from typing import Any, cast

from aiohttp import ClientResponse, web
from aiohttp.http import StreamWriter
from multidict import CIMultiDict

from edgekube.api.errors import ServiceUnavailable

log = logging.getLogger(__name__)

CHUNK = 64 * 1024
BUFFER = 64 * 1024
"""Bytes kept of an end whose peer does not read, before it is not read itself (asyncio keeps twice that)."""


def wanted(raw: web.BaseRequest) -> str:
    """Return the protocol a request asks to change to; "" for an ordinary one."""
    words = {word.strip().lower() for word in raw.headers.get("Connection", "").split(",")}
    return raw.headers.get("Upgrade", "") if "upgrade" in words else ""


class _Feed:
    """What a connection says from now on, as a stream that holds the sender back."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.stream = asyncio.StreamReader(limit=BUFFER)
        # A stream pauses and resumes what feeds it.
        cast("Any", self.stream).set_transport(transport)

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes; the connection's protocol never gets anything back."""
        if data:
            self.stream.feed_data(data)
        return False, b""

    def feed_eof(self) -> None:
        """Take the end."""
        self.stream.feed_eof()


async def tunnel(
    raw: web.BaseRequest, answer: ClientResponse, headers: CIMultiDict[str]
) -> web.StreamResponse:
    """Tell the client that the protocol changes, and carry bytes both ways until either end is gone."""
    connection, transport = answer.connection, raw.transport
    if connection is None or connection.transport is None or connection.protocol is None or transport is None:
        raise ServiceUnavailable("error trying to reach service: it is gone")
    here, there = _Feed(transport), _Feed(connection.transport)
    response = web.StreamResponse(status=101, headers=headers)
    response.headers["Connection"] = "Upgrade"
    response.headers["Upgrade"] = answer.headers.get("Upgrade", "")
    response.force_close()
    # From here on neither connection speaks HTTP.
    raw.protocol.set_parser(cast("Any", here))
    await response.prepare(raw)
    connection.protocol.set_parser(there, None)
    loop = asyncio.get_running_loop()
    ways = (
        asyncio.create_task(
            _carry(here.stream, StreamWriter(connection.protocol, loop)), name="tunnel-there"
        ),
        asyncio.create_task(_carry(there.stream, StreamWriter(raw.protocol, loop)), name="tunnel-back"),
    )
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        answer.close()
    return response


async def _carry(source: asyncio.StreamReader, target: StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(CHUNK):
            await target.write(data)
