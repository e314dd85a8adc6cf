"""
One call of grpc.health.v1.Health/Check, in the little of HTTP/2 that it takes (RFC 9113, 7541, gRPC over HTTP/2).

Requests are written as literals without Huffman coding; of the answer only the message is read, for
headers would need the whole of HPACK: a server that sends none has refused.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATH = "/grpc.health.v1.Health/Check"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7
END_STREAM = ACK = 0x1
END_HEADERS, PADDED = 0x4, 0x8
FRAME_LIMIT = 16384
MESSAGE_LIMIT = 4096
FRAMES = 256
"""Frames read at most; a server that says more than that before its answer is none of ours."""
STREAM = 1
STATUSES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
SERVING = "SERVING"


class Refused(Exception):
    """The server does not answer the question; `str()` says how."""


@dataclass(frozen=True, slots=True)
class _Frame:
    type: int
    flags: int
    stream: int
    body: bytes


async def health(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, service: str, *, authority: str, agent: str
) -> str:
    """Ask once over a new connection; return a word of STATUSES. Raises Refused, OSError."""
    writer.write(PREFACE + _frame(SETTINGS, 0, 0, b"") + _question(service, authority, agent))
    await writer.drain()
    message = b""
    async for frame in _frames(reader, writer):
        if frame.type == DATA:
            message += _payload(frame)
        if (status := _status(message)) is not None:
            return status
        if frame.type == RST_STREAM:
            raise Refused(f"stream was reset with code {int.from_bytes(frame.body[:4], 'big')}")
        if frame.type in (DATA, HEADERS) and frame.flags & END_STREAM:
            raise Refused("the server answered without a health status")
        if len(message) > MESSAGE_LIMIT:
            break
    raise Refused("the server did not answer in HTTP/2")


async def _frames(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[_Frame]:
    """Yield the frames of our stream; see to the connection's own."""
    for _ in range(FRAMES):
        try:
            head = await reader.readexactly(9)
            length = int.from_bytes(head[:3], "big")
            if length > FRAME_LIMIT:
                return
            stream = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
            frame = _Frame(head[3], head[4], stream, await reader.readexactly(length))
        except asyncio.IncompleteReadError as error:
            raise Refused("connection closed before the answer") from error
        if frame.type == GOAWAY:
            raise Refused(f"connection closed with code {int.from_bytes(frame.body[4:8], 'big')}")
        if frame.type in (SETTINGS, PING) and not frame.flags & ACK:
            writer.write(_frame(frame.type, ACK, 0, frame.body if frame.type == PING else b""))
            await writer.drain()
        if frame.stream == STREAM:
            yield frame


def _question(service: str, authority: str, agent: str) -> bytes:
    headers = {
        ":method": "POST", ":scheme": "http", ":path": PATH, ":authority": authority,
        "content-type": "application/grpc", "te": "trailers", "user-agent": agent,
    }  # fmt: skip
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    block = b"".join(b"\x00" + _literal(key) + _literal(value) for key, value in headers.items())
    body = b"\x00" + len(message).to_bytes(4, "big") + message
    return _frame(HEADERS, END_HEADERS, STREAM, block) + _frame(DATA, END_STREAM, STREAM, body)


def _literal(text: str) -> bytes:
    """Return a string as HPACK writes it plainly; a 7-bit prefix holds lengths below 127 (RFC 7541, 5.1)."""
    data = text.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    return b"\x7f" + _varint(len(data) - 127) + data


def _varint(number: int) -> bytes:
    """Return a number in groups of seven bits, the lowest first (HPACK and protobuf agree on that)."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def _payload(frame: _Frame) -> bytes:
    if not frame.flags & PADDED or not frame.body:
        return frame.body
    return frame.body[1 : max(1, len(frame.body) - frame.body[0])]


def _status(message: bytes) -> str | None:
    """Return the status in a whole gRPC message; None while it is incomplete. Raises Refused."""
    if len(message) < 5 or len(message) - 5 < int.from_bytes(message[1:5], "big"):
        return None
    body = message[5 : 5 + int.from_bytes(message[1:5], "big")]
    if message[0] or (body and (len(body) < 2 or body[0] != 0x08)):
        raise Refused("the server's message is no health status")
    return STATUSES.get(body[1] if body else 0, STATUSES[0])
