"""
Reaching a Service's pods from the API server: directly, or through the node when there is no way.

A server on the cluster's network (one machine, a LAN with routes) connects to the pod. One that is
not opens a port-forward stream to the pod's node and offers it on a loopback port.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from edgekube.api.errors import NotFound, ServiceUnavailable
from edgekube.api.kinds.core_v1 import SERVICES
from edgekube.api.kinds.discovery_v1 import ENDPOINT_SLICES
from edgekube.api.resource import Key
from edgekube.apiserver.registry.storage import Storage
from edgekube.apiserver.request import Tree
from edgekube.lib.errors import EdgekubeError
from edgekube.transport.base import STDIN, STDOUT, Stream, StreamClosed, StreamGateway, StreamRequest

DIRECT_SECONDS = 0.5
CHUNK = 64 * 1024
SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One pod behind a Service."""

    address: str
    port: int
    node: str = ""
    pod: Key | None = None
    uid: str = ""


class Dialer:
    """Finds and reaches endpoints."""

    def __init__(self, storage: Storage, gateway: StreamGateway | None) -> None:
        self._storage, self._gateway = storage, gateway

    @asynccontextmanager
    async def service(self, namespace: str, name: str, port: int | str) -> AsyncIterator[tuple[str, int]]:
        """Give a host and port that lead to a ready pod of a Service; raises NotFound, ServiceUnavailable."""
        found = await self.find(namespace, name, port)
        async with self.endpoint(found) as address:
            yield address

    @asynccontextmanager
    async def endpoint(self, endpoint: Endpoint) -> AsyncIterator[tuple[str, int]]:
        """Give a host and port that lead to this pod."""
        if self._gateway is None or endpoint.pod is None or await _answers(endpoint):
            yield endpoint.address, endpoint.port
            return
        bridge = await asyncio.start_server(lambda r, w: self._carry(endpoint, r, w), "127.0.0.1", 0)
        async with bridge:
            host, port = bridge.sockets[0].getsockname()
            yield host, port

    async def find(self, namespace: str, name: str, port: int | str) -> Endpoint:
        """Return a ready pod of a Service; `port` by number or name, "" is the first one."""
        service = await self._storage.find(SERVICES, Key(namespace, name))
        if service is None:
            raise NotFound(f'services "{name}" not found', kind="services", name=name)
        ports = service["spec"].get("ports") or ()
        wished = {str(port)} if port else {str(p["port"]) for p in ports[:1]}
        wanted = next((p for p in ports if wished & {str(p["port"]), p.get("name", "")}), None)
        if wanted is None:
            raise ServiceUnavailable(f'service "{name}" has no port {port}')
        if service["spec"].get("type") == "ExternalName":
            return Endpoint(service["spec"]["externalName"], wanted["port"])
        for piece in await self._storage.within(ENDPOINT_SLICES, namespace):
            if (piece["metadata"].get("labels") or {}).get(SERVICE_LABEL) == name:
                found = _ready(piece, wanted.get("name", ""), namespace)
                if found is not None:
                    return found
        raise ServiceUnavailable(f'no endpoints available for service "{name}"', retry_after=1)

    async def _carry(
        self, endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        assert self._gateway is not None
        assert endpoint.pod is not None
        wish = StreamRequest(
            kind="portforward", namespace=endpoint.pod.namespace, pod=endpoint.pod.name, uid=endpoint.uid,
            port=endpoint.port,
        )  # fmt: skip
        try:
            stream = await self._gateway.open(endpoint.node, wish)
            try:
                await _pump(stream, reader, writer)
            finally:
                await stream.close()
        except (EdgekubeError, OSError):
            # Whoever connected sees the connection end, and says what that means to it.
            pass
        finally:
            writer.close()


def _ready(piece: Tree, port_name: str, namespace: str) -> Endpoint | None:
    number = next(
        (p.get("port") for p in piece.get("ports") or () if (p.get("name") or "") == port_name), None
    )
    for one in piece.get("endpoints") or ():
        if number is None or (one.get("conditions") or {}).get("ready") is False or not one.get("addresses"):
            continue
        target = one.get("targetRef") or {}
        pod = Key(namespace, target["name"]) if target.get("kind") == "Pod" else None
        return Endpoint(one["addresses"][0], number, one.get("nodeName", ""), pod, target.get("uid", ""))
    return None


async def _answers(endpoint: Endpoint) -> bool:
    try:
        async with asyncio.timeout(DIRECT_SECONDS):
            _, writer = await asyncio.open_connection(endpoint.address, endpoint.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _pump(stream: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def send() -> None:
        while data := await reader.read(CHUNK):
            await stream.send(STDIN, data)
        await stream.send(STDIN, b"")

    sending = asyncio.create_task(send(), name="dial-send")
    try:
        while (frame := await stream.receive()) is not None:
            if frame[0] == STDOUT and not frame[1]:
                break
            if frame[0] == STDOUT:
                writer.write(frame[1])
                await writer.drain()
    except StreamClosed:
        return
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, EdgekubeError, OSError):
            await sending
