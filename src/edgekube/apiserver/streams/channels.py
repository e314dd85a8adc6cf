"""
Exec and attach over WebSocket channels (v4.channel.k8s.io, v5.channel.k8s.io; KEP-4006).

Each binary message begins with a channel byte: 0 stdin, 1 stdout, 2 stderr, 3 the final Status,
4 the terminal's size; in v5, 255 followed by a channel closes that channel.
"""

import asyncio

import msgspec
from aiohttp import WSMsgType, web

from edgekube.api.errors import InternalError
from edgekube.transport.base import ERROR, RESIZE, STDIN, Stream, StreamClosed

V5 = "v5.channel.k8s.io"
PROTOCOLS = (V5, "v4.channel.k8s.io")
CLOSE = 255
SUCCESS = b'{"metadata":{},"status":"Success"}'


async def bridge(socket: web.WebSocketResponse, stream: Stream) -> None:
    """Carry messages both ways until either side ends."""
    feeding = asyncio.create_task(_feed(socket, stream), name="stream-in")
    try:
        await _drain(socket, stream)
        await socket.close()
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def _feed(socket: web.WebSocketResponse, stream: Stream) -> None:
    try:
        async for message in socket:
            data = message.data
            if message.type is WSMsgType.TEXT:
                data = message.data.encode()
            elif message.type is not WSMsgType.BINARY:
                continue
            if data[:1] == bytes((CLOSE,)) and socket.ws_protocol == V5:
                if data[1:2] == bytes((STDIN,)):
                    await stream.send(STDIN, b"")
            elif len(data) > 1 and data[0] in {STDIN, RESIZE}:
                await stream.send(data[0], data[1:])
        # The client went away: its command loses its terminal.
        await stream.close("the client closed the connection")
    except StreamClosed:
        return


async def _drain(socket: web.WebSocketResponse, stream: Stream) -> None:
    told = False
    try:
        while (frame := await stream.receive()) is not None:
            channel, data = frame
            if data:
                told = told or channel == ERROR
                await socket.send_bytes(bytes((channel,)) + data)
        if not told:
            await socket.send_bytes(bytes((ERROR,)) + SUCCESS)
    except StreamClosed as error:
        if not told and not socket.closed:
            status = msgspec.json.encode(InternalError(error.reason).tree())
            await socket.send_bytes(bytes((ERROR,)) + status)
    except ConnectionResetError:
        return
