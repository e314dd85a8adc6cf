"""The loop that gets Services of type LoadBalancer their addresses (KEP-980: the finalizer that has them cleaned up)."""

from collections.abc import Iterable, Sequence

from edgekube.api.errors import NotFound
from edgekube.api.kinds import core_v1 as core
from edgekube.api.kinds import discovery_v1 as discovery
from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1, discovery_v1
from edgekube.cloud.base import Assigned, Balancers, Cloud, CloudError, CloudNode
from edgekube.control.index import Index
from edgekube.control.reconcile import Controller
from edgekube.control.writer import Writer, metadata_patch
from edgekube.controllers.cloud.config import CloudConfig
from edgekube.controllers.cloud.plan import (
    ANNOUNCER,
    FINALIZER,
    announcer,
    balancer_of,
    status,
    targets,
    wanted,
)
from edgekube.controllers.context import Context

SERVICE_NAME = "kubernetes.io/service-name"
RETRY = 30.0
"""Seconds until a Service that got no address, or whose address no node can speak for, is looked at again."""


class LoadBalancers:
    """Follow Services, and what their balancers lead to."""

    def __init__(self, context: Context, cloud: Cloud, balancers: Balancers) -> None:
        self.services = context.informers.of(core.SERVICES)
        self.nodes = context.informers.of(core.NODES)
        self.slices = context.informers.of(discovery.ENDPOINT_SLICES)
        self.config = CloudConfig(context, cloud)
        self._writer = Writer(context.client, self.services)
        self._slices_of = Index(self.slices, _service_of)
        self._events = context.events.recorder("service-controller")
        self._cloud, self._balancers = cloud, balancers
        self._adopted = False

    def keys(self, service: core_v1.Service) -> Iterable[Key]:
        """Return the Service if the provider has or should have something of it."""
        if service.spec.type == "LoadBalancer" or FINALIZER in service.metadata.finalizers:
            yield key_of(service)

    def every_key(self, _: object) -> Iterable[Key]:
        """Return all of them: a node came, went or changed, or the configuration did."""
        return [key for service in self.services for key in self.keys(service)]

    async def reconcile(self, key: Key) -> float | None:
        """Get one Service what it asks for, or take back what it has."""
        self.config.apply()
        self._adopt()
        service = self.services.get(key)
        if service is None:
            return None
        if not wanted(service, self._cloud.name):
            await self._release(service)
            return None
        if FINALIZER not in service.metadata.finalizers:
            service = await self._keep(service)
        nodes = targets(service, self.nodes, self._slices_of.of(key))
        try:
            assigned = await self._balancers.ensure(balancer_of(service), nodes)
        except CloudError as error:
            self._events.warning(
                service,
                "SyncLoadBalancerFailed",
                f"Error syncing load balancer: failed to ensure load balancer: {error}",
            )
            await self._show(service, Assigned(()), nodes)
            return RETRY
        spoken_for = await self._show(service, assigned, nodes)
        return RETRY if assigned.announced and not spoken_for else None

    def _adopt(self) -> None:
        if not self._adopted:
            known = [service for service in self.services if wanted(service, self._cloud.name)]
            known.sort(key=lambda service: (service.metadata.creation_timestamp, service.metadata.uid))
            self._balancers.adopt(map(balancer_of, known))
            self._adopted = True

    async def _keep(self, service: core_v1.Service) -> core_v1.Service:
        """Make sure that the Service cannot go before the provider took back what it has."""
        self._events.normal(service, "EnsuringLoadBalancer", "Ensuring load balancer")
        meta = service.metadata
        patch = metadata_patch(
            meta.uid, finalizers=[*meta.finalizers, FINALIZER], resourceVersion=meta.resource_version
        )
        return await self._writer.patch(key_of(service), patch)

    async def _show(self, service: core_v1.Service, assigned: Assigned, nodes: Sequence[CloudNode]) -> str:
        """Write who announces, and then the addresses; nothing if both are right already. Returns the former."""
        meta = service.metadata
        speaker = announcer(service, assigned.addresses, nodes) if assigned.announced else ""
        if meta.annotations.get(ANNOUNCER, "") != speaker:
            patch = metadata_patch(meta.uid, annotations={ANNOUNCER: speaker or None})
            service = await self._writer.patch(key_of(service), patch)
        wish = status(assigned.addresses)
        if (service.status.load_balancer or core_v1.LoadBalancerStatus()) != wish:
            tree = [{"ip": item.ip, "ipMode": item.ip_mode} for item in wish.ingress]
            patch = {**metadata_patch(meta.uid), "status": {"loadBalancer": {"ingress": tree or None}}}
            await self._writer.patch(key_of(service), patch, subresource="status")
            if wish.ingress:
                self._events.normal(service, "EnsuredLoadBalancer", "Ensured load balancer")
        return speaker

    async def _release(self, service: core_v1.Service) -> None:
        meta = service.metadata
        if FINALIZER not in meta.finalizers:
            return
        self._events.normal(service, "DeletingLoadBalancer", "Deleting load balancer")
        try:
            await self._balancers.delete(meta.uid)
        except CloudError as error:
            self._events.warning(service, "SyncLoadBalancerFailed", f"Error syncing load balancer: {error}")
            raise
        try:
            await self._show(service, Assigned(()), ())
            left = [name for name in meta.finalizers if name != FINALIZER]
            await self._writer.patch(key_of(service), metadata_patch(meta.uid, finalizers=left or None))
        except NotFound:
            return
        self._events.normal(service, "DeletedLoadBalancer", "Deleted load balancer")


def _service_of(item: discovery_v1.EndpointSlice) -> Iterable[Key]:
    name = item.metadata.labels.get(SERVICE_NAME)
    return [Key(item.metadata.namespace, name)] if name else []


def build(context: Context) -> Controller[Key]:
    """Return the loop; without a provider it has nothing to do."""
    cloud = context.options.cloud
    if cloud is None or cloud.balancers is None:
        return Controller("service", Idle())
    logic = LoadBalancers(context, cloud, cloud.balancers)
    controller = Controller("service", logic)
    controller.watch(logic.services, logic.keys)
    controller.watch(logic.slices, _service_of)
    controller.watch(logic.nodes, logic.every_key)
    controller.watch(logic.config.maps, logic.every_key)
    return controller


class Idle:
    """What a loop does where the provider cannot do its part."""

    async def reconcile(self, key: Key) -> float | None:
        """Do nothing."""
        del key
        return None
