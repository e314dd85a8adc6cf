"""
The edge provider: a fleet on LANs without a cloud.

Load balancers get an address of a pool of the LAN, for which one node then speaks (ARP, NDP); of
each of their IP families one, if the pool has both. Without pools they get the nodes' own addresses, on which every node forwards the port: good enough for a
board and its owner, and like k3s's ServiceLB.

Pools are entries of the ConfigMap kube-system/cloud-config that begin with `pool.`: addresses,
ranges and CIDRs, separated by commas or white space. Entries that begin with `zone.` say which
addresses are in a zone.

    pool.default: 192.168.1.240-192.168.1.250
    pool.public: 203.0.113.0/29, 203.0.113.77, 2001:db8:7::/120
    zone.attic: 192.168.7.0/24
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import chain

from edgekube.cloud.base import (
    Assigned,
    BadCloudConfig,
    Balancer,
    Cloud,
    CloudNode,
    Instance,
    NothingLeft,
    Port,
)

POOL, ZONE = "pool.", "zone."
POOL_ANNOTATION = "edgekube.io/address-pool"
"""Of a Service: the pool to take an address of."""
SHARING_ANNOTATION = "edgekube.io/address-sharing-key"
"""Services with the same key may share an address as long as their ports differ."""
MODEL_LABEL = "edgekube.io/board-model"
DEFAULT = "default"
LARGEST = 1 << 16
"""IPv4 addresses of one range; ranges of IPv6 are never walked to their end."""
Address = IPv4Address | IPv6Address


def open_cloud(_url: str) -> Cloud:
    """Open the provider; the URL says nothing more."""
    return EdgeCloud()


@dataclass(frozen=True, slots=True)
class Range:
    """Addresses from `first` to `last`."""

    first: Address
    last: Address

    @property
    def family(self) -> str:
        """`IPv4` or `IPv6`."""
        return f"IPv{self.first.version}"

    def __contains__(self, address: Address) -> bool:
        return address.version == self.first.version and int(self.first) <= int(address) <= int(self.last)

    def __iter__(self) -> Iterator[str]:
        make = type(self.first)
        return (str(make(number)) for number in range(int(self.first), int(self.last) + 1))


@dataclass(frozen=True, slots=True)
class Config:
    """Pools and zones by name."""

    pools: Mapping[str, tuple[Range, ...]] = field(default_factory=dict)
    zones: Mapping[str, tuple[Range, ...]] = field(default_factory=dict)


def parse(data: Mapping[str, str]) -> Config:
    """Read a ConfigMap's entries; raises BadCloudConfig."""
    pools: dict[str, tuple[Range, ...]] = {}
    zones: dict[str, tuple[Range, ...]] = {}
    for name, text in sorted(data.items()):
        for prefix, into in ((POOL, pools), (ZONE, zones)):
            if name.startswith(prefix):
                into[name.removeprefix(prefix)] = _ranges(name, text)
                break
        else:
            raise BadCloudConfig(f"{name}: must begin with {POOL} or {ZONE}")
    return Config(pools, zones)


def _ranges(name: str, text: str) -> tuple[Range, ...]:
    found = []
    for word in text.replace(",", " ").split():
        try:
            found.append(_range(word))
        except ValueError as error:
            raise BadCloudConfig(f"{name}: {error}") from error
        size = int(found[-1].last) - int(found[-1].first)
        if size < 0 or (size >= LARGEST and found[-1].family == "IPv4"):
            raise BadCloudConfig(f"{name}: {word} holds no or too many addresses")
    if not found:
        raise BadCloudConfig(f"{name}: no addresses")
    return tuple(found)


def _range(word: str) -> Range:
    first, dash, last = word.partition("-")
    if dash:
        found = Range(ip_address(first), ip_address(last))
        if found.first.version != found.last.version:
            raise ValueError(f"{word}: an IPv4 and an IPv6 address")
        return found
    network = ip_network(word)
    # The first address of an IPv6 subnet is every router's (RFC 4291, 2.6.1).
    anycast = network.version == 6 and network.num_addresses > 2
    return Range(network[int(anycast)], network[-1])


@dataclass(frozen=True, slots=True)
class Holding:
    """What one balancer has."""

    name: str
    addresses: tuple[str, ...]
    ports: frozenset[Port]
    key: str = ""
    """Its sharing key."""


Holdings = Mapping[str, Holding]


def plan(balancer: Balancer, nodes: Sequence[CloudNode], config: Config, holdings: Holdings) -> Assigned:
    """Choose addresses: those it has if they will still do, else the first that are free. Raises NothingLeft."""
    others = [holding for uid, holding in holdings.items() if uid != balancer.uid]
    if not config.pools:
        return Assigned(_of_nodes(balancer, nodes, others))
    pool = balancer.annotations.get(POOL_ANNOTATION) or (
        DEFAULT if DEFAULT in config.pools else min(config.pools)
    )
    ranges = config.pools.get(pool)
    if ranges is None:
        raise NothingLeft(f"there is no address pool {pool!r}")
    if balancer.wanted:
        ranges = tuple(_narrowed(balancer, ranges, pool))
    found = []
    for family in balancer.families:
        mine = [part for part in ranges if part.family == family]
        found += [_first_free(balancer, mine, holdings, pool)] if mine else []
    if not found:
        raise NothingLeft(f"address pool {pool!r} has no {' or '.join(balancer.families)} address")
    return Assigned(tuple(found), announced=True)


def _first_free(balancer: Balancer, ranges: Sequence[Range], holdings: Holdings, pool: str) -> str:
    """Return the address it has, if it is of these ranges, or the first that is free. Raises NothingLeft."""
    others = [holding for uid, holding in holdings.items() if uid != balancer.uid]
    had = holdings[balancer.uid].addresses if balancer.uid in holdings else ()
    candidates = [address for address in had if any(ip_address(address) in part for part in ranges)]
    key = balancer.annotations.get(SHARING_ANNOTATION, "")
    for address in chain(candidates, *ranges):
        there = [holding for holding in others if address in holding.addresses]
        if all(key and holding.key == key and not holding.ports & balancer.ports for holding in there):
            return address
        if address == balancer.wanted:
            raise NothingLeft(f"{balancer.wanted} is taken by {there[0].name}")
    raise NothingLeft(f"address pool {pool!r} has no address left")


def _narrowed(balancer: Balancer, ranges: Sequence[Range], pool: str) -> Iterator[Range]:
    """Leave of the wanted address's family that address only."""
    wanted = balancer.wanted
    try:
        address = ip_address(wanted)
    except ValueError as error:
        raise NothingLeft(f"{wanted} is not an IP address") from error
    if not any(address in part for part in ranges):
        raise NothingLeft(f"{wanted} is not in address pool {pool!r}")
    if f"IPv{address.version}" not in balancer.families:
        raise NothingLeft(f"{wanted} is not {' or '.join(balancer.families)}")
    yield Range(address, address)
    yield from (part for part in ranges if part.first.version != address.version)


def _of_nodes(balancer: Balancer, nodes: Sequence[CloudNode], others: Sequence[Holding]) -> tuple[str, ...]:
    """Return one address of each family of each node; of two balancers that want a port the first keeps it."""
    found: dict[str, None] = {}
    for family in balancer.families:
        version = int(family[-1])
        first = {_first(node, version) for node in nodes}
        found |= dict.fromkeys(map(str, sorted(address for address in first if address is not None)))
    addresses = tuple(found)
    if balancer.wanted:
        addresses = tuple(address for address in addresses if address == balancer.wanted)
        if not addresses:
            raise NothingLeft(f"{balancer.wanted} is no node's address, and there is no address pool")
    for holding in others:
        if (both := holding.ports & balancer.ports) and set(addresses) & set(holding.addresses):
            protocol, number = min(both)
            raise NothingLeft(
                f"port {number}/{protocol} of the nodes is taken by {holding.name}, and there is no address pool"
            )
    return addresses


def _first(node: CloudNode, version: int) -> Address | None:
    every = (ip_address(text) for text in node.addresses)
    return next((address for address in every if address.version == version), None)


class EdgeCloud:
    """The provider; what it has given is in memory and learnt again after a restart."""

    name = "edge"

    def __init__(self) -> None:
        self._config = Config()
        self._holdings: dict[str, Holding] = {}

    @property
    def instances(self) -> "EdgeCloud":
        """Itself."""
        return self

    @property
    def balancers(self) -> "EdgeCloud":
        """Itself."""
        return self

    def configure(self, data: Mapping[str, str]) -> None:
        """Take pools and zones; balancers keep their addresses until they are ensured again."""
        self._config = parse(data)

    async def instance(self, node: CloudNode) -> Instance | None:
        """Return a board's zone and model. A board never ends by itself: it is off, lost or broken, nobody knows."""
        for name, ranges in self._config.zones.items():
            if any(ip_address(a) in part for a in node.addresses for part in ranges):
                return Instance(zone=name, type=node.labels.get(MODEL_LABEL, ""))
        return Instance(type=node.labels.get(MODEL_LABEL, ""))

    def adopt(self, known: Iterable[Balancer]) -> None:
        """Take what the Services' statuses say; of two with one address the first has it."""
        for balancer in known:
            if not balancer.given:
                continue
            key = balancer.annotations.get(SHARING_ANNOTATION, "")
            mine = Holding(balancer.name, balancer.given, balancer.ports, key)
            clashes = (
                other for other in self._holdings.values()
                if set(other.addresses) & set(mine.addresses) and (other.ports & mine.ports or (self._config.pools and other.key != key))
            )  # fmt: skip
            if next(clashes, None) is None:
                self._holdings[balancer.uid] = mine

    async def ensure(self, balancer: Balancer, nodes: Sequence[CloudNode]) -> Assigned:
        """Give addresses, or say why not; one that can have none keeps none."""
        try:
            assigned = plan(balancer, nodes, self._config, self._holdings)
        except NothingLeft:
            self._holdings.pop(balancer.uid, None)
            raise
        key = balancer.annotations.get(SHARING_ANNOTATION, "")
        self._holdings[balancer.uid] = Holding(balancer.name, assigned.addresses, balancer.ports, key)
        return assigned

    async def delete(self, uid: str) -> None:
        """Forget what it had."""
        self._holdings.pop(uid, None)
