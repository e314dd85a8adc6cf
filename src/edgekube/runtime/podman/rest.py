"""
HTTP/1.1 over podman's unix socket: one connection per call, chunked answers, hijacked streams.

Small on purpose: the agent must not carry a web framework. (RFC 9112; libpod API v4, which podman
4.x and 5.x both serve.)
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec

from edgekube.runtime.base import RuntimeFailure, RuntimeUnavailable

PREFIX = "/v4.0.0/libpod"
HEAD_LIMIT = 1 << 18
PIECE = 1 << 16
Query = Mapping[str, str | int]


class Refused(RuntimeFailure):
    """Podman answered with an error; `cause` is the innermost error's text."""

    def __init__(self, status: int, message: str, cause: str) -> None:
        super().__init__(message)
        self.status = status
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `body` is sent as JSON; a file as a tar."""

    method: str
    path: str
    query: Query | None = None
    body: object = None
    file: Path | None = None
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Hijacked:
    """A connection that has become a two-way byte stream."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Rest:
    """Calls to one socket. `timeout` in seconds bounds every answer that is not a stream."""

    def __init__(self, socket: Path, *, timeout: float = 30.0) -> None:
        self.socket = socket
        self.timeout = timeout

    async def json(self, call: Call, *, patience: float = 0.0) -> Any:
        """Return the decoded answer, None if it is empty; `patience` is added to the timeout. Raises Refused."""
        _, body = await self.send(call, patience=patience)
        return msgspec.json.decode(body) if body.strip() else None

    async def send(self, call: Call, *, patience: float = 0.0) -> tuple[int, bytes]:
        """Return the answer's status and body."""
        try:
            async with asyncio.timeout(self.timeout + patience):
                connection = await self._connect()
                try:
                    status, headers = await _exchange(connection, call, upgrade=False)
                    body = b"".join([piece async for piece in _body(connection.reader, status, headers)])
                finally:
                    connection.writer.close()
        except TimeoutError as error:
            raise RuntimeUnavailable(
                f"podman does not answer within {self.timeout + patience:.0f} s"
            ) from error
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise RuntimeUnavailable(f"podman at {self.socket}: {error!r}") from error
        _check(status, body)
        return status, body

    async def lines(self, call: Call, *, stall: float | None = None) -> AsyncIterator[bytes]:
        """Yield the lines of an endless answer; `stall` seconds without a byte are a failure."""
        connection = await self._opened(call)
        reader, (status, headers) = connection[0].reader, connection[1]
        rest = b""
        try:
            pieces = aiter(_body(reader, status, headers))
            while True:
                try:
                    async with asyncio.timeout(stall):
                        rest += await anext(pieces)
                except StopAsyncIteration:
                    break
                *lines, rest = rest.split(b"\n")
                for line in lines:
                    if line.strip():
                        yield line
            if rest.strip():
                yield rest
        except TimeoutError as error:
            raise RuntimeUnavailable(f"podman sent nothing for {stall} s") from error
        except (OSError, EOFError, ValueError) as error:
            raise RuntimeUnavailable(f"podman at {self.socket}: {error!r}") from error
        finally:
            connection[0].writer.close()

    async def hijack(self, call: Call) -> Hijacked:
        """Send and take over the connection. Raises Refused."""
        return (await self._opened(call, upgrade=True))[0]

    async def _opened(self, call: Call, *, upgrade: bool = False) -> "tuple[Hijacked, Head]":
        try:
            async with asyncio.timeout(self.timeout):
                connection = await self._connect()
                try:
                    head = await _exchange(connection, call, upgrade=upgrade)
                    if head[0] >= 400:
                        body = b"".join([piece async for piece in _body(connection.reader, *head)])
                        _check(head[0], body)
                except BaseException:
                    connection.writer.close()
                    raise
        except TimeoutError as error:
            raise RuntimeUnavailable(f"podman does not answer within {self.timeout:.0f} s") from error
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise RuntimeUnavailable(f"podman at {self.socket}: {error!r}") from error
        return connection, head

    async def _connect(self) -> Hijacked:
        return Hijacked(*await asyncio.open_unix_connection(str(self.socket), limit=HEAD_LIMIT))


Head = tuple[int, Mapping[str, str]]
"""An answer's status and headers, names in lower case."""


async def _exchange(connection: Hijacked, call: Call, *, upgrade: bool) -> Head:
    body = b"" if call.body is None else msgspec.json.encode(call.body)
    length = call.file.stat().st_size if call.file else len(body)
    headers = {
        "Host": "podman",
        "Content-Length": str(length),
        "Content-Type": "application/x-tar" if call.file else "application/json",
        **({"Connection": "Upgrade", "Upgrade": "tcp"} if upgrade else {"Connection": "close"}),
        **(call.headers or {}),
    }
    target = PREFIX + call.path + (f"?{urlencode(call.query)}" if call.query else "")
    lines = [f"{call.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    connection.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    if call.file:
        await _send_file(connection.writer, call.file)
    # A service that refuses early may close before it has read all; its answer is there nonetheless.
    with contextlib.suppress(ConnectionError):
        await connection.writer.drain()
    head = (await connection.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *fields = head.rstrip().split("\r\n")
    pairs = (field.partition(":") for field in fields)
    return int(status.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}


async def _send_file(writer: asyncio.StreamWriter, path: Path) -> None:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, 1 << 20):
            writer.write(piece)
            await writer.drain()


async def _body(
    reader: asyncio.StreamReader, status: int, headers: Mapping[str, str]
) -> AsyncIterator[bytes]:
    if status in {204, 304}:
        return
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            while size:
                piece = await reader.read(min(size, PIECE))
                if not piece:
                    raise EOFError("the answer ends in the middle of a chunk")
                size -= len(piece)
                yield piece
            await reader.readexactly(2)
        return
    left = int(headers["content-length"]) if "content-length" in headers else None
    while left != 0:
        piece = await reader.read(PIECE if left is None else min(left, PIECE))
        if not piece:
            if left is None:
                return
            raise EOFError("the answer is cut short")
        left = None if left is None else left - len(piece)
        yield piece


def _check(status: int, body: bytes) -> None:
    if status < 400:
        return
    try:
        answer = msgspec.json.decode(body)
        message, cause = str(answer["message"]), str(answer.get("cause", ""))
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        message, cause = body.decode(errors="replace").strip() or f"HTTP {status}", ""
    raise Refused(status, message, cause)
