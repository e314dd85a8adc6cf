"""From NetworkPolicies to what is enforced on this node: a pure function of what the node may know."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1, networking_v1
from edgekube.control.policies import (
    Asked,
    PeerQuery,
    PeerSlice,
    asked,
    destinations,
    directions,
    is_subject,
    named_ports,
    selects,
)
from edgekube.control.selectorindex import SelectorIndex
from edgekube.network.base import Transport
from edgekube.network.policy import Direction, Grant, Isolated, Place, Policing, Policy, PortRange

Ports = tuple[networking_v1.NetworkPolicyPort, ...]
Network = IPv4Network | IPv6Network
_Local = tuple[core_v1.Pod, tuple[str, ...]]
"""One of this node's pods, and its addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What the node may know."""

    node_name: str
    cluster_cidrs: tuple[str, ...]
    """All pods'."""
    policies: Collection[networking_v1.NetworkPolicy] = ()
    pods: Collection[core_v1.Pod] = ()
    """This node's."""
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of this node's pods, by uid: what they really have."""
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labels by name, of the namespaces of this node's pods."""
    slices: Collection[PeerSlice] = ()


@dataclass(slots=True)
class _Draft:
    """Policing in the making."""

    known: Knowledge
    local: list[_Local]
    """This node's pods that policies can speak of."""
    told: dict[str, list[PeerSlice]]
    labelled: Mapping[tuple[str, str], Collection[_Local]]
    """`local` by every label."""
    policies: dict[Policy, tuple[Grant, ...]] = field(default_factory=dict)
    addresses: dict[str, frozenset[str]] = field(default_factory=dict)
    places: dict[str, frozenset[Place]] = field(default_factory=dict)
    isolated: dict[Isolated, list[Policy]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)


def resolve(known: Knowledge) -> Policing:
    """Return what is to be enforced on the node."""
    told: dict[str, list[PeerSlice]] = {}
    for piece in known.slices:
        told.setdefault(piece.query, []).append(piece)
    local = [
        (pod, known.addresses[pod.metadata.uid])
        for pod in known.pods
        if pod.metadata.uid in known.addresses and is_subject(pod)
    ]
    draft = _Draft(known, local, told, _by_label(local))
    for policy, chosen in _selected(known.policies, local):
        _add(draft, policy, chosen)
    return Policing(
        isolated={pod: tuple(sorted(names, key=str)) for pod, names in draft.isolated.items()},
        policies=draft.policies,
        addresses=draft.addresses,
        places=draft.places,
        titles=draft.titles,
    )


def _by_label(local: Iterable[_Local]) -> dict[tuple[str, str], list[_Local]]:
    found: dict[tuple[str, str], list[_Local]] = {}
    for item in local:
        for label in item[0].metadata.labels.items():
            found.setdefault(label, []).append(item)
    return found


def _selected(
    policies: Iterable[networking_v1.NetworkPolicy], local: Iterable[_Local]
) -> Iterator[tuple[networking_v1.NetworkPolicy, list[_Local]]]:
    """Yield the policies that select pods, by name, and those pods."""
    known = {key_of(policy): policy for policy in policies}
    index: SelectorIndex[Key] = SelectorIndex()
    for key, policy in known.items():
        index.put(key, key.namespace, policy.spec.pod_selector)
    chosen: dict[Key, list[_Local]] = {}
    for item in local:
        pod = item[0]
        for key in index.candidates(pod.metadata.namespace, pod.metadata.labels):
            if selects(known[key], pod):
                chosen.setdefault(key, []).append(item)
    for key in sorted(chosen):
        yield known[key], chosen[key]


def _add(draft: _Draft, policy: networking_v1.NetworkPolicy, chosen: Collection[_Local]) -> None:
    name = f"{policy.metadata.namespace}/{policy.metadata.name}"
    namespace = policy.metadata.namespace
    ingress, egress = directions(policy)
    if ingress:
        rules = (asked(namespace, rule.from_, rule.ports) for rule in policy.spec.ingress)
        key = Policy(Direction.INGRESS, name)
        draft.policies[key] = tuple(
            grant for rule in rules for grant in _incoming(draft, namespace, rule, chosen)
        )
        _isolate(draft, key, chosen)
    if egress:
        rules = (asked(namespace, rule.to, rule.ports) for rule in policy.spec.egress)
        key = Policy(Direction.EGRESS, name)
        draft.policies[key] = tuple(grant for rule in rules for grant in _outgoing(draft, rule))
        _isolate(draft, key, chosen)


def _isolate(draft: _Draft, policy: Policy, chosen: Iterable[_Local]) -> None:
    for address in (address for _pod, addresses in chosen for address in addresses):
        draft.isolated.setdefault(Isolated(policy.direction, address), []).append(policy)


def _incoming(draft: _Draft, namespace: str, rule: Asked, chosen: Collection[_Local]) -> Iterator[Grant]:
    """Grant an ingress rule; its named ports are those of the pods that the policy selects."""
    places = tuple(_own_places(draft, namespace, port, chosen) for port in rule.named)
    peers, cidrs = _peers(draft, rule)
    if rule.anyone or peers or cidrs:
        yield Grant(anyone=rule.anyone, peers=peers, cidrs=cidrs, ports=_ranges(rule.numbered), places=places)


def _outgoing(draft: _Draft, rule: Asked) -> Iterator[Grant]:
    """Grant an egress rule; its named ports are the peers', so that they say who the peers are, too."""
    if rule.numbered or not rule.named:
        peers, cidrs = _peers(draft, rule)
        if rule.anyone or peers or cidrs:
            yield Grant(anyone=rule.anyone, peers=peers, cidrs=cidrs, ports=_ranges(rule.numbered))
    places = tuple(_answer_places(draft, query) for query in destinations(rule))
    if places:
        yield Grant(anyone=True, places=places)


def _own_places(
    draft: _Draft,
    namespace: str,
    port: networking_v1.NetworkPolicyPort,
    chosen: Iterable[_Local],
) -> str:
    protocol = port.protocol or "TCP"
    name = f"{namespace}/{protocol.lower()}/{port.port}"
    found = frozenset(
        Place(address, Transport[protocol], number)
        for pod, addresses in chosen
        for address in addresses
        for number in named_ports(pod, protocol, str(port.port))
    )
    # Policies of one namespace may share the set: each asks only about the pods it isolates.
    draft.places[name] = draft.places.get(name, frozenset()) | found
    return name


def _peers(draft: _Draft, rule: Asked) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the sets of peers, and the CIDRs."""
    cidrs = [cidr for block in rule.blocks for cidr in block_cidrs(block)]
    names: list[str] = []
    for query in rule.queries:
        if query.is_everybody:
            cidrs += draft.known.cluster_cidrs
            continue
        name = query.name
        names.append(name)
        if name not in draft.addresses:
            draft.addresses[name] = frozenset(address for address, _port in _answer(draft, query))
            draft.titles[name] = str(query)
    return tuple(sorted(set(names))), _collapsed(cidrs)


def _answer_places(draft: _Draft, query: PeerQuery) -> str:
    name = query.name
    if name not in draft.places:
        transport = Transport[query.protocol]
        draft.titles[name] = str(query)
        draft.places[name] = frozenset(
            Place(address, transport, port) for address, port in _answer(draft, query)
        )
    return name


def _answer(draft: _Draft, query: PeerQuery) -> Iterator[tuple[str, int]]:
    """Yield the addresses and ports meant: of other nodes' pods as told, of our own as we know them."""
    for piece in draft.told.get(query.name, ()):
        for node, ports in piece.peers.items():
            if node != draft.known.node_name:
                for port, addresses in ports.items():
                    yield from ((address, port) for address in addresses)
    for pod, addresses in _may_match(draft, query):
        meta = pod.metadata
        if query.matches(meta.namespace, meta.labels, draft.known.namespaces.get(meta.namespace, {})):
            yield from ((address, port) for port in query.ports(pod) for address in addresses)


def _may_match(draft: _Draft, query: PeerQuery) -> Collection[_Local]:
    demanded = query.pods.match_labels if query.pods is not None else {}
    return draft.labelled.get(min(demanded.items()), ()) if demanded else draft.local


def _ranges(ports: Ports) -> tuple[PortRange, ...]:
    found = []
    for port in ports:
        transport = Transport[port.protocol or "TCP"]
        if not isinstance(port.port, int):
            found.append(PortRange(transport))
        else:
            found.append(PortRange(transport, port.port, max(port.port, port.end_port or 0)))
    return tuple(sorted(set(found), key=lambda item: (item.transport.value, item.first, item.last)))


def block_cidrs(block: networking_v1.IPBlock) -> tuple[str, ...]:
    """Return what is left of a block without its exceptions."""
    left: list[Network] = [ip_network(block.cidr, strict=False)]
    for part in block.except_:
        hole = ip_network(part, strict=False)
        left = [piece for whole in left for piece in _without(whole, hole)]
    return _collapsed(map(str, left))


def _without(whole: Network, hole: Network) -> Iterable[Network]:
    if isinstance(whole, IPv4Network) and isinstance(hole, IPv4Network):
        if whole.overlaps(hole):
            return () if whole.subnet_of(hole) else whole.address_exclude(hole)
    elif isinstance(whole, IPv6Network) and isinstance(hole, IPv6Network) and whole.overlaps(hole):
        return () if whole.subnet_of(hole) else whole.address_exclude(hole)
    return (whole,)


def _collapsed(cidrs: Iterable[str]) -> tuple[str, ...]:
    four: list[IPv4Network] = []
    six: list[IPv6Network] = []
    for cidr in cidrs:
        network = ip_network(cidr)
        if isinstance(network, IPv4Network):
            four.append(network)
        else:
            six.append(network)
    return (*map(str, collapse_addresses(four)), *map(str, collapse_addresses(six)))
