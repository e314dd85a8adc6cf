"""
Who the other nodes are, from what their Node objects say; which of them may have the pod CIDR it claims.

Of two nodes that claim overlapping CIDRs the older one is right: its pods have been reached so far.
"""

from bisect import bisect, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, NetmaskValueError

from edgekube.api.types import core_v1
from edgekube.network.base import Peer


@dataclass(frozen=True, slots=True)
class Conflict:
    """`loser` claims `cidr`, of which `owner` has at least a part."""

    loser: str
    owner: str
    cidr: str

    def __str__(self) -> str:
        """Say it as an event does."""
        return (
            f"pod CIDR {self.cidr} of node {self.loser} is in use by the older node {self.owner}: no node routes to "
            f"it; delete the Node object {self.loser} to have it given another"
        )


@dataclass(frozen=True, slots=True)
class Others:
    """The rightful peers by node name, how they know this node, and who claims what is not theirs."""

    peers: Mapping[str, Peer] = field(default_factory=dict)
    own: str = ""
    conflicts: tuple[Conflict, ...] = ()


def plan_peers(nodes: Iterable[core_v1.Node], node_name: str) -> Others:
    """Return the other nodes that have an IPv4 pod CIDR and an internal address."""
    found = sorted(nodes, key=_age)
    rightful, conflicts = _rightful([(node.metadata.name, _pod_cidr(node)) for node in found])
    own = ""
    peers: dict[str, Peer] = {}
    for node in found:
        name, address = node.metadata.name, _address(node)
        if name == node_name:
            own = address
        elif address and name in rightful:
            peers[name] = Peer(address, rightful[name], _address6(node), _pod_cidr6(node))
    return Others(peers, own, conflicts)


def _rightful(claims: Iterable[tuple[str, str]]) -> tuple[Mapping[str, str], tuple[Conflict, ...]]:
    """Give each CIDR to the first that claims it."""
    taken: list[tuple[int, int, str]] = []
    owners: dict[str, str] = {}
    conflicts: list[Conflict] = []
    for name, cidr in claims:
        if not cidr:
            continue
        network = IPv4Network(cidr)
        first, last = int(network.network_address), int(network.broadcast_address)
        place = bisect(taken, (last, 1 << 32, ""))
        # What is taken is disjoint: the nearest one below is the only one that can reach up to here.
        if place and taken[place - 1][1] >= first:
            conflicts.append(Conflict(name, taken[place - 1][2], cidr))
            continue
        insort(taken, (first, last, name))
        owners[name] = cidr
    return owners, tuple(conflicts)


def _age(node: core_v1.Node) -> tuple[bool, str, str]:
    """Sort the oldest first; one without a date is newer than any."""
    created = node.metadata.creation_timestamp or ""
    return not created, created, node.metadata.name


def _pod_cidr(node: core_v1.Node) -> str:
    for cidr in node.spec.pod_cidrs or (node.spec.pod_cidr,):
        try:
            return str(IPv4Network(cidr))
        except (AddressValueError, NetmaskValueError, ValueError):
            continue
    return ""


def _pod_cidr6(node: core_v1.Node) -> str:
    for cidr in node.spec.pod_cidrs:
        try:
            return str(IPv6Network(cidr))
        except ValueError:
            continue
    return ""


def _address6(node: core_v1.Node) -> str:
    for entry in node.status.addresses:
        if entry.type == "InternalIP":
            try:
                return str(IPv6Address(entry.address))
            except AddressValueError:
                continue
    return ""


def _address(node: core_v1.Node) -> str:
    for entry in node.status.addresses:
        if entry.type == "InternalIP":
            try:
                return str(IPv4Address(entry.address))
            except AddressValueError:
                continue
    return ""
