"""The ranges Services get addresses from: the configured one, and those of further ServiceCIDRs."""

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Sequence

from edgekube.apiserver.addresses.pool import Ledger, Pool, address_band

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
DEFAULT = "kubernetes"
"""The ServiceCIDR of the configured range."""
KUBERNETES, DNS = 1, 10
"""Offsets that are only given by name: the API's Service and the cluster's DNS."""
SMALL = 2
"""Networks with so few addresses have none for themselves and for broadcast."""


class Ranges:
    """The ranges of one family. Every address is taken at most once, also where ranges overlap."""

    def __init__(self, network: Network) -> None:
        self.network = network
        """The configured range."""
        self.ledger = Ledger()
        self._pools: dict[str, dict[Network, Pool]] = {}
        self.put(DEFAULT, (self.network,))

    def __contains__(self, number: int) -> bool:
        return any(number in pool for pools in self._pools.values() for pool in pools.values())

    def __str__(self) -> str:
        return ", ".join(str(network) for pools in self._pools.values() for network in pools)

    def put(self, name: str, networks: Iterable[Network]) -> None:
        """Give addresses of these networks too, in the name of a ServiceCIDR."""
        before = self._pools.get(name, {})
        mine = [network for network in networks if network.version == self.network.version]
        self._pools[name] = {network: before.get(network) or self._pool(network) for network in mine}

    def drop(self, name: str) -> None:
        """Give no more addresses in the name of a ServiceCIDR."""
        self._pools.pop(name, None)

    def names(self) -> Sequence[str]:
        """Return the ServiceCIDRs there are."""
        return tuple(self._pools)

    def others(self, name: str) -> Sequence[Network]:
        """Return the networks of all ServiceCIDRs but one."""
        return [network for other, pools in self._pools.items() if other != name for network in pools]

    def address(self, number: int) -> str:
        """Return a number as an address."""
        return str(type(self.network.network_address)(number))

    def draw(self) -> int | None:
        """Take any address; None when every range is full."""
        for pools in self._pools.values():
            for pool in pools.values():
                if (number := pool.draw()) is not None:
                    return number
        return None

    def _pool(self, network: Network) -> Pool:
        first, last = int(network.network_address), int(network.broadcast_address)
        reserved: tuple[int, ...] = ()
        if network == self.network:
            reserved = (first + KUBERNETES, first + DNS)
        if network.num_addresses > SMALL:
            first, last = first + 1, last - 1
        band = address_band(network.num_addresses)
        return Pool(first, last, ledger=self.ledger, band=band, reserved=reserved)


class Families:
    """The ranges of each IP family that the cluster's Services have, the primary family first."""

    def __init__(self, *cidrs: str) -> None:
        networks = [ipaddress.ip_network(cidr) for cidr in cidrs if cidr]
        self._ranges = {f"IPv{network.version}": Ranges(network) for network in networks}

    def __iter__(self) -> Iterator[Ranges]:
        return iter(self._ranges.values())

    @property
    def names(self) -> Sequence[str]:
        """`IPv4` and `IPv6`, or one of them."""
        return tuple(self._ranges)

    @property
    def networks(self) -> Sequence[Network]:
        """The configured ranges."""
        return [ranges.network for ranges in self]

    def of(self, family: str) -> Ranges:
        """Return a family's ranges; raises KeyError."""
        return self._ranges[family]

    def take(self, address: str) -> None:
        """Note that an address is taken; those of families the cluster does not have need no note."""
        if ranges := self._ranges.get(family_of(address)):
            ranges.ledger.take(number_of(address))

    def give(self, address: str) -> None:
        """Take an address back."""
        if ranges := self._ranges.get(family_of(address)):
            ranges.ledger.give(number_of(address))

    def settle(self, used: Iterable[str], before: float) -> Sequence[str]:
        """Hold exactly the addresses used, and those taken since `before`; return what had leaked."""
        numbers: dict[str, list[int]] = {}
        for address in used:
            numbers.setdefault(family_of(address), []).append(number_of(address))
        return [
            ranges.address(number)
            for family, ranges in self._ranges.items()
            for number in ranges.ledger.settle(numbers.get(family, ()), before)
        ]

    def taken(self) -> Iterator[str]:
        """Yield every address that is taken."""
        for ranges in self:
            yield from map(ranges.address, ranges.ledger)

    def put(self, name: str, networks: Sequence[Network]) -> None:
        """Give addresses of these networks too, in the name of a ServiceCIDR."""
        for ranges in self:
            ranges.put(name, networks)

    def drop(self, name: str) -> None:
        """Give no more addresses in the name of a ServiceCIDR."""
        for ranges in self:
            ranges.drop(name)

    def cidrs(self) -> Collection[str]:
        """Return the names of the ServiceCIDRs there are."""
        return {name for ranges in self for name in ranges.names()}

    def others(self, name: str) -> Sequence[Network]:
        """Return the networks of all ServiceCIDRs but one."""
        return [network for ranges in self for network in ranges.others(name)]


def number_of(address: str) -> int:
    """Return an address as a number; raises ValueError."""
    return int(ipaddress.ip_address(address))


def family_of(address: str) -> str:
    """Return `IPv4` or `IPv6`."""
    return "IPv6" if ":" in address else "IPv4"
