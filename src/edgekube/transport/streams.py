"""The two ends of a connection that carry streams: the master's gateway, the node's acceptor."""

import asyncio
import secrets
from collections.abc import Callable

import msgspec

from edgekube.api.errors import ServiceUnavailable, Timeout
from edgekube.transport.base import (
    Delivery,
    Disconnected,
    LinkState,
    Message,
    Stream,
    StreamClosed,
    StreamHandler,
    StreamRequest,
    Transport,
)  # fmt: skip
from edgekube.transport.line import Frame, FrameType, Line, frame_of, reset
from edgekube.transport.topics import Topics, node_of, stream_of

OPEN_TIMEOUT = 10.0
"""Seconds a node has to accept a stream."""
GRACE = 5.0
"""Seconds a handler has to return after the other side ended the stream; then it is cancelled."""
MAX_STREAMS = 256
"""Streams a node serves at once."""


class _Mux:
    """Streams by (node, id), and the tasks that belong to them; run `run`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._lines: dict[tuple[str, str], Line] = {}
        self._group: asyncio.TaskGroup | None = None
        transport.on_state(self._state)

    def __len__(self) -> int:
        return len(self._lines)

    async def run(self) -> None:
        """Own the tasks of streams until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None

    def _line(self, key: tuple[str, str], topic: str) -> Line:
        line = Line(topic, self._send, lambda: self._forget(key))
        self._lines[key] = line
        return line

    def _forget(self, key: tuple[str, str]) -> None:
        self._lines.pop(key, None)

    def _state(self, state: LinkState) -> None:
        if state is LinkState.DOWN:
            self._lose("connection lost")

    def _lose(self, reason: str, *, node: str = "") -> None:
        for (name, _), line in tuple(self._lines.items()):
            if node in {"", name}:
                line.lose(reason)

    def _refuse(self, topic: str, frame: Frame) -> None:
        """Tell a peer that sends into a stream we do not know: its end was lost on the way."""
        if frame.type == FrameType.DATA and self._group is not None:
            self._group.create_task(self._send(topic, reset("unknown stream")), name="stream-reset")

    async def _send(self, topic: str, payload: bytes) -> None:
        try:
            await self._transport.publish(Message(topic, payload), delivery=Delivery.AT_MOST_ONCE)
        except Disconnected:
            # The connection's end ends every stream; that is what its users hear.
            self._lose("connection lost")


class Gateway(_Mux):
    """The master's side: a StreamGateway. `present` tells whether a node has a connection."""

    def __init__(
        self, transport: Transport, topics: Topics, *, present: Callable[[str], bool] | None = None,
        patience: float = OPEN_TIMEOUT,
    ) -> None:  # fmt: skip
        super().__init__(transport)
        self._topics = topics
        self._present = present or (lambda _node: True)
        self._patience = patience
        transport.subscribe(topics.stream_out("+", "+"), self._take)
        transport.subscribe(topics.gone("+"), lambda message: self.node_gone(node_of(message.topic)))

    async def open(self, node: str, request: StreamRequest) -> Stream:
        """Open a stream; raises ServiceUnavailable when the node is away, Timeout if it does not answer."""
        if not self._present(node):
            raise ServiceUnavailable(f"node {node} is not connected")
        stream = secrets.token_hex(8)
        line = self._line((node, stream), self._topics.stream_in(node, stream))
        try:
            await line.say(FrameType.OPEN, data=msgspec.msgpack.encode(request))
            async with asyncio.timeout(self._patience):
                await asyncio.shield(line.accepted)
        except StreamClosed as error:
            raise ServiceUnavailable(f"node {node}: {error.reason}") from error
        except TimeoutError as error:
            await line.close("timed out")
            raise Timeout(f"node {node} did not answer within {self._patience:g}s") from error
        except asyncio.CancelledError:
            await line.close("cancelled")
            raise
        return line

    def node_gone(self, node: str) -> None:
        """End every stream of a node that went away."""
        self._lose("the node went away", node=node)

    def _take(self, message: Message) -> None:
        node, stream, frame = node_of(message.topic), stream_of(message.topic), frame_of(message)
        line = self._lines.get((node, stream))
        if frame is None:
            return
        if line is not None:
            line.take(frame)
        else:
            self._refuse(self._topics.stream_in(node, stream), frame)


class Acceptor(_Mux):
    """The node's side: serves every stream that is opened with `handler`."""

    def __init__(self, transport: Transport, topics: Topics, node: str, handler: StreamHandler) -> None:
        super().__init__(transport)
        self._topics, self._node, self._handler = topics, node, handler
        transport.subscribe(topics.stream_in(node, "+"), self._take)
        transport.subscribe(topics.all_gone, lambda _message: self._lose("the master went away"))

    def _take(self, message: Message) -> None:
        stream, frame = stream_of(message.topic), frame_of(message)
        line = self._lines.get((self._node, stream))
        topic = self._topics.stream_out(self._node, stream)
        if frame is None:
            return
        if line is not None:
            line.take(frame)
        elif frame.type == FrameType.OPEN and self._group is not None:
            line = self._line((self._node, stream), topic)
            line.take(frame)
            self._group.create_task(self._serve(line, frame.data), name=f"stream-{stream}")
        else:
            self._refuse(topic, frame)

    async def _serve(self, line: Line, raw: bytes) -> None:
        reason = ""
        try:
            if len(self._lines) > MAX_STREAMS:
                raise StreamClosed("too many streams")  # noqa: TRY301 - reported like the handler's own
            request = msgspec.msgpack.decode(raw, type=StreamRequest)
            await line.say(FrameType.ACCEPT)
            await self._handle(request, line)
        except asyncio.CancelledError:
            reason = "the node's agent stops"
            raise
        except StreamClosed as error:
            reason = error.reason
        except Exception as error:  # noqa: BLE001 - whatever a handler raises reaches the other side
            reason = str(error) or type(error).__name__
        finally:
            await line.close(reason)

    async def _handle(self, request: StreamRequest, line: Line) -> None:
        """Call the handler; when the other side is gone and the handler does not notice, cancel it."""
        serving = asyncio.ensure_future(self._handler(request, line))
        ended = asyncio.ensure_future(line.gone.wait())
        try:
            await asyncio.wait((serving, ended), return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                await asyncio.wait((serving,), timeout=GRACE)
        finally:
            ended.cancel()
            serving.cancel()
            await asyncio.wait((serving, ended))
        if not serving.cancelled():
            serving.result()
