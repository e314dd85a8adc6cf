"""A cluster of a few pods on two nodes: policies as the API has them, answers as the master gives them."""

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

import msgspec

from edgekube.api.types import core_v1, meta_v1, networking_v1
from edgekube.control.policies import PeerSlice, addresses_of, is_subject, queries
from edgekube.network.base import Transport
from edgekube.network.policy_memory import MemoryPolicyRules
from edgekube.proxy.policyplan import Knowledge, resolve

TCP, UDP, SCTP = Transport.TCP, Transport.UDP, Transport.SCTP
CLUSTER = ("10.244.0.0/16", "fd00:244::/48")


def policy(name="policy", namespace="default", **spec):
    """Return a NetworkPolicy as the API server stores it."""
    tree = {"podSelector": {}, **spec}
    tree.setdefault("policyTypes", ["Ingress", "Egress"] if tree.get("egress") else ["Ingress"])
    meta = meta_v1.ObjectMeta(name=name, namespace=namespace)
    return networking_v1.NetworkPolicy(
        metadata=meta, spec=msgspec.convert(tree, networking_v1.NetworkPolicySpec)
    )


def pod(name, address, *, namespace="default", node="n1", ports=(), host=False, phase="", **labels):
    containers = (core_v1.Container(name="main", ports=tuple(ports)),)
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(name=name, namespace=namespace, uid=f"{namespace}-{name}", labels=labels),
        spec=core_v1.PodSpec(node_name=node, containers=containers, host_network=host or None),
        status=core_v1.PodStatus(
            pod_ip=address, pod_ips=(core_v1.PodIP(ip=address), core_v1.PodIP(ip=six(address))), phase=phase
        ),
    )


def sel(**labels):
    return {"matchLabels": labels}


def peers(*found):
    """Return the ingress rules of one rule from these."""
    return [{"from": list(found)}]


def six(address):
    """Return the IPv6 address that goes with an IPv4 one."""
    return f"fd00:244::{address.replace('.', ':')}"


def port(name, number, protocol="TCP"):
    return core_v1.ContainerPort(name=name, container_port=number, protocol=protocol)


@dataclass
class World:
    """Everything; `n1` is the node that enforces."""

    pods: list
    namespaces: dict
    policies: list = field(default_factory=list)

    def knowledge(self, node="n1"):
        own = [item for item in self.pods if item.spec.node_name == node]
        return Knowledge(
            node_name=node,
            cluster_cidrs=CLUSTER,
            policies=self.policies,
            pods=own,
            addresses={item.metadata.uid: addresses_of(item) for item in own if not item.spec.host_network},
            namespaces={item.metadata.namespace: self.namespaces[item.metadata.namespace] for item in own},
            slices=self.slices(),
        )

    def slices(self):
        """Answer every query about all pods, one slice each."""
        asked = {name: query for item in self.policies for name, query in queries(item).items()}
        pieces = []
        for name, query in asked.items():
            peers = {}
            for item in self.pods:
                labels = self.namespaces[item.metadata.namespace]
                if is_subject(item) and query.matches(item.metadata.namespace, item.metadata.labels, labels):
                    for number in query.ports(item):
                        numbers = peers.setdefault(item.spec.node_name, {})
                        numbers[number] = (*numbers.get(number, ()), *addresses_of(item))
            pieces.append(PeerSlice(metadata=meta_v1.ObjectMeta(name=name), query=name, peers=peers))
        return pieces

    async def judges(self):
        """Return a judge for each node."""
        made = {}
        for node in sorted({item.spec.node_name for item in self.pods}):
            made[node] = MemoryPolicyRules()
            await made[node].replace(resolve(self.knowledge(node)))
        return list(made.values())


def address(world, name):
    """Return the address of `namespace/pod`, or of `pod` in default; what is an address already stays."""
    namespace, _, bare = name.rpartition("/")
    for item in world.pods:
        if (item.metadata.namespace, item.metadata.name) == (namespace or "default", bare):
            return item.status.pod_ip
    return name


def naive(world, source, target, transport, number):
    """Say what the API's documentation says, word by word, of a packet between two addresses."""
    if source == target:
        return True
    ends = {end: item for item in world.pods if is_subject(item) for end in addresses_of(item)}
    return _lets(world, ends, "Egress", source, target, transport, number) and _lets(
        world, ends, "Ingress", source, target, transport, number
    )


def _lets(world, ends, kind, source, target, transport, number):
    subject = ends.get(source if kind == "Egress" else target)
    other = target if kind == "Egress" else source
    about = [
        item
        for item in world.policies
        if subject is not None
        and item.metadata.namespace == subject.metadata.namespace
        and kind in item.spec.policy_types
        and _selected(item.spec.pod_selector, subject.metadata.labels)
    ]
    if not about:
        return True
    for item in about:
        for rule in item.spec.egress if kind == "Egress" else item.spec.ingress:
            peers = rule.to if kind == "Egress" else rule.from_
            who = not peers or any(_is_peer(world, ends, item, peer, other) for peer in peers)
            where = not rule.ports or any(
                _is_port(ends.get(target), p, transport, number) for p in rule.ports
            )
            if who and where:
                return True
    return False


def _is_peer(world, ends, item, peer, other):
    if peer.ip_block is not None:
        inside = ip_address(other) in ip_network(peer.ip_block.cidr, strict=False)
        return inside and not any(
            ip_address(other) in ip_network(e, strict=False) for e in peer.ip_block.except_
        )
    found = ends.get(other)
    if found is None:
        return False
    if peer.namespace_selector is None:
        if found.metadata.namespace != item.metadata.namespace:
            return False
    elif not _selected(peer.namespace_selector, world.namespaces[found.metadata.namespace]):
        return False
    return peer.pod_selector is None or _selected(peer.pod_selector, found.metadata.labels)


def _selected(selector, labels):
    if any(labels.get(key) != value for key, value in selector.match_labels.items()):
        return False
    for want in selector.match_expressions:
        has = want.key in labels
        verdict = {
            "In": has and labels.get(want.key) in want.values,
            "NotIn": not has or labels[want.key] not in want.values,
            "Exists": has,
            "DoesNotExist": not has,
        }
        if not verdict[want.operator]:
            return False
    return True


def _is_port(target, said, transport, number):
    if transport is None or (said.protocol or "TCP") != transport.name:
        return False
    if said.port is None:
        return True
    if isinstance(said.port, int):
        return said.port <= number <= (said.end_port or said.port)
    return target is not None and any(
        (p.name, p.protocol, p.container_port) == (said.port, transport.name, number)
        for container in target.spec.containers
        for p in container.ports
    )
