"""
`…/proxy`: HTTP, and whatever it is upgraded to, through the API server to a pod or a Service (API concepts, "Proxies").

The name may carry scheme and port: `https:web:8443`. Of the answer only redirects within the target
are rewritten; bodies pass as they are.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web
from multidict import CIMultiDict

from edgekube.api.errors import BadRequest, NotFound, ServiceUnavailable
from edgekube.api.kinds.core_v1 import PODS
from edgekube.api.resource import Key
from edgekube.apiserver.authn.base import PROTOCOLS, SUBPROTOCOL
from edgekube.apiserver.connecting import connect
from edgekube.apiserver.dial import Dialer, Endpoint
from edgekube.apiserver.handler import Handler
from edgekube.apiserver.request import Request
from edgekube.apiserver.route import Address, not_served, split
from edgekube.apiserver.tunneling import tunnel
from edgekube.apiserver.upgrading import wanted

log = logging.getLogger(__name__)

CONNECT_SECONDS = 30.0
HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers", "transfer-encoding",
    "upgrade", "host", "authorization", "content-length",
})  # fmt: skip
"""Headers that end here (RFC 9110 §7.6.1), and credentials, which are for the API server only."""
SCHEMES = ("", "http", "https")
OURS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that the HTTP client would send by itself: nobody asked for what they say."""
SWITCHING = 101


@dataclass(frozen=True, slots=True)
class Where:
    """What to call, as the name says it."""

    scheme: str
    name: str
    port: str


def where(text: str) -> Where:
    """Take `[scheme:]name[:port]` apart; raises BadRequest."""
    parts = text.split(":")
    if len(parts) == 1:
        parts = ["", text, ""]
    elif len(parts) == 2:
        parts = ["", *parts]
    if len(parts) != 3 or parts[0] not in SCHEMES or not parts[1]:
        raise BadRequest(f"invalid name {text!r}: it is [scheme:]name[:port]")
    return Where(parts[0] or "http", parts[1], parts[2])


class Proxying:
    """Serves proxy requests; hands back None for any other."""

    def __init__(self, handler: Handler, dialer: Dialer) -> None:
        self._handler, self._dialer = handler, dialer
        self._targets: Mapping[str, Callable[[Address, Where], Awaitable[Endpoint]]] = {
            "pods": self._pod, "services": self._service, "nodes": self._node,
        }  # fmt: skip

    async def serve(self, raw: web.BaseRequest, request: Request) -> web.StreamResponse | None:
        """Return the finished answer; raises StatusError before it has begun."""
        if "/proxy" not in request.path:
            return None
        address = split(request.path)
        if (
            address is None
            or address.subresource != "proxy"
            or address.group
            or address.plural not in self._targets
        ):
            return None
        exchange = self._handler.exchange(request, address)
        if not exchange.target.name or (exchange.target.row.namespaced and not address.namespace):
            raise not_served()
        target = where(address.name)
        await connect(exchange, "", path=f"/{address.rest}" if address.rest else "")
        endpoint = await self._targets[address.plural](address, target)
        async with self._dialer.endpoint(endpoint) as (host, port):
            shown = f"[{host}]" if ":" in host else host
            base = f"{target.scheme}://{shown}:{port}"
            try:
                return await _forward(raw, request, base, address.rest)
            except (ClientError, TimeoutError) as error:
                raise ServiceUnavailable(f"error trying to reach service: {error}") from error

    async def _service(self, address: Address, wanted: Where) -> Endpoint:
        return await self._dialer.find(address.namespace, wanted.name, wanted.port)

    async def _pod(self, address: Address, wanted: Where) -> Endpoint:
        stored = await self._handler.parts.registry.storage.find(PODS, Key(address.namespace, wanted.name))
        if stored is None:
            raise NotFound(f'pods "{wanted.name}" not found', kind="pods", name=wanted.name)
        ip = (stored.get("status") or {}).get("podIP")
        if not ip:
            raise ServiceUnavailable(f"pod {wanted.name} has no address yet")
        ports = [p for c in stored["spec"]["containers"] for p in c.get("ports") or ()]
        named = {p.get("name"): p["containerPort"] for p in ports}
        number = named.get(wanted.port) if wanted.port in named and wanted.port else None
        if number is None:
            if wanted.port and not wanted.port.isdigit():
                raise BadRequest(f"pod {wanted.name} has no port {wanted.port!r}")
            number = int(wanted.port) if wanted.port else (ports[0]["containerPort"] if ports else 80)
        key, node = Key(address.namespace, wanted.name), stored["spec"].get("nodeName", "")
        return Endpoint(ip, number, node, key, stored["metadata"]["uid"])

    async def _node(self, _address: Address, wanted: Where) -> Endpoint:
        raise ServiceUnavailable(f"node {wanted.name} answers no HTTP: agents only dial out")


async def _forward(raw: web.BaseRequest, request: Request, base: str, rest: str) -> web.StreamResponse:
    query = raw.raw_path.partition("?")[2]
    url = (
        f"{base}/{rest}"
        + ("/" if rest and request.path.endswith("/") else "")
        + (f"?{query}" if query else "")
    )
    headers = {name: value for name, value in raw.headers.items() if name.lower() not in HOP}
    headers["X-Forwarded-Uri"], headers["X-Forwarded-Host"] = raw.path, raw.headers.get("Host", "")
    timeout = ClientTimeout(total=None, connect=CONNECT_SECONDS)
    connector = TCPConnector(ssl=False)
    async with ClientSession(timeout=timeout, connector=connector, auto_decompress=False) as session:
        pairs = list(headers.items())
        prefix = _prefix(raw.path)
        return await relay(
            raw, request, session, url, pairs, redirect=lambda location: _redirected(location, base, prefix)
        )


Headers = Sequence[tuple[str, str]]


async def relay(
    raw: web.BaseRequest, request: Request, session: ClientSession, url: str, headers: Headers, *,
    server_hostname: str | None = None, redirect: Callable[[str], str] = str,
    begun: Callable[[int], Headers] = lambda _code: (),
) -> web.StreamResponse:  # fmt: skip
    """
    Send a request on, and its answer back while it comes; raises ClientError before that has begun.

    `begun` is told the answer's code before its first byte goes out, and returns headers to add. When
    both ends change to another protocol, the connection is theirs until either of them ends it.
    """
    protocol = wanted(raw)
    upgrading = (("Connection", "Upgrade"), ("Upgrade", protocol)) if protocol else ()
    async with session.request(
        raw.method, url, headers=[*_without_token(headers), *upgrading], data=request.body or None,
        allow_redirects=False, server_hostname=server_hostname, skip_auto_headers=OURS,
    ) as answer:  # fmt: skip
        pairs = [(name, value) for name, value in answer.headers.items() if name.lower() not in HOP]
        shown = CIMultiDict((*pairs, *begun(answer.status)))
        if answer.status == SWITCHING:
            return await tunnel(raw, answer, shown)
        if "Location" in shown:
            shown["Location"] = redirect(shown["Location"])
        response = web.StreamResponse(status=answer.status, headers=shown)
        if protocol:
            # What came after the request is of no protocol that anybody here speaks.
            response.force_close()
        if answer.content_length is not None and raw.method != "HEAD":
            response.content_length = answer.content_length
        await response.prepare(raw)
        try:
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
        except ClientError as error:
            # Too late to say so otherwise: the client sees an answer that is cut off.
            log.info("%s %s: cut off: %s", raw.method, raw.path, error)
            if raw.transport is not None:
                raw.transport.abort()
        return response


def _without_token(headers: Headers) -> Headers:
    """Return headers without the subprotocol that is a credential (browsers cannot send it otherwise)."""
    kept = []
    for name, value in headers:
        if name.lower() == PROTOCOLS:
            parts = [part.strip() for part in value.split(",")]
            text = ", ".join(part for part in parts if part and not part.startswith(SUBPROTOCOL))
            if text:
                kept.append((name, text))
        else:
            kept.append((name, value))
    return kept


def _prefix(path: str) -> str:
    """Return the part of a proxy's path that is ours."""
    return path[: path.index("/proxy") + len("/proxy")]


def _redirected(location: str, base: str, prefix: str) -> str:
    """Return a redirect that leads through the proxy again, if it stays with the target."""
    parts = urlsplit(location)
    if parts.netloc and f"{parts.scheme}://{parts.netloc}" != base:
        return location
    if not parts.path.startswith("/"):
        return location
    return prefix + parts.path + (f"?{parts.query}" if parts.query else "")
