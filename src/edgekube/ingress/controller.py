"""The loop: whatever changes, one plan of everything, handed to the proxy when it differs."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from edgekube.api.errors import AlreadyExists
from edgekube.api.kinds import core_v1 as core
from edgekube.api.kinds import discovery_v1 as discovery
from edgekube.api.kinds import networking_v1 as networking
from edgekube.api.resource import Key, key_of
from edgekube.api.types import discovery_v1, meta_v1, networking_v1
from edgekube.client.typed import Client
from edgekube.control.clock import Clock
from edgekube.control.events import EventSink
from edgekube.control.index import Index
from edgekube.control.informer import Informers
from edgekube.control.reconcile import Controller
from edgekube.control.writer import Writer
from edgekube.ingress.plan import CONTROLLER, Complaint, Table, World, ours, plan

CLASS = "edgekube"
SERVICE_NAME = "kubernetes.io/service-name"
GATHER = 0.5
"""Seconds between two configurations: a reload costs the proxy a process."""
_KEY = "everything"


class Proxy(Protocol):
    """What serves a table."""

    async def serve(self, table: Table) -> None:
        """Take up a table, without dropping connections."""
        ...


class IngressController:
    """Follow the cluster; `addresses` are published in the Ingresses' status."""

    def __init__(
        self, client: Client, informers: Informers, proxy: Proxy, *, addresses: Sequence[str], clock: Clock
    ) -> None:
        self.ingresses = informers.of(networking.INGRESSES)
        self.classes = informers.of(networking.INGRESS_CLASSES)
        self.services = informers.of(core.SERVICES)
        self.slices = informers.of(discovery.ENDPOINT_SLICES)
        self.secrets = informers.of(core.SECRETS, fields="type=kubernetes.io/tls")
        self._slices_of = Index(self.slices, _service_of)
        self._writer = Writer(client, self.ingresses)
        self._client, self._proxy, self._addresses = client, proxy, tuple(addresses)
        self._sink = EventSink(client, clock)
        self._events = self._sink.recorder("edgekube-ingress")
        self._table: Table | None = None
        self._told: frozenset[Complaint] = frozenset()

    async def run(self) -> None:
        """Make the class if it is not there, then follow until cancelled."""
        await self._make_class()
        controller: Controller[str] = Controller("ingress", self)
        for reader in (self.ingresses, self.classes, self.services, self.slices, self.secrets):
            controller.watch(reader, lambda _: [_KEY])
        controller.queue.add(_KEY)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sink.run(), name="events")
            group.create_task(controller.run(), name="ingress")

    async def reconcile(self, key: str) -> None:
        """Bring the proxy and the statuses up to date."""
        del key
        await asyncio.sleep(GATHER)
        table = plan(self._world())
        if table != self._table:
            await self._proxy.serve(table)
            self._table = table
        self._complain(table.complaints)
        for ingress in tuple(self.ingresses):
            await self._publish(ingress)

    def _world(self) -> World:
        services = {key_of(item): item for item in self.services}
        return World(
            ingresses=tuple(self.ingresses), classes=tuple(self.classes), services=services,
            slices={key: self._slices_of.of(key) for key in services},
            secrets={key_of(item): item for item in self.secrets},
        )  # fmt: skip

    def _complain(self, complaints: Iterable[Complaint]) -> None:
        now = frozenset(complaints)
        for complaint in sorted(now - self._told, key=lambda item: (item.ingress, item.message)):
            ingress = self.ingresses.get(complaint.ingress)
            if ingress is not None:
                self._events.warning(ingress, complaint.reason, complaint.message)
        self._told = now

    async def _publish(self, ingress: networking_v1.Ingress) -> None:
        if ingress.metadata.deletion_timestamp or not ours(ingress, tuple(self.classes)):
            return
        shown = ingress.status.load_balancer.ingress if ingress.status.load_balancer else ()
        if tuple(item.ip for item in shown) == self._addresses:
            return
        tree = [{"ip": address} for address in self._addresses]
        await self._writer.patch(
            key_of(ingress), {"status": {"loadBalancer": {"ingress": tree}}}, subresource="status"
        )

    async def _make_class(self) -> None:
        made = networking_v1.IngressClass(
            metadata=meta_v1.ObjectMeta(name=CLASS),
            spec=networking_v1.IngressClassSpec(controller=CONTROLLER),
        )
        try:
            await self._client.create(networking.INGRESS_CLASSES, made)
        except AlreadyExists:
            return


def _service_of(item: discovery_v1.EndpointSlice) -> Iterable[Key]:
    name = item.metadata.labels.get(SERVICE_NAME)
    return [Key(item.metadata.namespace, name)] if name else []
