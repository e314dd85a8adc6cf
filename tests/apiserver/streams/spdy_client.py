"""A client of SPDY/3.1 that says exactly what a test wants, and hears everything."""

import asyncio
import struct
import zlib
from contextlib import asynccontextmanager

from edgekube.apiserver.streams import spdy

WAIT = 30


def syn(stream, headers, deflate):
    block = struct.pack(">I", len(headers))
    for name, value in headers.items():
        for word in (name.encode(), value.encode()):
            block += struct.pack(">I", len(word)) + word
    packed = deflate.compress(block) + deflate.flush(zlib.Z_SYNC_FLUSH)
    body = struct.pack(">IIBB", stream, 0, 0, 0) + packed
    return struct.pack(">HHI", 0x8003, 1, len(body)) + body


class SpdyClient:
    """One upgraded connection."""

    def __init__(self, reader, writer, head):
        self._reader, self._writer = reader, writer
        self.head = head
        """The answer's head, as text."""
        self._deflate = zlib.compressobj(zdict=spdy.DICTIONARY)
        self.streams = {}

    def open(self, *kinds):
        for kind in kinds:
            number = 2 * len(self.streams) + 1
            self.streams[kind] = number
            self._writer.write(syn(number, {"streamType": kind}, self._deflate))

    def say(self, kind, data, *, fin=False):
        self._writer.write(spdy.data(self.streams[kind], data, fin=fin))

    def write(self, raw):
        self._writer.write(raw)

    def hang_up(self):
        self._writer.transport.abort()

    async def hear(self):
        """Return what each stream said until all that speak have ended, and other frames."""
        heard, others, connection = {}, [], spdy.Connection()
        speaking = {self.streams[kind] for kind in ("error", "stdout", "stderr") if kind in self.streams}
        async with asyncio.timeout(WAIT):
            while speaking and (data := await self._reader.read(65536)):
                for event in connection.feed(data):
                    if isinstance(event, spdy.Data):
                        heard[event.stream] = heard.get(event.stream, b"") + event.data
                        if event.fin:
                            speaking.discard(event.stream)
                    else:
                        others.append(event)
        names = {number: kind for kind, number in self.streams.items()}
        return {names[number]: data for number, data in heard.items() if data}, others


@asynccontextmanager
async def asked(port, path, *protocols):
    """Ask for a stream over SPDY; yield the client."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        "Connection: Upgrade",
        "Upgrade: SPDY/3.1",
        "Content-Length: 0",
    ]
    lines += [f"X-Stream-Protocol-Version: {protocol}" for protocol in protocols]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT)).decode()
    try:
        yield SpdyClient(reader, writer, head)
    finally:
        writer.close()
