"""The ranges Services get addresses from: the configured one, and those of further ServiceCIDRs."""

import ipaddress
from collections.abc import Iterable, Sequence

from edgekube.apiserver.addresses.pool import Ledger, Pool, address_band

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
DEFAULT = "kubernetes"
"""The ServiceCIDR of the configured range."""
KUBERNETES, DNS = 1, 10
"""Offsets that are only given by name: the API's Service and the cluster's DNS."""
SMALL = 2
"""Networks with so few addresses have none for themselves and for broadcast."""


class Ranges:
    """Every address is taken at most once, also where ranges overlap."""

    def __init__(self, cidr: str) -> None:
        self.network = ipaddress.ip_network(cidr)
        """The configured range; addresses of other families are not given."""
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


def number_of(address: str) -> int:
    """Return an address as a number; raises ValueError."""
    return int(ipaddress.ip_address(address))
