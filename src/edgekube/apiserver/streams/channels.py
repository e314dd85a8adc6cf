"""
Exec and attach over WebSocket channels (channel.k8s.io to v5.channel.k8s.io; KEP-4006).

Each binary message begins with a channel byte: 0 stdin, 1 stdout, 2 stderr, 3 the final Status,
4 the terminal's size; in v5, 255 followed by a channel closes that channel. The base64 variants have
the channel as a digit and the rest in base64. Before v4, which is also what a client speaks that names
no protocol, the last message is an error's text, and of success nothing is said.
"""

import asyncio
import base64

import msgspec
from aiohttp import WSMsgType, web

from edgekube.api.errors import InternalError
from edgekube.transport.base import ERROR, RESIZE, STDIN, Stream, StreamClosed

V5 = "v5.channel.k8s.io"
V4, V4_TEXT, PLAIN, PLAIN_TEXT = (
    "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io",
)  # fmt: skip
PROTOCOLS = (V5, V4, V4_TEXT, PLAIN, PLAIN_TEXT)
IN_TEXT = frozenset({V4_TEXT, PLAIN_TEXT})
WITHOUT_STATUS = frozenset({None, PLAIN, PLAIN_TEXT})
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
            if message.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
                continue
            data = _read(socket, message.data)
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
                await _write(socket, channel, data)
        if not told:
            await _write(socket, ERROR, SUCCESS)
    except StreamClosed as error:
        if not told and not socket.closed:
            status = msgspec.json.encode(InternalError(error.reason).tree())
            await _write(socket, ERROR, status)
    except ConnectionResetError:
        return


def _read(socket: web.WebSocketResponse, data: str | bytes) -> bytes:
    """Return a message as channel byte and content; b"" for one that cannot be read."""
    raw = data.encode() if isinstance(data, str) else data
    if socket.ws_protocol not in IN_TEXT:
        return raw
    try:
        return bytes((int(raw[:1]),)) + base64.b64decode(raw[1:], validate=True)
    except ValueError:
        return b""


async def _write(socket: web.WebSocketResponse, channel: int, data: bytes) -> None:
    if channel == ERROR and socket.ws_protocol in WITHOUT_STATUS:
        data = failure_text(data)
        if not data:
            return
    if socket.ws_protocol in IN_TEXT:
        await socket.send_str(f"{channel}{base64.b64encode(data).decode()}")
    else:
        await socket.send_bytes(bytes((channel,)) + data)


def failure_text(status: bytes) -> bytes:
    """Return what a Status says of a failure, as those want it that know no Status; b"" for success."""
    try:
        tree = msgspec.json.decode(status)
    except msgspec.DecodeError:
        return status
    failed = isinstance(tree, dict) and tree.get("status") != "Success"
    return str(tree.get("message", "")).encode() if failed else b""
