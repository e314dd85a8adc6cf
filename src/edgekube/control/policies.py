"""
What NetworkPolicies ask about pods of the whole cluster, and how the answers travel.

A node knows its own pods; the peers a policy selects may be anywhere. Giving every node every pod's
labels would cost a message to all nodes whenever any pod changes (with 1000 nodes and 10 pod changes a
second: 10,000 deliveries a second, most of them of no use). So the master answers the selectors: a
node gets the policies that select one of its pods, and for each distinct selector in them the
addresses it means, in slices, so that one pod's change sends a few hundred bytes to the nodes that
enforce a policy about it and nothing to others. "All pods" needs no answer: that is the cluster's
CIDR. A node answers for its own pods itself (it knows their labels and addresses, and is
told their namespaces' labels), so that without the master what it has on its disk goes on being
enforced, also for pods that come back with another address.
"""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

import msgspec

from edgekube.api.types import core_v1, meta_v1, networking_v1
from edgekube.control import selectors

SLICES = "edgekube/v1/peerslices"
"""The path of PeerSlices on the wire; the API does not serve them."""
BUCKETS = 32
"""Slices a query has at most: a node's pods are in the slice chosen by its name."""
FINAL = frozenset({"Succeeded", "Failed"})

Labels = Mapping[str, str]


class PeerQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which pods are meant; with `port` those that have a port of that name, and its number."""

    namespace: str = ""
    """The only one; "" leaves it to `namespaces`."""
    namespaces: meta_v1.LabelSelector | None = None
    pods: meta_v1.LabelSelector | None = None
    """None: all of the namespaces."""
    protocol: str = ""
    port: str = ""

    @property
    def name(self) -> str:
        """Return a short name for the question: equal ones have equal names."""
        return blake2b(msgspec.json.encode(self, order="sorted"), digest_size=8).hexdigest()

    @property
    def is_everybody(self) -> bool:
        """Whether all pods of the cluster are meant."""
        if self.namespaces is None or self.port:
            return False
        return selectors.empty(self.namespaces) and (self.pods is None or selectors.empty(self.pods))

    def __str__(self) -> str:
        """Say it for people: `pods role=api of namespaces team=one`."""
        port = f"{self.protocol.lower()} port {self.port} of " if self.port else ""
        where = self.namespace or f"namespaces {_said(self.namespaces)}"
        return f"{port}pods {_said(self.pods)} in {where}"

    def matches(self, namespace: str, labels: Labels, namespace_labels: Labels) -> bool:
        """Tell whether a pod with these labels is meant, whatever its ports."""
        if self.namespace:
            if namespace != self.namespace:
                return False
        elif not selectors.matches(self.namespaces, namespace_labels):
            return False
        return self.pods is None or selectors.matches(self.pods, labels)

    def ports(self, pod: core_v1.Pod) -> tuple[int, ...]:
        """Return the numbers the pod has for the port: (0,) when none was asked for."""
        return named_ports(pod, self.protocol, self.port) if self.port else (0,)


def _said(selector: meta_v1.LabelSelector | None) -> str:
    if selector is None or selectors.empty(selector):
        return "all"
    words = [f"{key}={value}" for key, value in sorted(selector.match_labels.items())]
    for want in selector.match_expressions:
        values = f" ({' '.join(want.values)})" if want.values else ""
        words.append(f"{want.key} {want.operator}{values}")
    return ",".join(words)


class PeerSlice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of the answer to the query of which `query` is the name."""

    metadata: meta_v1.ObjectMeta = meta_v1.ObjectMeta()
    query: str = ""
    peers: dict[str, dict[int, tuple[str, ...]]] = {}
    """By node and port number (0 when the query names none): addresses of both families."""


class Asked(NamedTuple):
    """What a rule says: peers by selectors and by address, ports by number and by name."""

    anyone: bool
    """It names no peers."""
    queries: tuple[PeerQuery, ...]
    blocks: tuple[networking_v1.IPBlock, ...]
    numbered: tuple[networking_v1.NetworkPolicyPort, ...]
    named: tuple[networking_v1.NetworkPolicyPort, ...]


def asked(
    namespace: str,
    peers: tuple[networking_v1.NetworkPolicyPeer, ...],
    ports: tuple[networking_v1.NetworkPolicyPort, ...],
) -> Asked:
    """Sort out a rule of a policy of `namespace`."""
    return Asked(
        anyone=not peers,
        queries=tuple(_query(namespace, peer) for peer in peers if peer.ip_block is None),
        blocks=tuple(peer.ip_block for peer in peers if peer.ip_block is not None),
        numbered=tuple(port for port in ports if not isinstance(port.port, str)),
        named=tuple(port for port in ports if isinstance(port.port, str)),
    )


def _query(namespace: str, peer: networking_v1.NetworkPolicyPeer) -> PeerQuery:
    if peer.namespace_selector is not None:
        return PeerQuery(namespaces=peer.namespace_selector, pods=peer.pod_selector)
    return PeerQuery(namespace=namespace, pods=peer.pod_selector)


def destinations(rule: Asked) -> Iterator[PeerQuery]:
    """Yield the queries for the named ports of an egress rule: the peers' ports, not the pod's own."""
    for port in rule.named:
        # With no peers named, whatever pod has such a port; addresses have no names for ports.
        everybody = PeerQuery(namespaces=meta_v1.LabelSelector())
        for query in (everybody,) if rule.anyone else rule.queries:
            yield msgspec.structs.replace(query, protocol=port.protocol or "TCP", port=str(port.port))


def directions(policy: networking_v1.NetworkPolicy) -> tuple[bool, bool]:
    """Tell whether a policy is about incoming and about outgoing traffic."""
    spec = policy.spec
    if spec.policy_types:
        return "Ingress" in spec.policy_types, "Egress" in spec.policy_types
    return True, bool(spec.egress)


def queries(policy: networking_v1.NetworkPolicy) -> dict[str, PeerQuery]:
    """Return all a policy asks of the cluster, by name."""
    spec, namespace = policy.spec, policy.metadata.namespace
    ingress, egress = directions(policy)
    found: list[PeerQuery] = []
    for incoming in spec.ingress if ingress else ():
        found += asked(namespace, incoming.from_, incoming.ports).queries
    for outgoing in spec.egress if egress else ():
        rule = asked(namespace, outgoing.to, outgoing.ports)
        found += destinations(rule)
        # Without a port by number nothing is asked of the peers alone.
        if rule.numbered or not rule.named:
            found += rule.queries
    return {query.name: query for query in found if not query.is_everybody}


def named_ports(pod: core_v1.Pod, protocol: str, name: str) -> tuple[int, ...]:
    """Return the numbers of the pod's container ports of that name and protocol."""
    sidecars = (c for c in pod.spec.init_containers if c.restart_policy == "Always")
    return tuple(
        sorted(
            {
                port.container_port
                for container in (*pod.spec.containers, *sidecars)
                for port in container.ports
                if port.name == name and (port.protocol or "TCP") == protocol
            }
        )
    )


def is_subject(pod: core_v1.Pod) -> bool:
    """Tell whether policies can speak of a pod: it has an address of its own, and is not over."""
    return not pod.spec.host_network and pod.status.phase not in FINAL


def addresses_of(pod: core_v1.Pod) -> tuple[str, ...]:
    """Return the addresses that its node reported."""
    return tuple(item.ip for item in pod.status.pod_ips) or tuple(filter(None, (pod.status.pod_ip,)))


def selects(policy: networking_v1.NetworkPolicy, pod: core_v1.Pod) -> bool:
    """Tell whether a policy is about a pod."""
    selector = policy.spec.pod_selector or meta_v1.LabelSelector()
    return (
        policy.metadata.namespace == pod.metadata.namespace
        and is_subject(pod)
        and selectors.matches(selector, pod.metadata.labels)
    )


def bucket_of(node: str) -> int:
    """Return the number of the slices in which a node's pods are."""
    return crc32(node.encode()) % BUCKETS
