"""
The node's service proxy: keeps the packet rules equal to the Services and EndpointSlices it may see.

One key for everything: what changed meanwhile is gathered, and one batch programs it.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace

from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1, discovery_v1
from edgekube.control.mirror import Mirror
from edgekube.control.reconcile import Controller
from edgekube.network.base import Forwarding, Frontend, NetworkError, PodNetwork, ServiceRules
from edgekube.proxy.health import HealthChecks, plan_check
from edgekube.proxy.hostports import OpenNetwork, ToldNetwork, plan_host_ports
from edgekube.proxy.plan import Here, Rules, Wishes, difference, plan_service, service_key

log = logging.getLogger(__name__)

ZONE = "topology.kubernetes.io/zone"
_KEY = "services"


class ServiceProxy:
    """
    Programs `rules` for the node; `own_addresses` are service addresses the node answers itself (DNS).

    `network` waits for the pod network: who asks for it by `open_network` has pods' hostPorts programmed.
    """

    def __init__(
        self,
        mirror: Mirror,
        rules: ServiceRules,
        node_name: str,
        *,
        network: OpenNetwork | None = None,
        own_addresses: Iterable[str] = (),
        gather: float = 0.1,
        check: float = 30.0,
    ) -> None:
        self._mirror = mirror
        self._rules = rules
        self._here = Here(node_name, frozenset(own_addresses))
        self._gather = gather
        """Seconds at least between two batches."""
        self._check = check
        """Seconds between looks whether the rules are still there."""
        self._slices: dict[Key, dict[Key, discovery_v1.EndpointSlice]] = {}
        self._dirty: set[Key] = set()
        self._network = network
        self._host_ports: set[Key] = set()
        """The pods that have rules."""
        self._pods_stale = False
        self.health = HealthChecks()
        self._wishes = Wishes()
        self._programmed: dict[Frontend, Forwarding] | None = None
        """None: unknown, so everything must be written."""
        self._last = self._looked = float("-inf")
        self._controller = Controller("service-proxy", self)

    async def run(self) -> None:
        """Program everything once the caches are full, then follow changes until cancelled."""
        self._mirror.services.subscribe(self._service_changed)
        self._mirror.endpoint_slices.subscribe(self._slice_changed)
        self._mirror.nodes.subscribe(self._node_changed)
        self._mirror.pods.subscribe(self._pod_changed)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.health.run(), name="health-checks")
            group.create_task(self._follow(), name="service-rules")

    async def open_network(self) -> PodNetwork:
        """Return the pod network, through which the proxy learns of pods' addresses."""
        if self._network is None:
            raise NetworkError("no pod network was given")
        return ToldNetwork(await self._network(), self._look_at_pods)

    async def _follow(self) -> None:
        # Pods too: the first batch replaces what another process left, their hostPorts among it.
        for copy in (self._mirror.services, self._mirror.endpoint_slices, self._mirror.pods):
            await copy.synced.wait()
        self._controller.queue.add(_KEY)
        await self._controller.run()

    def _service_changed(self, old: core_v1.Service | None, new: core_v1.Service | None) -> None:
        for service in (old, new):
            if service is not None:
                self._touch(key_of(service))

    def _slice_changed(
        self, old: discovery_v1.EndpointSlice | None, new: discovery_v1.EndpointSlice | None
    ) -> None:
        if old is not None and (service := service_key(old)) is not None:
            held = self._slices.get(service, {})
            held.pop(key_of(old), None)
            if not held:
                self._slices.pop(service, None)
            self._touch(service)
        if new is not None and (service := service_key(new)) is not None:
            self._slices.setdefault(service, {})[key_of(new)] = new
            self._touch(service)

    def _node_changed(self, old: core_v1.Node | None, new: core_v1.Node | None) -> None:
        """Move to another zone: every Service may have other endpoints then."""
        del old
        if new is None or new.metadata.name != self._here.node_name:
            return
        zone = new.metadata.labels.get(ZONE, "")
        if zone != self._here.zone:
            self._here = replace(self._here, zone=zone)
            for service in self._mirror.services:
                self._touch(key_of(service))

    def _pod_changed(self, old: core_v1.Pod | None, new: core_v1.Pod | None) -> None:
        if any(pod is not None and _has_host_port(pod) for pod in (old, new)):
            self._look_at_pods()

    def _look_at_pods(self) -> None:
        if self._host_ports or any(map(_has_host_port, self._mirror.pods)):
            self._pods_stale = True
            self._soon()

    def _touch(self, service: Key) -> None:
        self._dirty.add(service)
        self._soon()

    def _soon(self) -> None:
        wait = self._last + self._gather - asyncio.get_running_loop().time()
        if wait > 0:
            self._controller.queue.add_after(_KEY, wait)
        else:
            self._controller.queue.add(_KEY)

    async def reconcile(self, key: str) -> float:
        """Program what changed since the last time, or everything if it is not known what is programmed."""
        del key
        now = asyncio.get_running_loop().time()
        self._last = now
        if self._programmed is not None and now >= self._looked + self._check:
            if not await self._rules.intact():
                log.warning("somebody removed service rules: writing them again")
                self._programmed = None
            self._looked = now
        frontends = await self._plan_pods()
        frontends |= self._plan()
        # Until this has ended well, nobody knows what is programmed.
        programmed, self._programmed = self._programmed, None
        if programmed is not None and await self._changed(programmed, frontends):
            self._programmed = programmed
            return self._check
        wish = self._wishes.all()
        await self._rules.replace(wish)
        self._programmed = wish
        self._looked = now
        return self._check

    def _plan(self) -> set[Frontend]:
        """Work off the changed Services; return the frontends that may differ."""
        frontends: set[Frontend] = set()
        while self._dirty:
            key = self._dirty.pop()
            service = self._mirror.services.get(key)
            slices = tuple(self._slices.get(key, {}).values())
            rules = plan_service(service, slices, self._here) if service is not None else {}
            frontends |= self._wishes.put(key, rules)
            self.health.put(key, plan_check(service, slices, self._here.node_name) if service else None)
        return frontends

    async def _plan_pods(self) -> set[Frontend]:
        """Look at the pods with hostPorts, if something was heard of one."""
        if not self._pods_stale:
            return set()
        attached = await (await self._network()).list() if self._network is not None else ()
        self._pods_stale = False
        addresses = {item.uid: item.addresses for item in attached}
        wanted: dict[Key, Rules] = {}
        for pod in filter(_has_host_port, self._mirror.pods):
            # A node without the master knows the pods it made itself; a static pod is only said to be there.
            said = [item.ip for item in pod.status.pod_ips] or [pod.status.pod_ip]
            held = addresses.get(pod.metadata.uid) or said
            # No Service is called so.
            wanted[Key(pod.metadata.namespace, f"pod/{pod.metadata.name}")] = plan_host_ports(pod, *held)
        frontends: set[Frontend] = set()
        for key in self._host_ports | wanted.keys():
            frontends |= self._wishes.put(key, wanted.get(key, {}))
        self._host_ports = set(wanted)
        return frontends

    async def _changed(self, programmed: dict[Frontend, Forwarding], frontends: Iterable[Frontend]) -> bool:
        """Bring `programmed` and the kernel up to date; False if the kernel holds something else than we think."""
        change = difference(programmed, self._wishes, frontends)
        if not change:
            return True
        try:
            await self._rules.change(change.put, change.drop)
        except NetworkError as error:
            log.warning("service rules could not be changed, writing them all again: %s", error)
            return False
        for frontend in change.drop:
            del programmed[frontend]
        programmed |= change.put
        return True


def _has_host_port(pod: core_v1.Pod) -> bool:
    containers = (*pod.spec.containers, *pod.spec.init_containers)
    return any(port.host_port for container in containers for port in container.ports)
