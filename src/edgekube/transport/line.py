"""
Many streams over one connection: logs, exec, attach, port-forward.

Each stream has two topics, one a direction. Frames are msgpack arrays `[number, type, channel,
data]`, numbered from 1 so that loss is noticed and ends the stream rather than corrupting it.
Flow control is by credit: a side sends no more than WINDOW bytes that the other has not consumed,
so a slow reader bounds the memory of sender, broker and reader, and streams cannot starve each
other. Frames go at most once: a lost connection ends its streams, nothing is ever repeated.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from enum import IntEnum

import msgspec

from edgekube.transport.base import Message, StreamClosed

WINDOW = 256 << 10
"""Bytes in one direction that may be under way or unread."""
CHUNK = 32 << 10
"""Bytes of one frame at most."""
OVERHEAD = 64
"""What a frame costs on top of its data, so that empty ones are bounded too."""


class FrameType(IntEnum):
    """What a frame says; numbers are for ever."""

    OPEN = 1
    """data: a StreamRequest."""
    ACCEPT = 2
    DATA = 3
    CREDIT = 4
    """channel: bytes consumed since the last CREDIT."""
    CLOSE = 5
    """data: the reason; empty when everything went well."""


class Frame(msgspec.Struct, array_like=True, frozen=True):
    """One frame."""

    number: int
    type: int
    channel: int = 0
    data: bytes = b""


def reset(reason: str) -> bytes:
    """Return the frame that ends a stream of which we do not know where it is."""
    return msgspec.msgpack.encode(Frame(0, int(FrameType.CLOSE), 0, reason.encode()))


_frames = msgspec.msgpack.Decoder(Frame)
Send = Callable[[str, bytes], Awaitable[None]]


class Line:
    """One end of a stream; `finished` is called once, when neither side will say anything more."""

    def __init__(self, topic: str, send: Send, finished: Callable[[], None]) -> None:
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._topic, self._send, self._finished = topic, send, finished
        self._out = self._in = 0
        self._credit, self._owed = WINDOW, 0
        self._inbox: deque[tuple[int, bytes]] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._turn = asyncio.Lock()
        self._ended: StreamClosed | None = None
        self._closed = self._broken = False
        self.gone = asyncio.Event()
        """Set when the stream has ended, by whichever side."""

    async def send(self, channel: int, data: bytes) -> None:
        """Send; waits while the other side has not consumed enough. Raises StreamClosed."""
        async with self._turn:
            for start in range(0, max(len(data), 1), CHUNK):
                chunk = data[start : start + CHUNK]
                cost = len(chunk) + OVERHEAD
                while self._credit < cost and self._ended is None:
                    self._room.clear()
                    await self._room.wait()
                if self._ended is not None:
                    raise StreamClosed(self._ended.reason or "closed")
                self._credit -= cost
                await self.say(FrameType.DATA, channel, chunk)

    async def receive(self) -> tuple[int, bytes] | None:
        """Return the next frame; None: closed cleanly. Raises StreamClosed."""
        while not self._inbox:
            if self._ended is not None:
                if self._ended.reason and not self._closed:
                    raise StreamClosed(self._ended.reason)
                return None
            self._wake.clear()
            await self._wake.wait()
        channel, data = self._inbox.popleft()
        self._owed += len(data) + OVERHEAD
        if self._owed >= WINDOW // 2 and self._ended is None:
            owed, self._owed = self._owed, 0
            await self.say(FrameType.CREDIT, owed)
        return channel, data

    async def close(self, reason: str = "") -> None:
        """End the stream. Harmless twice."""
        if self._closed:
            return
        self._closed = True
        if self._ended is None:
            self._end(reason)
            await self.say(FrameType.CLOSE, data=reason.encode())
        elif self._broken:
            await self._send(self._topic, reset(self._ended.reason))
        self._inbox.clear()

    async def say(self, kind: FrameType, channel: int = 0, data: bytes = b"") -> None:
        """Send one frame; without a connection the stream ends."""
        self._out += 1
        await self._send(self._topic, msgspec.msgpack.encode(Frame(self._out, int(kind), channel, data)))

    def take(self, frame: Frame) -> None:
        """For the multiplexer: a frame arrived."""
        if frame.number == 0 and frame.type == FrameType.CLOSE:
            self.lose(frame.data.decode(errors="replace"))
        if self._ended is not None or frame.number <= self._in:
            return
        if frame.number != self._in + 1:
            self._broken = True
            self.lose("frames were lost")
            return
        self._in = frame.number
        match frame.type:
            case FrameType.ACCEPT if not self.accepted.done():
                self.accepted.set_result(None)
            case FrameType.DATA:
                self._inbox.append((frame.channel, frame.data))
                self._wake.set()
            case FrameType.CREDIT:
                self._credit += frame.channel
                self._room.set()
            case FrameType.CLOSE:
                self._end(frame.data.decode(errors="replace"))

    def lose(self, reason: str) -> None:
        """For the multiplexer: the stream is broken, without the peer being told."""
        if self._ended is None:
            self._end(reason)

    def _end(self, reason: str) -> None:
        self._ended = StreamClosed(reason)
        if not self.accepted.done():
            self.accepted.set_exception(self._ended)
            self.accepted.exception()  # Nobody may be waiting.
        self.gone.set()
        self._wake.set()
        self._room.set()
        self._finished()


def frame_of(message: Message) -> Frame | None:
    """Return the frame in a message, None when it is malformed."""
    try:
        return _frames.decode(message.payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
