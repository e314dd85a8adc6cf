"""
The edge provider: a fleet on LANs without a cloud.

Load balancers get an address of a pool of the LAN, for which one node then speaks (ARP). Without
pools they get the nodes' own addresses, on which every node forwards the port: good enough for a
board and its owner, and like k3s's ServiceLB.

Pools are entries of the ConfigMap kube-system/cloud-config that begin with `pool.`: addresses,
ranges and CIDRs, separated by commas or white space. Entries that begin with `zone.` say which
addresses are in a zone.

    pool.default: 192.168.1.240-192.168.1.250
    pool.public: 203.0.113.0/29, 203.0.113.77
    zone.attic: 192.168.7.0/24
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

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
"""Addresses of one pool."""


def open_cloud(_url: str) -> Cloud:
    """Open the provider; the URL says nothing more."""
    return EdgeCloud()


@dataclass(frozen=True, slots=True)
class Range:
    """Addresses from `first` to `last`."""

    first: IPv4Address
    last: IPv4Address

    def __contains__(self, address: IPv4Address) -> bool:
        return self.first <= address <= self.last

    def __iter__(self) -> Iterator[str]:
        return (str(IPv4Address(number)) for number in range(int(self.first), int(self.last) + 1))


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
            first, dash, last = word.partition("-")
            if dash:
                found.append(Range(IPv4Address(first), IPv4Address(last)))
            else:
                network = IPv4Network(word)
                found.append(Range(network[0], network[-1]))
        except ValueError as error:
            raise BadCloudConfig(f"{name}: {error}") from error
        if not 0 <= int(found[-1].last) - int(found[-1].first) < LARGEST:
            raise BadCloudConfig(f"{name}: {word} holds no or too many addresses")
    if not found:
        raise BadCloudConfig(f"{name}: no addresses")
    return tuple(found)


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
        ranges = tuple(_narrowed(balancer.wanted, ranges, pool))
    mine = holdings[balancer.uid].addresses if balancer.uid in holdings else ()
    candidates = [address for address in mine if any(IPv4Address(address) in part for part in ranges)]
    key = balancer.annotations.get(SHARING_ANNOTATION, "")
    for address in (*candidates, *(address for part in ranges for address in part)):
        there = [holding for holding in others if address in holding.addresses]
        if all(key and holding.key == key and not holding.ports & balancer.ports for holding in there):
            return Assigned((address,), announced=True)
    if balancer.wanted:
        raise NothingLeft(f"{balancer.wanted} is taken by {there[0].name}")
    raise NothingLeft(f"address pool {pool!r} has no address left")


def _narrowed(wanted: str, ranges: Iterable[Range], pool: str) -> Iterator[Range]:
    try:
        address = IPv4Address(wanted)
    except ValueError as error:
        raise NothingLeft(f"{wanted} is not an IPv4 address") from error
    if not any(address in part for part in ranges):
        raise NothingLeft(f"{wanted} is not in address pool {pool!r}")
    yield Range(address, address)


def _of_nodes(balancer: Balancer, nodes: Sequence[CloudNode], others: Sequence[Holding]) -> tuple[str, ...]:
    """Return one address of each node; of two balancers that want a port the first keeps it."""
    addresses = tuple(sorted({node.addresses[0] for node in nodes if node.addresses}, key=IPv4Address))
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
            if any(IPv4Address(a) in part for a in node.addresses if ":" not in a for part in ranges):
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
