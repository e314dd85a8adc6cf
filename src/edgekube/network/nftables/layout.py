"""
How service rules look in nftables: one table, a map from frontend to chain, a chain per frontend.

Pure: these functions only write messages into a Transaction. `nft list table ip edgekube` shows:
`services` (address . protocol . port : goto chain), `node-ports`, `refused…` (no backends),
`hairpin` (pods that reach themselves through a service).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from edgekube.network.base import Backend, Forwarding, Frontend, Transport
from edgekube.network.nftables import expressions as nft
from edgekube.network.nftables.transaction import (
    ADDRESS,
    ANONYMOUS,
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
FIXED_RULES = 15
"""How many rules `write_frame` writes."""

_MASQUERADE = 0x4000
"""The packet mark for it, kube-proxy's own."""
_AFFINITY_SIZE = 65536
"""Clients remembered per endpoint at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """The cluster's address plan, IPv4 CIDRs."""

    service_cidr: str
    cluster_cidr: str
    """All pods'."""


def write_frame(change: Transaction, ranges: Ranges) -> None:
    """Write what is there whatever the services are, into an empty table."""
    place = [ADDRESS, PROTOCOL, PORT]
    change.add_verdict_map(SERVICES, place)
    change.add_verdict_map(NODE_PORTS, place[1:])
    change.add_set(REFUSED, place)
    change.add_set(REFUSED_PORTS, place[1:])
    change.add_set(HAIRPIN, [ADDRESS, ADDRESS])
    change.add_chain("dispatch")
    change.add_chain("refuse")
    change.add_chain("prerouting", hook=Hook("nat", PREROUTING, -100))
    change.add_chain("output", hook=Hook("nat", OUTPUT, -100))
    change.add_chain("postrouting", hook=Hook("nat", POSTROUTING, 100))
    for name, hook in (("refuse-input", INPUT), ("refuse-forward", FORWARD), ("refuse-output", OUTPUT)):
        change.add_chain(name, hook=Hook("filter", hook, 0))
    _write_dispatch(change)
    _write_postrouting(change, ranges)
    _write_refusals(change, ranges)


def _place(first: int) -> bytes:
    return nft.protocol(first) + nft.port(first + 1)


def _write_dispatch(change: Transaction) -> None:
    for chain in ("prerouting", "output"):
        change.add_rule(chain, nft.jump("dispatch"))
    service = (nft.destination(), _place(nft.FIRST + 1), nft.lookup(SERVICES, into=nft.VERDICT))
    change.add_rule("dispatch", *service)
    # A node port on 127.0.0.1 would need route_localnet.
    local = (nft.to_this_node(), nft.destination(), nft.within("127.0.0.0/8", equal=False))
    change.add_rule("dispatch", *local, _place(nft.FIRST), nft.lookup(NODE_PORTS, into=nft.VERDICT))


def _write_postrouting(change: Transaction, ranges: Ranges) -> None:
    change.add_rule(
        "postrouting",
        nft.marked(_MASQUERADE),
        nft.counter(),
        nft.masquerade(),
        comment="to node ports and the like",
    )
    change.add_rule(
        "postrouting",
        nft.original_destination(),
        nft.within(ranges.service_cidr),
        nft.source(),
        nft.within(ranges.cluster_cidr, equal=False),
        # An address of the service range that this node itself answers was not translated.
        nft.destination(),
        nft.within(ranges.service_cidr, equal=False),
        nft.counter(),
        nft.masquerade(),
        comment="to services from outside the cluster",
    )
    own = (nft.source(), nft.destination(nft.FIRST + 1), nft.lookup(HAIRPIN), nft.counter(), nft.masquerade())
    change.add_rule("postrouting", *own, comment="pods that reach themselves")


def _write_refusals(change: Transaction, ranges: Ranges) -> None:
    # ICMP errors are rationed (one a second and peer); resets are not.
    change.add_rule("refuse", nft.of_protocol(Transport.TCP), nft.reject_by_reset())
    change.add_rule("refuse", nft.of_protocol(Transport.SCTP), nft.reject_protocol())
    change.add_rule("refuse", nft.reject())
    port = (
        nft.to_this_node(),
        _place(nft.FIRST),
        nft.lookup(REFUSED_PORTS),
        nft.counter(),
        nft.goto("refuse"),
    )
    change.add_rule("refuse-input", *port, comment="no endpoints")
    for chain in ("refuse-forward", "refuse-output"):
        service = (
            nft.destination(),
            _place(nft.FIRST + 1),
            nft.lookup(REFUSED),
            nft.counter(),
            nft.goto("refuse"),
        )
        change.add_rule(chain, *service, comment="no endpoints")
        stray = (nft.destination(), nft.within(ranges.service_cidr), nft.to_this_node(equal=False))
        change.add_rule(chain, *stray, nft.counter(), nft.goto("refuse"), comment="no such service")


def chain_of(frontend: Frontend) -> str:
    """Return the frontend's chain."""
    transport = frontend.transport.name.lower()
    if not frontend.address:
        return f"node-port-{transport}/{frontend.port}"
    return f"service-{frontend.address}/{transport}/{frontend.port}"


def inside_of(chain: str) -> str:
    """Return the chain for pods and this node, where they get other backends."""
    return f"inside-{chain}"


def endpoint_of(chain: str, backend: Backend) -> str:
    """Return the chain, and the set of clients, of one backend of a frontend with affinity."""
    return f"endpoint-{chain}-{backend.address}/{backend.port}"


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
            count += 1 + (2 * len(backends) if forwarding.affinity else 0)
    return count + (forwarding.masquerade if forwarding.backends else forwarding.silent)


def write_frontend(
    change: Transaction,
    frontend: Frontend,
    old: Forwarding | None,
    new: Forwarding | None,
    *,
    cluster_cidr: str,
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
            _write_endpoint(change, name, backend, frontend.transport, seconds)
    if new is not None and has:
        _write_entrance(change, chain, new, cluster_cidr)
        for name, backends in has.items():
            if backends:
                _write_spread(change, name, frontend.transport, new, backends)
    for name in had.keys() - has.keys():
        change.delete_chain(name)


def _write_endpoint(
    change: Transaction, name: str, backend: Backend, transport: Transport, seconds: int
) -> None:
    change.add_set(name, [ADDRESS], timeout=seconds, size=_AFFINITY_SIZE)
    change.add_chain(name)
    rule = (
        # nft(8) wants the protocol said before a port, though whoever gets here has it.
        nft.of_protocol(transport),
        nft.source(),
        nft.update(name),
        nft.load(nft.address_key(backend.address), nft.FIRST),
        nft.load(nft.port_key(backend.port)[:2], nft.FIRST + 1),
        nft.counter(),
        nft.dnat(),
    )
    change.add_rule(name, *rule)


def _write_entrance(change: Transaction, chain: str, forwarding: Forwarding, cluster_cidr: str) -> None:
    """Write who gets in, and who gets where."""
    if forwarding.sources:
        allowed = change.anonymous_ranges(forwarding.sources)
        foreign = nft.lookup(ANONYMOUS_SET, set_id=allowed, inverted=True)
        change.add_rule(
            chain, nft.source(), foreign, nft.counter(), nft.drop(), comment="not in the source ranges"
        )
    if forwarding.inside:
        inside = nft.goto(inside_of(chain))
        change.add_rule(chain, nft.source(), nft.within(cluster_cidr), inside)
        # The node may call from an address that only it has, such as the balancer's.
        change.add_rule(chain, nft.from_this_node(), nft.set_mark(_MASQUERADE), inside)
    if forwarding.backends and forwarding.masquerade:
        change.add_rule(chain, nft.set_mark(_MASQUERADE))
    elif forwarding.silent and not forwarding.backends:
        change.add_rule(chain, nft.counter(), nft.drop(), comment=f"{forwarding.name}: none on this node")


def _write_spread(
    change: Transaction,
    chain: str,
    transport: Transport,
    forwarding: Forwarding,
    backends: Sequence[Backend],
) -> None:
    pick = (nft.chance if forwarding.random else nft.round_robin)(len(backends))
    if forwarding.affinity:
        names = [endpoint_of(chain, backend) for backend in backends]
        for name in names:
            change.add_rule(chain, nft.source(), nft.lookup(name), nft.goto(name))
        slots = change.anonymous_map([nft.goto_chain(name) for name in names], None)
        target = nft.lookup(ANONYMOUS, into=nft.VERDICT, set_id=slots)
        change.add_rule(chain, pick, target, comment=forwarding.name)
    else:
        places = [nft.address_key(backend.address) + nft.port_key(backend.port) for backend in backends]
        slots = change.anonymous_map(places, [ADDRESS, PORT])
        target = nft.lookup(ANONYMOUS, into=nft.FIRST, set_id=slots)
        rule = (nft.of_protocol(transport), pick, target, nft.counter(), nft.dnat())
        change.add_rule(chain, *rule, comment=forwarding.name)


def elements(rules: Mapping[Frontend, Forwarding]) -> dict[tuple[str, bytes], str]:
    """Return what the maps and sets of the frame hold for `rules`: (map, key) to the chain, or "" in sets."""
    held: dict[tuple[str, bytes], str] = {}
    for frontend, forwarding in rules.items():
        key = nft.transport_key(frontend.transport) + nft.port_key(frontend.port)
        names = (SERVICES, REFUSED) if frontend.address else (NODE_PORTS, REFUSED_PORTS)
        place = nft.address_key(frontend.address) + key if frontend.address else key
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
    network = IPv4Network(cluster_cidr)
    return [
        backend.address
        for forwarding in forwardings
        for backend in forwarding.everywhere
        # Not a node's own address: it talks to itself without NAT.
        if backend.local and IPv4Address(backend.address) in network
    ]
