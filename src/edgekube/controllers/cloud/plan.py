"""What a Service of type LoadBalancer asks of the provider, and which node speaks for its addresses. Pure."""

from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b
from ipaddress import ip_address, ip_network

from edgekube.api.types import core_v1, discovery_v1
from edgekube.cloud.base import Balancer, CloudNode
from edgekube.controllers.nodes.health import ready

FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
ANNOUNCER = "edgekube.io/announced-by"
"""Annotation of a Service: the node that answers for its addresses on the LAN. Agents act on it."""
CLASS_PREFIX = "edgekube.io/"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
_ORDER = {"ExternalIP": 0, "InternalIP": 1}
_NEIGHBOURS = {4: 24, 6: 64}
"""Prefix length within which addresses count as one LAN: nobody tells the master its nodes' netmasks."""


def wanted(service: core_v1.Service, provider: str) -> bool:
    """Tell whether the provider should make a balancer for the Service."""
    spec = service.spec
    mine = spec.load_balancer_class in {None, "", CLASS_PREFIX + provider}
    return spec.type == "LoadBalancer" and mine and not service.metadata.deletion_timestamp


def balancer_of(service: core_v1.Service) -> Balancer:
    """Return the Service as a provider sees it."""
    meta, spec = service.metadata, service.spec
    ingress = service.status.load_balancer.ingress if service.status.load_balancer else ()
    return Balancer(
        uid=meta.uid, name=f"{meta.namespace}/{meta.name}",
        ports=frozenset((port.protocol or "TCP", port.port) for port in spec.ports),
        families=spec.ip_families or ("IPv4",), wanted=spec.load_balancer_ip, annotations=meta.annotations, given=tuple(item.ip for item in ingress if item.ip),
    )  # fmt: skip


def cloud_node(node: core_v1.Node) -> CloudNode:
    """Return a node as a provider sees it."""
    known = [a for a in node.status.addresses if a.type in _ORDER]
    addresses = sorted(known, key=lambda address: _ORDER[address.type])
    return CloudNode(
        name=node.metadata.name, addresses=tuple(dict.fromkeys(a.address for a in addresses)),
        provider_id=node.spec.provider_id, labels=node.metadata.labels,
    )  # fmt: skip


def targets(
    service: core_v1.Service, nodes: Iterable[core_v1.Node], slices: Iterable[discovery_v1.EndpointSlice]
) -> list[CloudNode]:
    """Return the nodes outsiders may be sent to: those that are well; where the traffic must stay, those with pods."""
    near = _serving(slices) if service.spec.external_traffic_policy == "Local" else None
    return [
        cloud_node(node)
        for node in sorted(nodes, key=lambda node: node.metadata.name)
        if ready(node)
        and EXCLUDED not in node.metadata.labels
        and not node.metadata.deletion_timestamp
        and (near is None or node.metadata.name in near)
    ]


def _serving(slices: Iterable[discovery_v1.EndpointSlice]) -> Collection[str]:
    return {
        endpoint.node_name
        for item in slices
        for endpoint in item.endpoints
        if endpoint.conditions is None or endpoint.conditions.ready is not False
    }


def announcer(service: core_v1.Service, addresses: Sequence[str], nodes: Sequence[CloudNode]) -> str:
    """
    Return the node that should speak for the addresses: who does it now if it can, else the first of a lottery.

    The lottery is rendezvous hashing, so that the addresses of a node that died spread over the others.
    """
    neighbours = [node for node in nodes if _near(node, addresses)] or list(nodes)
    names = {node.name for node in neighbours}
    now = service.metadata.annotations.get(ANNOUNCER, "")
    if now in names:
        return now
    uid = service.metadata.uid
    return max(names, key=lambda name: blake2b(f"{uid} {name}".encode()).digest(), default="")


def _near(node: CloudNode, addresses: Sequence[str]) -> bool:
    for text in addresses:
        address = ip_address(text)
        lan = ip_network(f"{address}/{_NEIGHBOURS[address.version]}", strict=False)
        if any(ip_address(own) in lan for own in node.addresses):
            return True
    return False


def status(addresses: Sequence[str]) -> core_v1.LoadBalancerStatus:
    """Return what the Service's status should say."""
    return core_v1.LoadBalancerStatus(
        ingress=tuple(core_v1.LoadBalancerIngress(ip=address, ip_mode="VIP") for address in addresses)
    )
