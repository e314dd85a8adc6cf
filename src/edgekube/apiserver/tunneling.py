"""
Upgraded connections passed on as they are: SPDY/3.1, WebSockets, whatever both ends agree on.

Nothing here reads what goes through: frames, pings and extensions are between the two ends.
"""

import asyncio
import contextlib

from aiohttp import ClientResponse, web
from aiohttp.http import StreamWriter
from multidict import CIMultiDict

from edgekube.api.errors import ServiceUnavailable
from edgekube.apiserver.upgrading import Feed, upgrade

CHUNK = 64 * 1024


async def tunnel(
    raw: web.BaseRequest, answer: ClientResponse, headers: CIMultiDict[str]
) -> web.StreamResponse:
    """Tell the client that the protocol changes, and carry bytes both ways until either end is gone."""
    connection = answer.connection
    if connection is None or connection.transport is None or connection.protocol is None:
        raise ServiceUnavailable("error trying to reach service: it is gone")
    there = Feed(connection.transport)
    response, reader, writer = await upgrade(raw, headers, answer.headers.get("Upgrade", ""))
    connection.protocol.set_parser(there, None)
    onward = StreamWriter(connection.protocol, asyncio.get_running_loop())
    ways = (
        asyncio.create_task(_carry(reader, onward), name="tunnel-there"),
        asyncio.create_task(_carry(there.stream, writer), name="tunnel-back"),
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
