"""Giving every node its share of the pod addresses; no two nodes ever the same."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1
from edgekube.control.reconcile import Controller
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context

Network = IPv4Network | IPv6Network


def allocate(cluster: Network, prefix: int, used: Iterable[str]) -> str | None:
    """Return the first subnet of `cluster` that overlaps none of `used`; None: all are given away."""
    taken = [ip_network(text) for text in used]
    base, step = int(cluster.network_address), 1 << (cluster.max_prefixlen - prefix)
    count = 1 << (prefix - cluster.prefixlen)
    blocked: set[int] = set()
    for network in taken:
        if network.version != cluster.version:
            continue
        first = (int(network.network_address) - base) // step
        last = (int(network.broadcast_address) - base) // step
        blocked.update(range(max(first, 0), min(last, count - 1) + 1))
    for number in range(count):
        if number not in blocked:
            return str(type(cluster)((base + number * step, prefix)))
    return None


def cidrs(node: core_v1.Node) -> Iterable[str]:
    """Return what a node has."""
    return node.spec.pod_cidrs or ((node.spec.pod_cidr,) if node.spec.pod_cidr else ())


class NodeIpam:
    """Keys are nodes; one worker, so that two nodes never choose at the same time."""

    def __init__(self, context: Context) -> None:
        self.nodes = context.informers.of(core.NODES)
        self._writer = Writer(context.client, self.nodes)
        self._events = context.events.recorder("cidrAllocator")
        options = context.options
        self._shares = [
            (network, options.node_prefix if network.version == 4 else options.node_prefix6)
            for network in map(ip_network, options.cluster_cidr.split(","))
        ]

    async def reconcile(self, key: Key) -> float | None:
        """Give a node its addresses if it has none."""
        node = self.nodes.get(key)
        if node is None or node.spec.pod_cidr or node.metadata.deletion_timestamp:
            return None
        used = [text for other in self.nodes for text in cidrs(other)]
        found = [allocate(cluster, prefix, used) for cluster, prefix in self._shares]
        chosen = [cidr for cidr in found if cidr is not None]
        if len(chosen) < len(found):
            self._events.normal(node, "CIDRNotAvailable", f"Node {key.name} status is now: CIDRNotAvailable")
            return 30.0
        patch: dict[str, Any] = {
            "metadata": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version},
            "spec": {"podCIDR": chosen[0], "podCIDRs": chosen},
        }
        await self._writer.patch(key_of(node), patch)
        return None


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = NodeIpam(context)
    controller = Controller("node-ipam", logic)
    controller.watch(logic.nodes, lambda node: [key_of(node)])
    return controller
