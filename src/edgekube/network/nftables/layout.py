"""
How service rules look in nftables: a table in each family, a map from frontend to chain, a chain per frontend.

Pure: these functions only write messages into a Transaction. `nft list table ip edgekube` shows:
`services` (address . protocol . port : goto chain), `node-ports`, `refused…` (no backends),
`hairpin` (pods that reach themselves through a service).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from edgekube.network.base import EVERYWHERE, Backend, Forwarding, Frontend, Transport
from edgekube.network.nftables import expressions as nft
from edgekube.network.nftables.families import FAMILY4, FAMILY6, Family
from edgekube.network.nftables.transaction import (
    ANONYMOUS_SET,
    FORWARD,
    INPUT,
    OUTPUT,
    PORT,
    POSTROUTING,
    PREROUTING,
    PROTOCOL,
    Hook,
    Transaction,
)

SERVICES, NODE_PORTS, REFUSED, REFUSED_PORTS, HAIRPIN = (
    "services",
    "node-ports",
    "refused",
    "refused-node-ports",
    "hairpin",
)
_MASQUERADE = 0x4000
"""The packet mark for it, kube-proxy's own."""
_AFFINITY_SIZE = 65536
"""Clients remembered per endpoint at most."""


@dataclass(frozen=True, slots=True)
class Part:
    """The part of the cluster's address plan that is of one family; CIDRs, "" where it has none."""

    family: Family
    service_cidr: str = ""
    cluster_cidr: str = ""
    """All pods'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """The cluster's address plan, IPv4 CIDRs and, in a dual-stack cluster, those of IPv6."""

    service_cidr: str
    cluster_cidr: str
    service_cidr6: str = ""
    cluster_cidr6: str = ""

    @property
    def parts(self) -> tuple[Part, Part]:
        """By family, IPv4 first."""
        return (
            Part(FAMILY4, self.service_cidr, self.cluster_cidr),
            Part(FAMILY6, self.service_cidr6, self.cluster_cidr6),
        )


def write_frame(change: Transaction, part: Part) -> None:
    """Write what is there whatever the services are, into an empty table."""
    place = [part.family.field, PROTOCOL, PORT]
    change.add_verdict_map(SERVICES, place)
    change.add_verdict_map(NODE_PORTS, place[1:])
    change.add_set(REFUSED, place)
    change.add_set(REFUSED_PORTS, place[1:])
    change.add_set(HAIRPIN, place[:1] * 2)
    change.add_chain("dispatch")
    change.add_chain("refuse")
    change.add_chain("prerouting", hook=Hook("nat", PREROUTING, -100))
    change.add_chain("output", hook=Hook("nat", OUTPUT, -100))
    change.add_chain("postrouting", hook=Hook("nat", POSTROUTING, 100))
    for name, hook in (("refuse-input", INPUT), ("refuse-forward", FORWARD), ("refuse-output", OUTPUT)):
        change.add_chain(name, hook=Hook("filter", hook, 0))
    _write_dispatch(change, part.family)
    _write_postrouting(change, part)
    _write_refusals(change, part)


def _place(first: int) -> bytes:
    return nft.protocol(first) + nft.port(first + 1)


def _service(family: Family) -> bytes:
    """Load what a service is found by: address, protocol and port."""
    return family.destination(nft.FIRST) + _place(family.port_register)


def _write_dispatch(change: Transaction, family: Family) -> None:
    for chain in ("prerouting", "output"):
        change.add_rule(chain, nft.jump("dispatch"))
    change.add_rule("dispatch", _service(family), nft.lookup(SERVICES, into=nft.VERDICT))
    # A node port on 127.0.0.1 would need route_localnet; for ::1 there is no such thing.
    local = (nft.to_this_node(), family.destination(nft.FIRST), nft.within(family.loopback, equal=False))
    change.add_rule("dispatch", *local, _place(nft.FIRST), nft.lookup(NODE_PORTS, into=nft.VERDICT))


def _write_postrouting(change: Transaction, part: Part) -> None:
    family, masquerade = part.family, (nft.counter(), nft.masquerade())
    source, destination = family.source(nft.FIRST), family.destination(nft.FIRST)
    change.add_rule("postrouting", nft.marked(_MASQUERADE), *masquerade, comment="to node ports and the like")
    if part.service_cidr:
        from_pods = (source, nft.within(part.cluster_cidr, equal=False)) if part.cluster_cidr else ()
        change.add_rule(
            "postrouting",
            family.original_destination,
            nft.within(part.service_cidr),
            *from_pods,
            # An address of the service range that this node itself answers was not translated.
            destination,
            nft.within(part.service_cidr, equal=False),
            *masquerade,
            comment="to services from outside the cluster",
        )
    pair = (source, family.destination(family.port_register), nft.lookup(HAIRPIN))
    change.add_rule("postrouting", *pair, *masquerade, comment="pods that reach themselves")


def _write_refusals(change: Transaction, part: Part) -> None:
    family = part.family
    # ICMP errors are rationed (one a second and peer); resets are not.
    change.add_rule("refuse", nft.of_protocol(Transport.TCP), nft.reject_by_reset())
    # What ends an SCTP association at once (RFC 9260, 10).
    change.add_rule("refuse", nft.of_protocol(Transport.SCTP), family.reject_protocol)
    change.add_rule("refuse", family.reject)
    refuse = (nft.counter(), nft.goto("refuse"))
    port = (nft.to_this_node(), _place(nft.FIRST), nft.lookup(REFUSED_PORTS))
    change.add_rule("refuse-input", *port, *refuse, comment="no endpoints")
    for chain in ("refuse-forward", "refuse-output"):
        change.add_rule(chain, _service(family), nft.lookup(REFUSED), *refuse, comment="no endpoints")
        if part.service_cidr:
            range_ = (family.destination(nft.FIRST), nft.within(part.service_cidr))
            stray = (*range_, nft.to_this_node(equal=False))
            change.add_rule(chain, *stray, *refuse, comment="no such service")


def chain_of(frontend: Frontend) -> str:
    """Return the frontend's chain: nft(8) reads no colons in names."""
    address, transport, port = frontend
    if address in EVERYWHERE:
        return f"node-port-{_NAMES[transport]}/{port}"
    return f"service-{address.replace(':', '_')}/{_NAMES[transport]}/{port}"


_NAMES = {transport: transport.name.lower() for transport in Transport}


def inside_of(chain: str) -> str:
    """Return the chain for pods and this node, where they get other backends."""
    return f"inside-{chain}"


def endpoint_of(chain: str, backend: Backend) -> str:
    """Return the chain, and the set of clients, of one backend of a frontend with affinity."""
    return f"endpoint-{chain}-{backend.address.replace(':', '_')}/{backend.port}"


def _has_chain(forwarding: Forwarding) -> bool:
    return bool(forwarding.backends or forwarding.inside or forwarding.sources or forwarding.silent)


def _spreads(chain: str, forwarding: Forwarding | None) -> dict[str, tuple[Backend, ...]]:
    """Return the chains and the backends each spreads connections over."""
    if forwarding is None or not _has_chain(forwarding):
        return {}
    inside = {inside_of(chain): forwarding.inside} if forwarding.inside else {}
    return {chain: forwarding.backends, **inside}


def _endpoints(chain: str, forwarding: Forwarding | None) -> dict[str, tuple[Backend, int]]:
    """Return the chains of single backends, with the seconds their sets keep clients."""
    if forwarding is None or not forwarding.affinity:
        return {}
    return {
        endpoint_of(name, backend): (backend._replace(local=False), forwarding.affinity)
        for name, backends in _spreads(chain, forwarding).items()
        for backend in backends
    }


def rule_count(forwarding: Forwarding) -> int:
    """Return how many rules `write_frontend` writes."""
    count = (forwarding.sources != ()) + (2 if forwarding.inside else 0)
    for backends in _spreads("", forwarding).values():
        if backends:
            count += 2 + (2 * len(backends) if forwarding.affinity else 0)
    return count + (forwarding.masquerade if forwarding.backends else forwarding.silent)


def write_frontend(
    change: Transaction,
    frontend: Frontend,
    old: Forwarding | None,
    new: Forwarding | None,
    *,
    part: Part,
) -> None:
    """Write what turns `old` into `new`, either of which may be missing; maps are `add_elements`' part."""
    chain = chain_of(frontend)
    had, has = _spreads(chain, old), _spreads(chain, new)
    for name in had:
        change.flush_chain(name)
    for name in has.keys() - had.keys():
        change.add_chain(name)
    before, after = _endpoints(chain, old), _endpoints(chain, new)
    for name in (name for name, what in before.items() if after.get(name) != what):
        change.flush_chain(name)
        change.delete_chain(name)
        change.delete_set(name)
    for name, (backend, seconds) in after.items():
        if before.get(name) != (backend, seconds):
            _write_endpoint(change, name, backend, seconds, way=(part.family, frontend.transport))
    if new is not None and has:
        _write_entrance(change, chain, new, part)
        for name, backends in has.items():
            if backends:
                _write_spread(change, name, new, backends, way=(part.family, frontend.transport))
    for name in had.keys() - has.keys():
        change.delete_chain(name)


Way = tuple[Family, Transport]


def _write_endpoint(change: Transaction, name: str, backend: Backend, seconds: int, *, way: Way) -> None:
    family, transport = way
    change.add_set(name, [family.field], timeout=seconds, size=_AFFINITY_SIZE)
    change.add_chain(name)
    rule = (
        # nft(8) wants the protocol said before a port, though whoever gets here has it.
        nft.of_protocol(transport),
        family.source(nft.FIRST),
        nft.update(name),
        nft.load(family.pack(backend.address), nft.FIRST),
        nft.load(nft.port_key(backend.port)[:2], family.port_register),
        nft.counter(),
        family.dnat,
    )
    change.add_rule(name, *rule)


def _write_entrance(change: Transaction, chain: str, forwarding: Forwarding, part: Part) -> None:
    """Write who gets in, and who gets where."""
    source = part.family.source(nft.FIRST)
    if forwarding.sources:
        allowed = change.anonymous_ranges(forwarding.sources)
        foreign = nft.lookup(ANONYMOUS_SET, set_id=allowed, inverted=True)
        change.add_rule(chain, source, foreign, nft.counter(), nft.drop(), comment="not in the source ranges")
    if forwarding.inside:
        inside = nft.goto(inside_of(chain))
        pods = nft.within(part.cluster_cidr) if part.cluster_cidr else nft.compare(part.family.nobody)
        change.add_rule(chain, source, pods, inside)
        # The node may call from an address that only it has, such as the balancer's.
        change.add_rule(chain, nft.from_this_node(), nft.set_mark(_MASQUERADE), inside)
    if forwarding.backends and forwarding.masquerade:
        change.add_rule(chain, nft.set_mark(_MASQUERADE))
    elif forwarding.silent and not forwarding.backends:
        change.add_rule(chain, nft.counter(), nft.drop(), comment=f"{forwarding.name}: none on this node")


def _write_spread(
    change: Transaction, chain: str, forwarding: Forwarding, backends: Sequence[Backend], *, way: Way
) -> None:
    family, transport = way
    chance, affinity = forwarding.random, forwarding.affinity
    if affinity:
        names = [endpoint_of(chain, backend) for backend in backends]
        for name in names:
            change.add_rule(chain, family.source(nft.FIRST), nft.lookup(name), nft.goto(name))
        slots = change.anonymous_map([nft.goto_chain(name) for name in names], None)
        pick = nft.pick(len(backends), chance=chance)
        change.add_rule(chain, pick, nft.lookup(slots, into=nft.VERDICT), comment=forwarding.name)
    else:
        pack = family.pack
        places = [pack(address) + nft.port_key(port) for address, port, _local in backends]
        slots = change.anonymous_map(places, (family.field, PORT))
        before = _before(transport, len(backends), chance=chance)
        target = nft.lookup(slots, into=nft.FIRST)
        change.add_rule(chain, before, target, nft.counter(), family.dnat, comment=forwarding.name)
    change.add_rule(chain, *_BETWEEN)


_BETWEEN = (nft.drop(),)
"""
Who finds no backend in the map: a packet under way in the old rules while new ones come into force, for the
kernel ends a deleted map's elements with the generation, not with its last reader. What asked so asks again.
Without this it would go on untranslated and be refused, about one connection in 20,000 under constant change.
"""


@nft.remembered
def _before(transport: Transport, count: int, *, chance: bool) -> bytes:
    """Pack how rules of services begin that have as many backends."""
    return nft.of_protocol(transport) + nft.pick(count, chance=chance)


def elements(rules: Mapping[Frontend, Forwarding], family: Family) -> dict[tuple[str, bytes], str]:
    """Return what the maps and sets of the frame hold for `rules`: (map, key) to the chain, or "" in sets."""
    held: dict[tuple[str, bytes], str] = {}
    for frontend, forwarding in rules.items():
        address, transport, port = frontend
        place = nft.transport_key(transport) + nft.port_key(port)
        names = (NODE_PORTS, REFUSED_PORTS)
        if address not in EVERYWHERE:
            names, place = (SERVICES, REFUSED), family.pack(address) + place
        if _has_chain(forwarding):
            held[names[0], place] = chain_of(frontend)
        if not forwarding.backends and not forwarding.silent:
            held[names[1], place] = ""
    return held


def delete_elements(change: Transaction, gone: Iterable[tuple[str, bytes]]) -> None:
    """Delete from maps and sets."""
    for name, keys in _by_name(gone).items():
        change.delete_elements(name, keys)


def add_elements(change: Transaction, new: Mapping[tuple[str, bytes], str]) -> None:
    """Add to maps and sets."""
    for name, keys in _by_name(new).items():
        if name in {SERVICES, NODE_PORTS}:
            change.add_verdicts(name, [(key, nft.goto_chain(new[name, key])) for key in keys])
        else:
            change.add_elements(name, keys)


def _by_name(items: Iterable[tuple[str, bytes]]) -> dict[str, list[bytes]]:
    grouped: dict[str, list[bytes]] = {}
    for name, key in items:
        grouped.setdefault(name, []).append(key)
    return grouped


def hairpins(forwardings: Collection[Forwarding], cluster_cidr: str) -> list[str]:
    """Return the addresses of this node's pods behind services, once for every time they are named."""
    if not cluster_cidr:
        return []
    network = ip_network(cluster_cidr)
    return [
        backend.address
        for forwarding in forwardings
        for backend in forwarding.everywhere
        # Not a node's own address: it talks to itself without NAT.
        if backend.local and ip_address(backend.address) in network
    ]
