"""A cloud in memory, with machines and balancers that can be looked at and taken away."""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address

from edgekube.cloud.base import Assigned, BadCloudConfig, Balancer, Cloud, CloudNode, Instance, NothingLeft

FIRST = IPv4Address("198.51.100.1")
"""Of TEST-NET-2 (RFC 5737)."""
SIZE = 16


def open_cloud(_url: str) -> Cloud:
    """Open an empty cloud; `size` in its configuration is how many addresses it has."""
    return FakeCloud()


class FakeCloud:
    """A provider whose balancers forward by themselves: nothing is announced by nodes."""

    name = "fake"

    def __init__(self) -> None:
        self.machines: dict[str, Instance] = {}
        """By node name; a node without one is unknown to the cloud, so gone."""
        self.targets: dict[str, tuple[str, ...]] = {}
        """Balancer uid → names of the nodes it leads to."""
        self._given: dict[str, str] = {}
        self._size = SIZE

    @property
    def instances(self) -> "FakeCloud":
        """Itself."""
        return self

    @property
    def balancers(self) -> "FakeCloud":
        """Itself."""
        return self

    def configure(self, data: Mapping[str, str]) -> None:
        """Take `size`."""
        size = data.get("size", str(SIZE))
        if not size.isdigit():
            raise BadCloudConfig(f"size: {size!r} is no number")
        self._size = int(size)

    async def instance(self, node: CloudNode) -> Instance | None:
        """Return the machine."""
        return self.machines.get(node.name)

    def adopt(self, known: Iterable[Balancer]) -> None:
        """Learn."""
        for balancer in known:
            for address in balancer.given[:1]:
                self._given.setdefault(address, balancer.uid)

    async def ensure(self, balancer: Balancer, nodes: Sequence[CloudNode]) -> Assigned:
        """Give an address of its own."""
        mine = next((address for address, uid in self._given.items() if uid == balancer.uid), "")
        if balancer.wanted and mine != balancer.wanted:
            self._given.pop(mine, None)
            mine = ""
        if not mine:
            pool = (str(FIRST + number) for number in range(self._size))
            free = [address for address in pool if address not in self._given]
            mine = next((a for a in free if balancer.wanted in {"", a}), "")
            if not mine:
                raise NothingLeft(f"no address is left for {balancer.name}")
            self._given[mine] = balancer.uid
        self.targets[balancer.uid] = tuple(sorted(node.name for node in nodes))
        return Assigned((mine,))

    async def delete(self, uid: str) -> None:
        """Forget."""
        self.targets.pop(uid, None)
        self._given = {address: owner for address, owner in self._given.items() if owner != uid}
