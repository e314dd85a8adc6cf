"""
HTTP: turns bytes into requests and answers back into bytes, nothing else.

aiohttp's low-level server (HTTP/1.1). Watches are written as chunks straight to the transport:
one encoded line an event; a watcher that does not read is dropped.
"""

import asyncio
import gzip
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from aiohttp import web
from aiohttp.web_exceptions import HTTPRequestEntityTooLarge

from edgekube.api.errors import RequestEntityTooLarge, StatusError, Timeout, Unauthorized
from edgekube.apiserver.authn.base import Authentication, credentials_of
from edgekube.apiserver.authn.impersonation import impersonated, impersonating
from edgekube.apiserver.handler import Handler, failure
from edgekube.apiserver.identity import User
from edgekube.apiserver.metrics import Metrics
from edgekube.apiserver.request import Request, Response
from edgekube.apiserver.upgrading import wanted
from edgekube.apiserver.watching import Events, close

log = logging.getLogger(__name__)

BODY_LIMIT = 3 * 1024 * 1024
"""Bytes of a request body (Kubernetes' MaxRequestBodyBytes)."""
REQUEST_TIMEOUT = 60.0
"""Seconds a client waits for a write (kube-apiserver's --request-timeout); it is finished all the same."""
TOO_LONG = (
    "Timeout: request did not complete within the allotted timeout, but may still be processing the request"
)
SLICE = 256 * 1024
"""Bytes written at once: larger writes cost TLS dearly."""
UNSENT_LIMIT = 1024 * 1024
"""Bytes a watcher may leave unread before it is dropped."""
ZIP_FROM = 128 * 1024
"""Bytes from which an answer is compressed, if the client takes that (Kubernetes compresses from 128 KiB)."""
REPEATED = "\n"
NOBODY = User("")
"""Who asked with credentials that are no good."""
READS = frozenset({"GET", "HEAD"})

Extra = Callable[[bytes, Mapping[str, str], User | None], Awaitable[tuple[int, str, bytes]]]
"""A route of the composition root: (body, headers, user) → (code, content type, body)."""
Stream = Callable[[web.BaseRequest, Request], Awaitable[web.StreamResponse | None]]
"""Serves logs, exec and the like; None: not a request of that sort."""


class HttpServer:
    """The connection side of the API server."""

    def __init__(
        self, handler: Handler, authentication: Authentication, *, extra: Mapping[str, Extra], stream: Stream,
        metrics: Metrics,
    ) -> None:  # fmt: skip
        self._handler = handler
        self._authentication = authentication
        self._extra = extra
        self._stream = stream
        self._metrics = metrics
        # A watch must end when its client goes; writes are finished all the same, see `_answer`.
        self.protocols = web.Server(
            self._serve,
            request_factory=_request,
            keepalive_timeout=75.0,
            access_log=None,
            handler_cancellation=True,
        )
        self._writes: set[asyncio.Task[Response]] = set()

    async def close(self) -> None:
        """Finish the writes under way, and end all connections."""
        if self._writes:
            await asyncio.wait(self._writes)
        await self.protocols.shutdown(1.0)

    async def _serve(self, raw: web.BaseRequest) -> web.StreamResponse:
        headers = _headers(raw)
        try:
            path, query = _target(raw)
            user = await self._user(raw, headers)
            extra = self._extra.get(f"{raw.method} {path}")
            if extra is not None:
                return await self._call(extra, raw, headers, user)
            body = await _body(raw)
            request = Request(
                method=raw.method, path=path, user=user, query=query, headers=headers, body=body
            )
            streamed = await self._stream(raw, request)
        except StatusError as error:
            return await self._send(raw, headers, failure(error))
        if streamed is not None:
            return streamed
        return await self._send(raw, headers, await self._answer(request))

    async def _answer(self, request: Request) -> Response:
        """Answer; a write goes to its end even when the client goes away in the middle."""
        if request.method in READS:
            return await self._handler.answer(request)
        task = asyncio.ensure_future(self._handler.answer(request))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        done, _ = await asyncio.wait((task,), timeout=REQUEST_TIMEOUT)
        return task.result() if done else failure(Timeout(TOO_LONG))

    async def _user(self, raw: web.BaseRequest, headers: Mapping[str, str]) -> User:
        certificate = raw.transport.get_extra_info("peercert") if raw.transport else None
        try:
            user = await self._authentication.user_of(credentials_of(headers, certificate))
        except Unauthorized as error:
            self._metrics.attempts["failure"] += 1
            path, query = _target(raw)
            self._handler.unknown(
                Request(method=raw.method, path=path, user=NOBODY, query=query, headers=headers), error
            )
            raise
        self._metrics.attempts["success"] += 1
        if not impersonating(headers):
            return user
        return impersonated(user, headers, self._handler.parts.authorization)

    async def _call(
        self, extra: Extra, raw: web.BaseRequest, headers: Mapping[str, str], user: User
    ) -> web.StreamResponse:
        known = None if user.name == "system:anonymous" else user
        code, content_type, body = await extra(await _body(raw), headers, known)
        return await self._send(raw, headers, Response(code=code, content_type=content_type, body=body))

    async def _send(
        self, raw: web.BaseRequest, headers: Mapping[str, str], response: Response
    ) -> web.StreamResponse:
        if response.events is not None:
            return await self._follow(raw, response.events, response.content_type)
        body = response.body
        shown = {
            "Content-Type": response.content_type,
            "Cache-Control": "no-cache, private",
            **dict(response.headers),
        }
        if _worth_zipping(body, shown) and "gzip" in headers.get("accept-encoding", ""):
            body = await asyncio.to_thread(gzip.compress, body, 1)
            shown["Content-Encoding"] = "gzip"
        if len(body) <= SLICE or raw.method == "HEAD":
            answer: web.StreamResponse = web.Response(body=body, status=response.code, headers=shown)
            _add_warnings(answer, response)
            return answer
        answer = web.StreamResponse(status=response.code, headers={**shown, "Content-Length": str(len(body))})
        _add_warnings(answer, response)
        await answer.prepare(raw)
        view = memoryview(body)
        for start in range(0, len(body), SLICE):
            await answer.write(view[start : start + SLICE])
        await answer.write_eof()
        return answer

    async def _follow(self, raw: web.BaseRequest, events: Events, content_type: str) -> web.StreamResponse:
        self._metrics.watchers += 1
        try:
            if wanted(raw).lower() == "websocket":
                from edgekube.apiserver import sockets  # noqa: PLC0415 - for browsers only

                return await sockets.follow(raw, events, text="json" in content_type)
            return await self._stream_events(raw, events, content_type)
        finally:
            self._metrics.watchers -= 1
            await close(events)

    async def _stream_events(
        self, raw: web.BaseRequest, events: Events, content_type: str
    ) -> web.StreamResponse:
        answer = web.StreamResponse(
            headers={"Content-Type": content_type, "Cache-Control": "no-cache, private"}
        )
        answer.enable_chunked_encoding()
        await answer.prepare(raw)
        await self._pump(raw, events)
        await answer.write_eof()
        return answer

    async def _pump(self, raw: web.BaseRequest, events: Events) -> None:
        transport = raw.transport
        if transport is None:
            return
        async for batch in events:
            if transport.is_closing():
                return
            data = batch[0].frame if len(batch) == 1 else b"".join([event.frame for event in batch])
            transport.write(b"%x\r\n%b\r\n" % (len(data), data))
            if transport.get_write_buffer_size() > UNSENT_LIMIT:
                log.warning("watch of %s by %s: dropped, it does not read", raw.path, raw.remote)
                transport.abort()
                return


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    return web.BaseRequest(
        message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=BODY_LIMIT
    )


def _headers(raw: web.BaseRequest) -> dict[str, str]:
    """Return headers by lower-case name; of a repeated one, lines."""
    headers: dict[str, str] = {}
    for name, value in raw.raw_headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = headers[key] + REPEATED + text if key in headers else text
    return headers


def _target(raw: web.BaseRequest) -> tuple[str, dict[str, str]]:
    """Return path and query; cheaper than a full URL parse."""
    path, _, text = raw.raw_path.partition("?")
    if "%" in path:
        path = unquote(path)
    query: dict[str, str] = {}
    if text:
        for name, value in parse_qsl(text, keep_blank_values=True):
            query.setdefault(name, value)
    return path, query


async def _body(raw: web.BaseRequest) -> bytes:
    if not raw.body_exists:
        return b""
    if raw.headers.get("Expect", "").lower() == "100-continue" and raw.transport is not None:
        # curl waits for this before it sends a large body (RFC 9110 §10.1.1).
        raw.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        return await raw.read()
    except HTTPRequestEntityTooLarge as error:
        raise RequestEntityTooLarge(f"Request entity too large: limit is {BODY_LIMIT}") from error


def _worth_zipping(body: bytes, headers: Mapping[str, str]) -> bool:
    return len(body) >= ZIP_FROM and "Content-Encoding" not in headers


def _add_warnings(answer: web.StreamResponse, response: Response) -> None:
    """Send every warning: it is the one header that comes more than once."""
    if response.headers:
        answer.headers.popall("Warning", None)
        for name, value in response.headers:
            if name == "Warning":
                answer.headers.add(name, value)


def listen_context(certificate: str, key: str, *, authority: str = "") -> ssl.SSLContext:
    """Return a server's TLS context from PEM files; client certificates of `authority` are welcome, not required."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if authority:
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context
