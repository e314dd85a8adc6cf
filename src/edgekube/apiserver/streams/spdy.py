"""
SPDY/3.1 framing, as much of it as port-forwarding uses; no I/O (SPDY Protocol, Draft 3.1).

kubectl carries SPDY inside a WebSocket (KEP-4006): streams are opened by the client, in pairs, and
flow control is left to the connection beneath.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from edgekube.lib.errors import EdgekubeError

VERSION = 3
SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FIN = 1
LARGEST = 16 << 20
"""Bytes of the largest frame taken."""
LARGEST_HEADERS = 64 << 10

_WORDS = (
    "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|accept-ranges|age|allow|"
    "authorization|cache-control|connection|content-base|content-encoding|content-language|content-length|"
    "content-location|content-md5|content-range|content-type|date|etag|expect|expires|from|host|if-match|"
    "if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|location|max-forwards|pragma|"
    "proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|upgrade|"
    "user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|public|set-cookie|"
    "keep-alive|origin"
)
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join(struct.pack(">I", len(word)) + word.encode() for word in _WORDS.split("|")) + _TAIL.encode()
)
"""The zlib dictionary of header blocks (section 2.6.10.1)."""


class SpdyError(EdgekubeError):
    """The other side does not speak SPDY/3.1."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The client opened a stream."""

    stream: int
    headers: Mapping[str, str]
    fin: bool


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a stream; `fin` says they are the last."""

    stream: int
    data: bytes
    fin: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """The client gave a stream up."""

    stream: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes to send back at once (a ping's answer)."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The client opens no more streams."""


Event = Opened | Data | Reset | Answer | Goodbye


class Connection:
    """The server's end of one SPDY connection: bytes in, events out; events in, bytes out."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes and return what they mean; raises SpdyError."""
        self._buffer += data
        events: list[Event] = []
        while len(self._buffer) >= 8:
            first, second = struct.unpack_from(">II", self._buffer)
            length, flags = second & 0xFFFFFF, second >> 24
            if length > LARGEST:
                raise SpdyError(f"a frame of {length} bytes")
            if len(self._buffer) < 8 + length:
                break
            body = bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]
            event = self._control(first, flags, body) if first >> 31 else Data(first, body, bool(flags & FIN))
            if event is not None:
                events.append(event)
        return events

    def _control(self, first: int, flags: int, body: bytes) -> Event | None:
        if (first >> 16) & 0x7FFF != VERSION:
            raise SpdyError("not SPDY/3")
        kind = first & 0xFFFF
        if kind == SYN_STREAM and len(body) >= 10:
            return Opened(_stream(body), self._headers(body[10:]), bool(flags & FIN))
        if kind in {SYN_REPLY, HEADERS} and len(body) >= 4:
            self._headers(body[4:])  # keeps the shared compression state right
            return None
        if kind == RST_STREAM and len(body) >= 4:
            return Reset(_stream(body))
        if kind == PING:
            return Answer(_control(PING, 0, body))
        return Goodbye() if kind == GOAWAY else None

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._inflate.decompress(block, LARGEST_HEADERS)
            (count,) = struct.unpack_from(">I", plain)
            position, words = 4, []
            for _ in range(2 * count):
                (size,) = struct.unpack_from(">I", plain, position)
                words.append(plain[position + 4 : position + 4 + size].decode())
                position += 4 + size
        except (zlib.error, struct.error, UnicodeDecodeError) as error:
            raise SpdyError(f"bad header block: {error}") from error
        return {name.lower(): value for name, value in zip(words[::2], words[1::2], strict=True)}

    def reply(self, stream: int) -> bytes:
        """Accept a stream the client opened."""
        block = self._deflate.compress(struct.pack(">I", 0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _control(SYN_REPLY, 0, struct.pack(">I", stream) + block)


def _stream(body: bytes) -> int:
    return int.from_bytes(body[:4], "big") & 0x7FFFFFFF


def _control(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack(">HHI", 0x8000 | VERSION, kind, flags << 24 | len(body)) + body


def data(stream: int, payload: bytes, *, fin: bool = False) -> bytes:
    """Return a data frame."""
    return struct.pack(">II", stream, (FIN if fin else 0) << 24 | len(payload)) + payload


def reset(stream: int) -> bytes:
    """Return a frame that gives a stream up (status CANCEL)."""
    return _control(RST_STREAM, 0, struct.pack(">II", stream, 5))
