"""The agent's network put together: the pod network once the node's CIDR is known, the ways to other nodes, the node's address."""

import asyncio
import logging
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from edgekube.api.resource import Key
from edgekube.app.membership import ClusterFacts
from edgekube.control.mirror import Mirror
from edgekube.network.base import NetworkError
from edgekube.network.linux import LinuxPodNetwork, NodeAddressing
from edgekube.network.overlay import Mode
from edgekube.network.sysctl import has_ipv6
from edgekube.network.watch import LinuxSurroundings
from edgekube.node.address import AddressWish, NodeAddressLoop, choose
from edgekube.node.kubelet import Kubelet
from edgekube.proxy.obstacles import Probe, probes
from edgekube.proxy.routes import NodeRoutes
from edgekube.transport.base import Transport

log = logging.getLogger(__name__)

_RETRY = 5.0
"""Seconds until another try at a new pod CIDR."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkWish:
    """What the user said about this node's network."""

    directory: Path
    """Where the pods' addresses are noted."""
    mode: str = ""
    """`auto`, `routes` or `vxlan`; "": as the cluster has it."""
    node: AddressWish


class NodeNetwork:
    """The pod network and what keeps it and the node's address right."""

    def __init__(self, wish: NetworkWish, facts: ClusterFacts, mirror: Mirror, name: str) -> None:
        self._wish = wish
        self._facts = facts
        self._mirror = mirror
        self._name = name
        self._making = asyncio.Lock()
        self._changed = asyncio.Event()
        mirror.nodes.subscribe(lambda _old, _new: self._changed.set())
        self._network: LinuxPodNetwork | None = None
        self.node_ip = _now(wish.node)
        """The node's address when the agent started."""

    async def open(self) -> LinuxPodNetwork:
        """Return the network; waits for the CIDR. Raises NetworkError; the next call tries again."""
        async with self._making:
            if self._network is None:
                self._network = await self._make()
            return self._network

    def probes(self) -> list[Probe]:
        """Return packets of pods that no other program's rules should stop."""
        if self._network is None:
            return []
        around = LinuxSurroundings()
        try:
            lan = next((item.interface for item in around.addresses() if item.default), "")
        finally:
            around.close()
        four = probes(str(ip_network(self._network.pod_cidr)[2]), self._facts.cluster_dns, lan=lan)
        six = self._pod_cidr6()
        return four + (probes(str(ip_network(six)[2]), "", lan=lan) if six else [])

    async def follow_address(self, kubelet: Kubelet, transport: Transport) -> None:
        """Tell `kubelet` when the node's address changes, and connect from the new one, until cancelled."""
        known = [self.node_ip]

        def tell(address: str, address6: str) -> None:
            if address != known[0]:
                known[0] = address
                transport.renew()
            kubelet.set_node_ip(address, address6)

        around = LinuxSurroundings()
        try:
            dual = bool(self._facts.cluster_cidr6)
            await NodeAddressLoop(around, self._wish.node, tell, known=self.node_ip, dual=dual).run()
        finally:
            around.close()

    async def follow_nodes(self, kubelet: Kubelet) -> None:
        """Keep the ways to other nodes' pods until cancelled."""
        network = await self.open()
        around = LinuxSurroundings()
        routes = NodeRoutes(
            self._mirror, network, self._name, surroundings=around, told=kubelet.set_network_problem
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(routes.run(), name="ways")
                group.create_task(self._follow_cidr(network), name="pod-cidr")
        finally:
            around.close()

    async def _follow_cidr(self, network: LinuxPodNetwork) -> None:
        """Take up another pod CIDR: the Node object was deleted and made again."""
        while True:
            cidr = await self._pod_cidr(other_than=network.pod_cidr)
            try:
                await network.renumber(cidr, self._pod_cidr6())
            except NetworkError as error:
                log.warning("pod CIDR %s: %s", cidr, error)
                await asyncio.sleep(_RETRY)
                continue
            log.warning(
                "pods get addresses from %s now; those that run keep theirs until they are deleted", cidr
            )

    async def _make(self) -> LinuxPodNetwork:
        cidr = await self._pod_cidr()
        addressing = NodeAddressing(
            pod_cidr=cidr,
            cluster_cidr=self._facts.cluster_cidr,
            pod_cidr6=self._pod_cidr6(),
            cluster_cidr6=self._facts.cluster_cidr6,
            service_cidr=self._facts.service_cidr,
            service_cidr6=self._facts.service_cidr6,
            addresses=(self._facts.cluster_dns,),
            mode=Mode(self._wish.mode or self._facts.network),
        )
        network = LinuxPodNetwork(addressing, self._wish.directory)
        await network.prepare()
        log.info("pods get addresses from %s", cidr)
        return network

    def _pod_cidr6(self) -> str:
        node = self._mirror.nodes.get(Key("", self._name))
        found = next((cidr for cidr in node.spec.pod_cidrs if ":" in cidr), "") if node is not None else ""
        if found and not has_ipv6():
            log.warning("pods get no IPv6 addresses: this kernel has IPv6 switched off")
            return ""
        return found if self._facts.cluster_cidr6 else ""

    async def _pod_cidr(self, *, other_than: str = "") -> str:
        """Wait for the node's pod CIDR, or for another one than it has."""
        while True:
            node = self._mirror.nodes.get(Key("", self._name))
            if node is not None and node.spec.pod_cidr not in {"", other_than}:
                return node.spec.pod_cidr
            self._changed.clear()
            await self._changed.wait()


def _now(wish: AddressWish) -> str:
    around = LinuxSurroundings()
    try:
        return choose(around.addresses(), wish)
    finally:
        around.close()
