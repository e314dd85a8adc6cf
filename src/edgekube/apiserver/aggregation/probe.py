"""Whether an extension server is there, and what it serves (kube-aggregator's availability controller)."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from edgekube.api.errors import NotFound, ServiceUnavailable
from edgekube.api.kinds.core_v1 import SERVICES
from edgekube.api.resource import Key
from edgekube.apiserver.aggregation.remote import BadBundle, FrontProxy, Remote, context_of, headers_of
from edgekube.apiserver.dial import Dialer
from edgekube.apiserver.identity import User
from edgekube.apiserver.registry.storage import Storage
from edgekube.apiserver.request import Tree

if TYPE_CHECKING:
    import aiohttp

SECONDS = 5.0
"""How long an extension server may take to say what it serves."""
LARGEST = 16 << 20
AGGREGATOR = User("system:kube-aggregator", ("system:masters",))


@dataclass(frozen=True, slots=True)
class Finding:
    """What a probe found; `resources` is None when nobody answered."""

    reason: str
    message: str
    resources: Sequence[Tree] | None = None

    @property
    def available(self) -> bool:
        """Whether requests may go there."""
        return self.resources is not None

    def condition(self, old: Tree | None, now: str) -> Tree:
        """Return the condition Available."""
        status = "True" if self.available else "False"
        since = old["lastTransitionTime"] if old and old["status"] == status else now
        return {
            "lastTransitionTime": since, "message": self.message, "reason": self.reason, "status": status,
            "type": "Available",
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Got:
    """An extension server's answer."""

    code: int
    body: bytes
    tag: str


LOCAL = Finding("Local", "Local APIServices are always available", ())


class Prober:
    """Asks extension servers."""

    def __init__(self, storage: Storage, dialer: Dialer, proxy: FrontProxy | None) -> None:
        self._storage, self._dialer, self._proxy = storage, dialer, proxy

    async def probe(self, remote: Remote) -> Finding:
        """Look for the Service, its endpoints, and the discovery document."""
        space, name, port = remote.namespace, remote.service, remote.port
        where = f'service/{name} in "{space}"'
        service = await self._storage.find(SERVICES, Key(space, name))
        if service is None:
            return Finding("ServiceNotFound", f"{where} is not present")
        if all(port != one["port"] for one in service["spec"].get("ports") or ()):
            return Finding("ServicePortError", f"{where} is not listening on port {port}")
        try:
            endpoint = await self._dialer.find(space, name, port)
        except (NotFound, ServiceUnavailable):
            return Finding("MissingEndpoints", f"endpoints for {where} have no addresses")
        try:
            async with asyncio.timeout(SECONDS), AsyncExitStack() as stack:
                host, number = await stack.enter_async_context(self._dialer.endpoint(endpoint))
                return await self._ask(remote, host, number)
        except (TimeoutError, OSError) as error:
            return _failed(remote, str(error) or "context deadline exceeded")

    async def get(self, remote: Remote, path: str, *, tag: str = "") -> Got:
        """Ask for a document, unless it is still the one with that ETag; raises OSError, TimeoutError, StatusError."""
        import aiohttp  # noqa: PLC0415 - as below

        endpoint = await self._dialer.find(remote.namespace, remote.service, remote.port)
        headers = [*headers_of(AGGREGATOR), ("Host", remote.host), ("Accept", "application/json")]
        if tag:
            headers.append(("If-None-Match", tag))
        try:
            context = context_of(remote.bundle, self._proxy, insecure=remote.insecure)
            async with (
                asyncio.timeout(SECONDS),
                self._dialer.endpoint(endpoint) as (host, port),
                aiohttp.ClientSession() as session,
                session.get(
                    f"https://{f'[{host}]' if ':' in host else host}:{port}{path}", headers=headers, ssl=context,
                    server_hostname=remote.host, allow_redirects=False,
                ) as answer,
            ):  # fmt: skip
                return Got(answer.status, await _body(answer.content), answer.headers.get("ETag", ""))
        except (aiohttp.ClientError, BadBundle) as error:
            raise OSError(str(error) or type(error).__name__) from error

    async def _ask(self, remote: Remote, host: str, port: int) -> Finding:
        import aiohttp  # noqa: PLC0415 - the client is only for those who have extension servers

        shown = f"[{host}]" if ":" in host else host
        headers = [*headers_of(AGGREGATOR), ("Host", remote.host), ("Accept", "application/json")]
        try:
            context = context_of(remote.bundle, self._proxy, insecure=remote.insecure)
            async with (
                aiohttp.ClientSession() as session,
                session.get(
                    f"https://{shown}:{port}{remote.root}", headers=headers, ssl=context,
                    server_hostname=remote.host, allow_redirects=False,
                ) as answer,
            ):  # fmt: skip
                body = await _body(answer.content)
                if not 200 <= answer.status < 300:
                    return _failed(remote, f"bad status {answer.status}")
        except (aiohttp.ClientError, BadBundle) as error:
            return _failed(remote, str(error) or type(error).__name__)
        return Finding("Passed", "all checks passed", resources_of(body))


async def _body(content: "aiohttp.StreamReader") -> bytes:
    """Return all of a body; what is too large is cut, and then no JSON."""
    found = bytearray()
    async for chunk in content.iter_any():
        found += chunk
        if len(found) > LARGEST:
            break
    return bytes(found[:LARGEST])


def resources_of(body: bytes) -> Sequence[dict[str, Any]]:
    """Return the entries of an APIResourceList; none of what is no such list."""
    try:
        tree = msgspec.json.decode(body)
        entries = [entry for entry in tree["resources"] if entry["name"] and entry["kind"]]
    except (msgspec.DecodeError, KeyError, TypeError):
        return ()
    return entries


def _failed(remote: Remote, why: str) -> Finding:
    url = f"https://{remote.host}:{remote.port}{remote.root}"
    return Finding("FailedDiscoveryCheck", f"failing or missing response from {url}: {why}")
