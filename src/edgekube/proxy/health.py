"""
Answers for balancers outside the cluster, which ask at `healthCheckNodePort` whether a Service has pods here.

The answers are kube-proxy's: any path, 200 with pods and 503 without, the count as JSON.
"""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.network.base import ANY, ANY6
from edgekube.network.sysctl import has_ipv6
from edgekube.proxy.endpoints import Slices, is_ready

log = logging.getLogger(__name__)

_RETRY = 10.0
"""Seconds until a port somebody else has is tried again."""
_IDLE = 5.0
"""Seconds a client has to ask."""
_REQUEST = 8192
"""Bytes of a request's head at most."""
_CONNECTIONS = 64
"""Clients at a time."""


@dataclass(frozen=True, slots=True)
class Check:
    """What is asked and answered at one port."""

    service: Key
    port: int
    endpoints: int
    """Ready endpoints on this node."""


def plan_check(service: core_v1.Service, slices: Slices, node_name: str) -> Check | None:
    """Return the check that a Service wants; None for one whose traffic may leave the node."""
    spec, meta = service.spec, service.metadata
    if spec.type != "LoadBalancer" or spec.external_traffic_policy != "Local":
        return None
    if not spec.health_check_node_port:
        return None
    main = spec.ip_families[0] if spec.ip_families else "IPv4"
    # A pod counts once, whichever slices name it.
    near = {
        address
        for item in slices
        for endpoint in item.endpoints
        if endpoint.node_name == node_name and is_ready(endpoint)
        for address in endpoint.addresses[:1]
        if item.address_type == main
    }
    return Check(Key(meta.namespace, meta.name), spec.health_check_node_port, len(near))


def respond(check: Check, *, method: str = "GET") -> bytes:
    """Return the whole HTTP answer."""
    status = "200 OK" if check.endpoints else "503 Service Unavailable"
    body = json.dumps(
        {
            "service": {"namespace": check.service.namespace, "name": check.service.name},
            "localEndpoints": check.endpoints,
            "serviceProxyHealthy": True,
        }
    ).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
        f"X-Load-Balancing-Endpoint-Weight: {check.endpoints}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == "HEAD" else body)


class HealthChecks:
    """Listens at the ports of all checks, on every address of the node (`hosts` says otherwise)."""

    def __init__(self, *, hosts: Sequence[str] = ()) -> None:
        self._hosts = hosts or ((ANY, ANY6) if has_ipv6() else (ANY,))
        self._checks: dict[Key, Check] = {}
        self._servers: dict[int, asyncio.Server] = {}
        self._changed = asyncio.Event()
        self._clients = 0

    def put(self, service: Key, check: Check | None) -> None:
        """Have another answer for a Service from now on, or none."""
        old = self._checks.pop(service, None)
        if check is not None:
            self._checks[service] = check
        if (old.port if old else 0) != (check.port if check else 0):
            self._changed.set()

    @property
    def ports(self) -> Mapping[int, Check]:
        """What is asked at each port; the API gives no port to two Services."""
        return {check.port: check for check in self._checks.values()}

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            while True:
                self._changed.clear()
                wait = None if await self._listen() else _RETRY
                try:
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            for server in self._servers.values():
                server.close()
            self._servers.clear()

    async def _listen(self) -> bool:
        """Open and close listeners; False if a port is somebody else's."""
        wanted = self.ports
        for port in self._servers.keys() - wanted.keys():
            self._servers.pop(port).close()
        well = True
        for port in wanted.keys() - self._servers.keys():
            try:
                self._servers[port] = await asyncio.start_server(
                    lambda reader, writer, port=port: self._serve(reader, writer, port),  # type: ignore[misc]  # the default binds it
                    self._hosts,
                    port,
                    limit=_REQUEST,
                )
            except OSError as error:
                log.warning("%s: health check port %d: %s", wanted[port].service, port, error.strerror)
                well = False
        return well

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        if self._clients >= _CONNECTIONS:
            writer.close()
            return
        self._clients += 1
        try:
            async with asyncio.timeout(_IDLE):
                head = await reader.readuntil(b"\r\n\r\n")
                check = self.ports.get(port)
                if check is not None:
                    writer.write(respond(check, method=head.split(b" ", 1)[0].decode("latin-1")))
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        finally:
            self._clients -= 1
            writer.close()
