"""Connections that change from HTTP to another protocol (RFC 9110 §7.8): from then on they are bytes both ways."""

import asyncio
from typing import Any, cast

from aiohttp import web
from aiohttp.http import StreamWriter
from multidict import CIMultiDict

from edgekube.api.errors import ServiceUnavailable

BUFFER = 64 * 1024
"""Bytes kept of an end whose peer does not read, before it is not read itself (asyncio keeps twice that)."""


def wanted(raw: web.BaseRequest) -> str:
    """Return the protocol a request asks to change to; "" for an ordinary one."""
    words = {word.strip().lower() for word in raw.headers.get("Connection", "").split(",")}
    return raw.headers.get("Upgrade", "") if "upgrade" in words else ""


class Feed:
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


async def upgrade(
    raw: web.BaseRequest, headers: CIMultiDict[str], protocol: str
) -> tuple[web.StreamResponse, asyncio.StreamReader, StreamWriter]:
    """Tell the client that the protocol changes; return the answer, and what reads and writes from now on."""
    if raw.transport is None:
        raise ServiceUnavailable("the client is gone")
    feed = Feed(raw.transport)
    response = web.StreamResponse(status=101, headers=headers)
    response.headers["Connection"] = "Upgrade"
    response.headers["Upgrade"] = protocol
    response.force_close()
    # From here on the connection speaks no HTTP.
    raw.protocol.set_parser(cast("Any", feed))
    await response.prepare(raw)
    return response, feed.stream, StreamWriter(raw.protocol, asyncio.get_running_loop())
