"""
Exec and attach over SPDY/3.1 (v4.channel.k8s.io and its elders): a SPDY stream for each of the command's.

The client opens them and says in the header `streamType` which is which: error, stdin, stdout, stderr,
resize. From v4 on the error stream ends with a Status; before, it tells of a failure in words. From v3
on the resize stream has the terminal's sizes, a JSON object each.
"""

import asyncio
import contextlib
import logging

import msgspec

from edgekube.api.errors import InternalError
from edgekube.apiserver.streams import spdy
from edgekube.apiserver.streams.carriers import Carrier
from edgekube.apiserver.streams.channels import SUCCESS, failure_text
from edgekube.transport.base import ERROR, RESIZE, STDERR, STDIN, STDOUT, Stream, StreamClosed, StreamRequest

log = logging.getLogger(__name__)

V4, V3, V2, V1 = "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"
PROTOCOLS = (V4, V3, V2, V1)
RESIZING = frozenset({V4, V3})
CHANNELS = {"error": ERROR, "stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "resize": RESIZE}
OPENING = 30.0
"""Seconds a client has to open its streams (kubelet's DefaultStreamCreationTimeout)."""
LINGER = 5.0
"""Seconds a client has to close the connection when everything was said: who closes first may lose what is under way."""
LARGEST_SIZE = 1024
"""Bytes of a terminal's size."""


async def serve(carrier: Carrier, stream: Stream, wish: StreamRequest, *, protocol: str) -> None:
    """Carry a command's streams until either side ends."""
    remote = Remote(carrier, stream, wish, protocol)
    listening = asyncio.create_task(remote.listen(), name="stream-in")
    try:
        await remote.speak(listening)
    except ConnectionResetError:
        return
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


class Remote:
    """One command and its client."""

    def __init__(self, carrier: Carrier, stream: Stream, wish: StreamRequest, protocol: str) -> None:
        self._carrier, self._stream, self._protocol = carrier, stream, protocol
        self._spdy = spdy.Connection()
        self._missing = set(_channels(wish, protocol))
        self._ids: dict[int, int] = {}
        self._channels: dict[int, int] = {}
        self._opened = asyncio.Event()
        self._size = bytearray()

    async def listen(self) -> None:
        """Take what the client says."""
        try:
            async for data in self._carrier:
                for event in self._spdy.feed(data):
                    # A command that ended listens no more; what was sent to it is read all the same.
                    with contextlib.suppress(StreamClosed):
                        await self._take(event)
        except ConnectionResetError as error:
            log.debug("a client's stream: %s", error)
        except spdy.SpdyError as error:
            log.warning("a client's stream: %s", error)
        # The client went away: its command loses its terminal.
        await self._stream.close("the client closed the connection")
        self._opened.set()

    async def speak(self, listening: asyncio.Task[None]) -> None:
        """Tell the client what the command says, and how it ended; raises ConnectionResetError."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._opened.wait(), OPENING)
        if self._missing:
            log.info("a client opened not all of its streams")
            return
        await self._error(await self._tell())
        for number in self._ids.values():
            await self._carrier.send(spdy.data(number, b"", fin=True))
        await asyncio.wait((listening,), timeout=LINGER)

    async def _take(self, event: spdy.Event) -> None:
        if isinstance(event, spdy.Opened):
            channel = CHANNELS.get(event.headers.get("streamtype", ""))
            if channel not in self._missing:
                await self._carrier.send(spdy.reset(event.stream))
                return
            self._missing.discard(channel)
            self._ids[channel], self._channels[event.stream] = event.stream, channel
            await self._carrier.send(self._spdy.reply(event.stream))
            if not self._missing:
                self._opened.set()
        elif isinstance(event, spdy.Data):
            await self._said(self._channels.get(event.stream, -1), event)
        elif isinstance(event, spdy.Reset):
            if self._channels.pop(event.stream, -1) == STDIN:
                await self._stream.send(STDIN, b"")
        elif isinstance(event, spdy.Answer):
            await self._carrier.send(event.data)

    async def _said(self, channel: int, event: spdy.Data) -> None:
        if channel == STDIN:
            if event.data:
                await self._stream.send(STDIN, event.data)
            if event.fin:
                await self._stream.send(STDIN, b"")
        elif channel == RESIZE:
            self._size += event.data
            while b"}" in self._size:
                size, _, self._size = self._size.partition(b"}")
                await self._stream.send(RESIZE, bytes(size.strip() + b"}"))
            del self._size[LARGEST_SIZE:]

    async def _tell(self) -> bytes:
        """Pass on what the command says; return its Status."""
        status = SUCCESS
        try:
            while (frame := await self._stream.receive()) is not None:
                channel, data = frame
                if channel == ERROR:
                    status = data or status
                elif data and channel in self._ids:
                    await self._carrier.send(spdy.data(self._ids[channel], data))
        except StreamClosed as error:
            return msgspec.json.encode(InternalError(error.reason).tree())
        return status

    async def _error(self, status: bytes) -> None:
        text = status if self._protocol == V4 else failure_text(status)
        if text:
            await self._carrier.send(spdy.data(self._ids[ERROR], text))


def _channels(wish: StreamRequest, protocol: str) -> list[int]:
    """Return those that a client opens for such a command."""
    wanted = {
        ERROR: True,
        STDIN: wish.stdin,
        STDOUT: wish.stdout,
        # A terminal has one output.
        STDERR: wish.stderr and not wish.tty,
        RESIZE: wish.tty and protocol in RESIZING,
    }
    return [channel for channel, needed in wanted.items() if needed]
