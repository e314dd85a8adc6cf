"""
Streams over messages: logs, exec, attach and port-forward between master and node.

Each stream has two topics, one a direction. A frame is a msgpack array `[type, number, channel,
data]`; `number` counts the frames of a direction from 0, so a repeated one is dropped and a missing
one ends the stream. A sender may have WINDOW bytes on the way; the receiver grants more as its
reader consumes (credit), so a slow reader slows the writer and nobody buffers without bound. A
lost connection ends all streams: their users start new ones.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Protocol

import msgspec

from edgekube.api.errors import ServiceUnavailable, Timeout
from edgekube.lib.errors import EdgekubeError
from edgekube.transport.base import (
    Disconnected,
    LinkState,
    Message,
    Stream,
    StreamClosed,
    StreamHandler,
    StreamRequest,
    Transport,
)
from edgekube.transport.topics import Topics

log = logging.getLogger(__name__)

WINDOW = 256 << 10
"""Bytes on the way in one direction of one stream."""
CHUNK = 32 << 10
"""Bytes in one frame."""
GRANT = WINDOW // 4
"""Consumed bytes after which credit is given back."""
MAX_STREAMS = 128
"""Streams a node serves at once."""
OPEN_TIMEOUT = 10.0
"""Seconds a node has to accept."""


class Type(IntEnum):
    """Frame types; numbers are for ever."""

    OPEN = 1
    ACCEPT = 2
    DATA = 3
    CREDIT = 4
    CLOSE = 5


class Frame(msgspec.Struct, array_like=True, frozen=True):
    """One message of a stream. DATA: bytes of `channel`; CREDIT: `channel` holds the bytes granted."""

    type: int
    number: int
    channel: int = 0
    data: bytes = b""


class Send(Protocol):
    """Bring a frame to the other side; raises Disconnected."""

    async def __call__(self, frame: Frame) -> None:  # noqa: D102 - see the class
        ...


class End(Stream):
    """One end of a stream."""

    def __init__(self, send: Send, *, on_close: Callable[[], None]) -> None:
        self._send = send
        self._on_close = on_close
        self._frames: deque[tuple[int, bytes]] = deque()
        self._wake = asyncio.Event()
        self._credit = WINDOW
        self._granted = asyncio.Event()
        self._consumed = 0
        self._sent = 0
        self._expected = 0
        self._ended: str | None = None
        self.accepted = asyncio.Event()

    def take(self, frame: Frame) -> None:
        """Take a frame from the other side."""
        if frame.number < self._expected or self._ended is not None:
            return
        if frame.number > self._expected:
            self.end("frames were lost")
            return
        self._expected += 1
        if frame.type == Type.DATA:
            self._frames.append((frame.channel, frame.data))
            self._wake.set()
        elif frame.type == Type.CREDIT:
            self._credit += frame.channel
            self._granted.set()
        elif frame.type == Type.ACCEPT:
            self.accepted.set()
        elif frame.type == Type.CLOSE:
            self.end(frame.data.decode(errors="replace"))

    def end(self, reason: str) -> None:
        """Close without telling the other side, which closed or is gone; "" is a clean end."""
        if self._ended is None:
            self._ended = reason
            for event in (self._wake, self._granted, self.accepted):
                event.set()
            self._on_close()

    @property
    def reason(self) -> str | None:
        """Why it ended, None while it is open."""
        return self._ended

    async def transmit(self, kind: Type, channel: int = 0, data: bytes = b"") -> None:
        """Send one numbered frame."""
        number = self._sent
        self._sent += 1
        try:
            await self._send(Frame(int(kind), number, channel, data))
        except Disconnected as error:
            self.end("the connection was lost")
            raise StreamClosed("the connection was lost") from error

    async def send(self, channel: int, data: bytes) -> None:
        """Send; waits for credit. b"" ends the channel."""
        if not data:
            self._check()
            await self.transmit(Type.DATA, channel)
        view = memoryview(data)
        while view:
            while self._credit <= 0 and self._ended is None:
                self._granted.clear()
                await self._granted.wait()
            self._check()
            part = view[: min(CHUNK, self._credit)]
            self._credit -= len(part)
            view = view[len(part) :]
            await self.transmit(Type.DATA, channel, bytes(part))

    def _check(self) -> None:
        if self._ended is not None:
            raise StreamClosed(self._ended or "the other side closed the stream")

    async def receive(self) -> tuple[int, bytes] | None:
        """Return the next frame's channel and data, None after a clean end."""
        while not self._frames:
            if self._ended is not None:
                if self._ended:
                    raise StreamClosed(self._ended)
                return None
            self._wake.clear()
            await self._wake.wait()
        channel, data = self._frames.popleft()
        self._consumed += len(data)
        if self._consumed >= GRANT and self._ended is None:
            consumed, self._consumed = self._consumed, 0
            await self.transmit(Type.CREDIT, consumed)
        return channel, data

    async def close(self, reason: str = "") -> None:
        """Tell the other side and end."""
        if self._ended is None:
            try:
                await self.transmit(Type.CLOSE, data=reason.encode())
            except StreamClosed:
                return
            self.end(reason)


class _Streams:
    """Streams by their topic; what both sides share."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._ends: dict[str, End] = {}
        transport.on_state(self._link)

    def __len__(self) -> int:
        return len(self._ends)

    def _link(self, state: LinkState) -> None:
        if state is LinkState.DOWN:
            self._end_all("", "the connection was lost")

    def _end_all(self, prefix: str, reason: str) -> None:
        for topic, end in tuple(self._ends.items()):
            if topic.startswith(prefix):
                end.end(reason)

    def _make(self, incoming: str, outgoing: str) -> End:
        async def send(frame: Frame) -> None:
            await self._transport.publish(Message(outgoing, msgspec.msgpack.encode(frame)))

        end = End(send, on_close=lambda: self._forget(incoming))
        self._ends[incoming] = end
        return end

    def _forget(self, incoming: str) -> None:
        self._ends.pop(incoming, None)


def _decode(message: Message) -> Frame | None:
    try:
        return msgspec.msgpack.decode(message.payload, type=Frame)
    except (msgspec.DecodeError, msgspec.ValidationError):
        log.warning("%s: not a frame", message.topic)
        return None


class Gateway(_Streams):
    """The master's side: opens streams to nodes."""

    def __init__(self, transport: Transport, topics: Topics) -> None:
        super().__init__(transport)
        self._topics = topics
        transport.subscribe(topics.stream_out("+", "+"), self._receive)

    def _receive(self, message: Message) -> None:
        frame, end = _decode(message), self._ends.get(message.topic)
        if frame is not None and end is not None:
            end.take(frame)

    def node_gone(self, node: str) -> None:
        """End all streams to a node that vanished."""
        self._end_all(self._topics.stream_out(node, "").removesuffix("/out"), f"node {node} is gone")

    async def open(self, node: str, request: StreamRequest) -> Stream:
        """Open a stream; raises ServiceUnavailable or Timeout."""
        stream = secrets.token_hex(8)
        end = self._make(self._topics.stream_out(node, stream), self._topics.stream_in(node, stream))
        try:
            await end.transmit(Type.OPEN, data=msgspec.msgpack.encode(request))
            async with asyncio.timeout(OPEN_TIMEOUT):
                await end.accepted.wait()
        except StreamClosed as error:
            raise ServiceUnavailable(f"the connection to the broker is down: {error}") from error
        except TimeoutError as error:
            end.end("not accepted in time")
            raise Timeout(f"node {node} did not answer within {OPEN_TIMEOUT:.0f} s") from error
        if end.reason:
            raise ServiceUnavailable(f"node {node}: {end.reason}")
        return end


class Acceptor(_Streams):
    """The node's side: serves each stream with one handler call, in tasks that `run` owns."""

    def __init__(self, transport: Transport, topics: Topics, node: str) -> None:
        super().__init__(transport)
        self._topics = topics
        self._node = node
        self._handler: StreamHandler | None = None
        self._work: deque[Callable[[], Awaitable[None]]] = deque()
        self._wake = asyncio.Event()
        transport.subscribe(topics.stream_in(node, "+"), self._receive)

    def serve(self, handler: StreamHandler) -> None:
        """Use `handler` for streams opened from now on."""
        self._handler = handler

    def _receive(self, message: Message) -> None:
        frame = _decode(message)
        if frame is None:
            return
        end = self._ends.get(message.topic)
        if end is not None:
            end.take(frame)
        elif frame.type == Type.OPEN:
            stream = self._topics.stream_of(message.topic)
            end = self._make(message.topic, self._topics.stream_out(self._node, stream))
            end.take(frame)
            self._work.append(lambda: self._serve(end, frame.data))
            self._wake.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                while self._work:
                    group.create_task(self._work.popleft()(), name="stream")  # type: ignore[arg-type]
                self._wake.clear()
                await self._wake.wait()

    async def _serve(self, end: End, body: bytes) -> None:
        try:
            request = msgspec.msgpack.decode(body, type=StreamRequest)
        except (msgspec.DecodeError, msgspec.ValidationError):
            await end.close("not a stream request")
            return
        if self._handler is None or len(self._ends) > MAX_STREAMS:
            await end.close("this node serves no more streams now")
            return
        try:
            await end.transmit(Type.ACCEPT)
            await self._handler(request, end)
        except StreamClosed:
            return
        except (EdgekubeError, OSError) as error:
            await end.close(str(error) or type(error).__name__)
        except Exception as error:
            # One stream's mistake must not end the others, nor the agent.
            log.exception("stream %s", request.kind)
            await end.close(f"{type(error).__name__}: {error}")
        else:
            await end.close()
        finally:
            if end.reason is None:
                end.end("the agent stops")
