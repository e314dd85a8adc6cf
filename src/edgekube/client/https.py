"""The HTTPS carrier: what the CLI uses. aiohttp is imported with this module only."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from edgekube.api.errors import (
    BadRequest,
    Conflict,
    Expired,
    Forbidden,
    InternalError,
    Invalid,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    RequestEntityTooLarge,
    ServiceUnavailable,
    StatusError,
    Timeout,
    TooManyRequests,
    Unauthorized,
    UnsupportedMediaType,
    from_tree,
)  # fmt: skip
from edgekube.client.base import Call, Unreachable, WatchEvent
from edgekube.client.kubeconfig import Access

METHODS = {
    "get": "GET", "list": "GET", "watch": "GET", "create": "POST", "update": "PUT", "patch": "PATCH",
    "delete": "DELETE", "deletecollection": "DELETE",
}  # fmt: skip
CONNECT = 10.0
"""Seconds to connect."""
TOTAL = 60.0
"""Seconds a call that is no watch may take."""


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


class HttpsCarrier:
    """A carrier for one cluster; use with `async with`."""

    def __init__(self, access: Access) -> None:
        self.access = access
        headers = {"Accept": "application/json", "User-Agent": "edgekube"}
        if access.token:
            headers["Authorization"] = f"Bearer {access.token}"
        if access.impersonate:
            headers["Impersonate-User"] = access.impersonate
        self.headers = headers
        self._tls_name = access.server_name or None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        tls: Any = self.access.ssl_context() if self.access.server.startswith("https") else False
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=32),
            headers=self.headers,
            timeout=aiohttp.ClientTimeout(total=TOTAL, connect=CONNECT),
            read_bufsize=1 << 20,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            # Lets aiohttp's TLS transports finish closing (its documented graceful shutdown).
            await asyncio.sleep(0)

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open session, for WebSocket streams."""
        if self._session is None:
            raise Unreachable("the client is not open")
        return self._session

    async def do(self, call: Call) -> bytes:
        """Return the body of the successful answer."""
        return await self.raw(
            METHODS[call.verb], _path(call), call.query, call.body, accept="", content_type=call.content_type
        )

    async def raw(
        self, method: str, path: str, query: Any = None, body: bytes = b"", *, accept: str = "", content_type: str = "application/json"
    ) -> bytes:  # fmt: skip
        """Do any request below the server's URL; raises StatusError or Unreachable."""
        headers = {"Content-Type": content_type} if body else {}
        if accept:
            headers["Accept"] = accept
        try:
            async with self.session.request(
                method,
                self.access.server + path,
                params=query,
                data=body or None,
                headers=headers,
                server_hostname=self._tls_name,
            ) as answer:
                data = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{self.access.server}: {error or type(error).__name__}") from error
        if answer.status >= 400:
            raise error_of(answer.status, data)
        return data

    async def watch(self, call: Call) -> AsyncIterator[WatchEvent]:
        """Yield events until the server ends the watch."""
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT)
        decoder = msgspec.json.Decoder(_Line)
        try:
            async with self.session.get(
                self.access.server + _path(call),
                params=call.query,
                timeout=timeout,
                server_hostname=self._tls_name,
            ) as answer:
                if answer.status >= 400:
                    raise error_of(answer.status, await answer.read())
                async for line in _lines(answer.content):
                    event = decoder.decode(line)
                    if event.type == "ERROR":
                        raise from_tree(msgspec.json.decode(event.object))
                    yield WatchEvent(event.type, bytes(event.object))
        except msgspec.DecodeError as error:
            raise Unreachable(f"{self.access.server}: no watch event: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{self.access.server}: {error or type(error).__name__}") from error


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield lines of any length (StreamReader.readline has a limit)."""
    parts: list[bytes] = []
    async for chunk in content.iter_any():
        first, *lines = chunk.split(b"\n")
        parts.append(first)
        for line in lines:
            if whole := b"".join(parts):
                yield whole
            parts = [line]


def _path(call: Call) -> str:
    return call.resource.path(call.namespace, call.name, call.subresource)


BY_CODE: dict[int, type[StatusError]] = {
    cls.code: cls
    for cls in (
        BadRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed, NotAcceptable, Conflict, Expired,
        RequestEntityTooLarge, UnsupportedMediaType, Invalid, TooManyRequests, ServiceUnavailable, Timeout,
    )
}  # fmt: skip


def error_of(code: int, body: bytes) -> StatusError:
    """Return the error a failed answer stands for; one without a Status is a proxy's, and goes by its code."""
    try:
        tree = msgspec.json.decode(body)
    except msgspec.DecodeError:
        tree = None
    if isinstance(tree, dict) and tree.get("kind") == "Status":
        return from_tree(tree)
    text = body[:500].decode(errors="replace").strip()
    return BY_CODE.get(code, InternalError)(f"HTTP {code}: {text}" if text else f"HTTP {code}")
