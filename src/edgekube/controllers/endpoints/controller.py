"""The loop that keeps EndpointSlices and Endpoints of every Service with a selector."""

from collections.abc import Iterable, Sequence

import msgspec

from edgekube.api.errors import AlreadyExists
from edgekube.api.kinds import core_v1 as core
from edgekube.api.kinds import discovery_v1 as discovery
from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1, discovery_v1
from edgekube.control.index import Index
from edgekube.control.reconcile import Controller
from edgekube.control.selectors import subset
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context
from edgekube.controllers.endpoints import topology
from edgekube.controllers.endpoints.backends import ZONE, backends, lost
from edgekube.controllers.endpoints.plan import (
    ENDPOINTS_MANAGED_BY,
    ENDPOINTS_MANAGER,
    MANAGED_BY,
    MANAGER,
    SERVICE_NAME,
    Plan,
    endpoints_object,
    plan,
)  # fmt: skip

WORKERS = 2


class Endpoints:
    """Follow the pods behind each Service."""

    def __init__(self, context: Context) -> None:
        self.services = context.informers.of(core.SERVICES)
        self.pods = context.informers.of(core.PODS)
        self.nodes = context.informers.of(core.NODES)
        self.slices = context.informers.of(discovery.ENDPOINT_SLICES)
        self.endpoints = context.informers.of(core.ENDPOINTS)
        self._slice_writer = Writer(context.client, self.slices)
        self._endpoints_writer = Writer(context.client, self.endpoints)
        self._pods_in = Index(self.pods, lambda pod: [pod.metadata.namespace])
        self._services_in = Index(self.services, lambda service: [service.metadata.namespace])
        self._slices_of = Index(self.slices, _service_of)

    def keys_of_pod(self, pod: core_v1.Pod) -> Iterable[Key]:
        """Return the Services that select a pod."""
        if not pod.spec.node_name:
            return
        for service in self._services_in.of(pod.metadata.namespace):
            if service.spec.selector and subset(service.spec.selector, pod.metadata.labels):
                yield key_of(service)

    def every_key(self, _: object) -> Iterable[Key]:
        """Return all Services: a node was lost or found."""
        return [key_of(service) for service in self.services]

    async def reconcile(self, key: Key) -> float | None:
        """Bring the slices of one Service up to date."""
        service = self.services.get(key)
        existing = [s for s in self._slices_of.of(key) if s.metadata.labels.get(MANAGED_BY) == MANAGER]
        if service is None:
            await self._forget(key)
            return None
        if service.metadata.deletion_timestamp:
            return None
        if not service.spec.selector or service.spec.type == "ExternalName":
            for piece in existing if service.spec.type == "ExternalName" else ():
                await self._slice_writer.delete(piece)
            return None
        families = service.spec.ip_families or ("IPv4",)
        pods = self._pods_in.of(key.namespace)
        nodes = {node.metadata.name: node for node in self.nodes}
        silent = lost(nodes.values())
        for number, family in enumerate(families):
            found = backends(service, pods, nodes, family, silent=silent)
            if topology.auto(service):
                found = topology.hinted(found, topology.shares(nodes.values()))
            mine = [s for s in existing if s.address_type == family and not s.metadata.deletion_timestamp]
            await self._write(plan(service, found, mine, family))
            if number == 0:
                await self._mirror(endpoints_object(service, found, self.endpoints.get(key)))
        for piece in existing:
            if piece.address_type not in families:
                await self._slice_writer.delete(piece)
        return None

    async def _write(self, decided: Plan) -> None:
        for piece in decided.create:
            await self._slice_writer.create(piece)
        for piece in decided.update:
            await self._slice_writer.update(piece)
        for piece in decided.delete:
            await self._slice_writer.delete(piece)

    async def _mirror(self, wish: core_v1.Endpoints) -> None:
        existing = self.endpoints.get(key_of(wish))
        if existing is None:
            try:
                await self._endpoints_writer.create(wish)
            except AlreadyExists:
                await self._endpoints_writer.live(key_of(wish))
        elif existing != wish:
            await self._endpoints_writer.update(
                msgspec.structs.replace(existing, metadata=wish.metadata, subsets=wish.subsets)
            )

    async def _forget(self, key: Key) -> None:
        """Delete the Endpoints of a Service that is gone; its slices go by their owner reference."""
        left = self.endpoints.get(key)
        if left is not None and left.metadata.labels.get(ENDPOINTS_MANAGED_BY) == ENDPOINTS_MANAGER:
            await self._endpoints_writer.delete(left)


def _service_of(piece: discovery_v1.EndpointSlice) -> Sequence[Key]:
    name = piece.metadata.labels.get(SERVICE_NAME)
    return [Key(piece.metadata.namespace, name)] if name else []


def _silence(node: core_v1.Node | None) -> tuple[bool, str, float]:
    """Return what of a node matters here: whether it is silent, its zone, and its part in the zone's processors."""
    if node is None:
        return False, "", 0
    silent = any(c.type == "Ready" and c.status == "Unknown" for c in node.status.conditions)
    amount = topology.processors(node) if topology.works(node) else 0
    return silent, node.metadata.labels.get(ZONE, ""), amount


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = Endpoints(context)
    controller = Controller("endpointslice", logic, workers=WORKERS)
    controller.watch(logic.services, lambda service: [key_of(service)])
    controller.watch(logic.pods, logic.keys_of_pod)
    controller.watch(logic.slices, _service_of)
    controller.watch(logic.endpoints, lambda endpoints: [key_of(endpoints)])
    controller.watch(logic.nodes, lambda _node: ())

    def node_changed(old: core_v1.Node | None, new: core_v1.Node | None) -> None:
        # Heartbeats must not wake every Service.
        if _silence(old) != _silence(new):
            for key in logic.every_key(None):
                controller.queue.add(key)

    logic.nodes.subscribe(node_changed)
    return controller
