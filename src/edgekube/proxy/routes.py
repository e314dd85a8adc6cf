"""Routes to the pods of other nodes, from what their Node objects say."""

import logging
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError

from edgekube.api.types import core_v1
from edgekube.control.mirror import Mirror
from edgekube.control.reconcile import Controller
from edgekube.network.base import NetworkError, Peer, PeerRoutes

log = logging.getLogger(__name__)

_KEY = "routes"
_LOOK = 30.0
"""Seconds until the next look: a LAN may come up, and somebody may have removed what is ours."""


def plan_peers(nodes: Iterable[core_v1.Node], node_name: str) -> dict[str, Peer]:
    """Return the other nodes that have an IPv4 pod CIDR and an internal address."""
    peers: dict[str, Peer] = {}
    for node in nodes:
        name, cidr, address = node.metadata.name, _pod_cidr(node), _address(node)
        if name != node_name and cidr and address:
            peers[name] = Peer(address, cidr)
    return peers


def _pod_cidr(node: core_v1.Node) -> str:
    for cidr in node.spec.pod_cidrs or (node.spec.pod_cidr,):
        try:
            return str(IPv4Network(cidr))
        except (AddressValueError, NetmaskValueError, ValueError):
            continue
    return ""


def _address(node: core_v1.Node) -> str:
    for entry in node.status.addresses:
        if entry.type == "InternalIP":
            try:
                return str(IPv4Address(entry.address))
            except AddressValueError:
                continue
    return ""


class NodeRoutes:
    """Keeps `routes` equal to the nodes of the cluster."""

    def __init__(self, mirror: Mirror, routes: PeerRoutes, node_name: str) -> None:
        self._mirror = mirror
        self._routes = routes
        self._node_name = node_name
        self._controller = Controller("node-routes", self)

    async def run(self) -> None:
        """Follow the nodes until cancelled."""
        self._controller.watch(self._mirror.nodes, lambda _node: [_KEY])
        await self._controller.run()

    async def reconcile(self, key: str) -> float:
        """Program all routes; nodes on other LANs are left for later."""
        del key
        try:
            await self._routes.set_peers(plan_peers(self._mirror.nodes, self._node_name))
        except NetworkError as error:
            log.warning("%s", error)
        return _LOOK
