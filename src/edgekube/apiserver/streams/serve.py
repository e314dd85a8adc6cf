"""Which sort of stream goes which way."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from aiohttp import web

from edgekube.api.errors import BadRequest
from edgekube.api.types import core_v1
from edgekube.apiserver.sockets import Messages, Sink, gone, opened, over_websocket, readers
from edgekube.apiserver.streams import channels, forward, remote
from edgekube.apiserver.streams.carriers import WebSocketCarrier, negotiated, over_spdy, spdy_upgrade
from edgekube.apiserver.streams.params import request_of
from edgekube.transport.base import STDOUT, Stream, StreamClosed, StreamGateway, StreamRequest

LOOK = 1.0
"""Seconds between two looks whether the reader of a log is still there."""
PROTOCOLS = "sec-websocket-protocol"


async def serve_stream(
    request: web.BaseRequest, *, kind: str, pod: core_v1.Pod, gateway: StreamGateway
) -> web.StreamResponse:
    """Serve one log, exec, attach or portforward request to its end; raises StatusError before it has begun."""
    return await KINDS[kind](request, pod, request_of(kind, pod, request.query), gateway)


async def _log(
    request: web.BaseRequest, pod: core_v1.Pod, wish: StreamRequest, gateway: StreamGateway
) -> web.StreamResponse:
    stream = await gateway.open(pod.spec.node_name, wish)
    watcher = asyncio.create_task(_close_when_gone(request, stream), name="log-client")
    try:
        # The first frame decides whether this is a log or an error.
        try:
            frame = await stream.receive()
        except StreamClosed as error:
            raise BadRequest(error.reason) from error
        if not over_websocket(request):
            chunks = await _chunked(request)
            await _copy(stream, frame, chunks)
            return chunks.response
        socket = await opened(request, readers(request))
        listening = asyncio.create_task(_close_when_closed(socket, stream), name="log-listener")
        try:
            await _copy(stream, frame, Messages(socket))
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        return socket
    finally:
        watcher.cancel()
        await stream.close()


async def _copy(stream: Stream, frame: tuple[int, bytes] | None, sink: Sink) -> None:
    """Pass a log on, from its first frame."""
    try:
        while frame is not None:
            if frame[0] == STDOUT and frame[1]:
                await sink.write(frame[1])
            frame = await stream.receive()
    except StreamClosed as error:
        await sink.write(f"unable to read the log further: {error.reason}\n".encode())
    await sink.close()


@dataclass(frozen=True, slots=True)
class _Chunks:
    """The body of an ordinary answer."""

    response: web.StreamResponse

    async def write(self, data: bytes) -> None:
        await self.response.write(data)

    async def close(self) -> None:
        await self.response.write_eof()


async def _chunked(request: web.BaseRequest) -> _Chunks:
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    return _Chunks(response)


async def _close_when_gone(request: web.BaseRequest, stream: Stream) -> None:
    """End the stream of a client that went away: while nothing is written, nobody else would notice."""
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(LOOK)
    await stream.close("the client went away")


async def _close_when_closed(socket: web.WebSocketResponse, stream: Stream) -> None:
    await gone(socket)
    await stream.close("the client went away")


async def _command(
    request: web.BaseRequest, pod: core_v1.Pod, wish: StreamRequest, gateway: StreamGateway
) -> web.StreamResponse:
    if over_spdy(request):
        protocol = negotiated(request, remote.PROTOCOLS)
        stream = await gateway.open(pod.spec.node_name, wish)
        try:
            response, carrier = await spdy_upgrade(request, protocol)
            await remote.serve(carrier, stream, wish, protocol=protocol)
            return response
        finally:
            await stream.close()
    # As Kubernetes does: who offers no protocol speaks the first one.
    _need_websocket(request)
    stream = await gateway.open(pod.spec.node_name, wish)
    try:
        socket = web.WebSocketResponse(protocols=channels.PROTOCOLS, max_msg_size=0)
        await socket.prepare(request)
        await channels.bridge(socket, stream)
        return socket
    finally:
        await stream.close()


async def _forward(
    request: web.BaseRequest, pod: core_v1.Pod, wish: StreamRequest, gateway: StreamGateway
) -> web.StreamResponse:

    async def connect(port: int) -> Stream:
        return await gateway.open(pod.spec.node_name, replace_port(wish, port))

    if over_spdy(request):
        response, carrier = await spdy_upgrade(request, negotiated(request, forward.SPDY_PROTOCOLS))
        await forward.tunnel(carrier, connect)
        return response
    # As Kubernetes does: who offers no protocol speaks v4 channels.
    _need_websocket(request)
    ports = [_port(text) for value in request.query.getall("ports", ()) for text in value.split(",")]
    socket = web.WebSocketResponse(protocols=(*forward.PROTOCOLS, *channels.PROTOCOLS), max_msg_size=0)
    await socket.prepare(request)
    if socket.ws_protocol in forward.PROTOCOLS:
        await forward.tunnel(WebSocketCarrier(socket), connect)
    else:
        await forward.by_channels(socket, ports, connect)
    return socket


def replace_port(wish: StreamRequest, port: int) -> StreamRequest:
    """Return the request for one port."""
    return msgspec.structs.replace(wish, port=port)


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    raise BadRequest(f'ports: Invalid value: "{text}": must be between 1 and 65535')


def _need_websocket(request: web.BaseRequest) -> None:
    if not over_websocket(request):
        raise BadRequest("Upgrade request required")
    if not request.headers.get(PROTOCOLS):
        return
    offered = {name.strip() for name in request.headers.get(PROTOCOLS, "").split(",")}
    if offered.isdisjoint({*channels.PROTOCOLS, *forward.PROTOCOLS}):
        raise BadRequest(f"unable to upgrade: no subprotocol in common, got {sorted(offered)}")


Serve = Callable[[web.BaseRequest, core_v1.Pod, StreamRequest, StreamGateway], Awaitable[web.StreamResponse]]
KINDS: dict[str, Serve] = {"log": _log, "exec": _command, "attach": _command, "portforward": _forward}
