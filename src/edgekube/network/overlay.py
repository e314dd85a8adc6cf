"""
Which way leads to each other node's pods: a plain route over a LAN both share, or a VXLAN tunnel.

Pure. Both ends must come to the same answer, so only what both see counts: the address a node's
object tells, and the on-link prefix that the own such address lies in.
"""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import IPv6Address, IPv6Network

from edgekube.network.base import Peer

OVERHEAD = 50
"""Bytes VXLAN adds to a packet: outer Ethernet, IPv4, UDP and VXLAN headers (RFC 7348 §5)."""
LEAST_MTU = 576
"""No pod gets a smaller interface (RFC 791)."""
LEAST_MTU6 = 1280
"""The same of IPv6 (RFC 8200)."""
_NO_LAN = frozenset({0, 127, *range(224, 256)})
"""First bytes of addresses that are this host's, many hosts' or nobody's (RFC 6890)."""


class Mode(StrEnum):
    """Which ways may be used."""

    AUTO = "auto"
    """A route where nodes are neighbours, VXLAN where they are not."""
    ROUTES = "routes"
    VXLAN = "vxlan"


@dataclass(frozen=True, slots=True)
class Lan:
    """An address of this node and the prefix reached from it without a router."""

    index: int
    address: str
    prefix: int
    """Bits."""
    mtu: int

    def holds(self, address: str) -> bool:
        """Tell whether an address is in the prefix."""
        return (_number(address) ^ _number(self.address)) >> (32 - self.prefix) == 0


@dataclass(frozen=True, slots=True)
class Hop:
    """A route's next hop: a gateway on an interface."""

    gateway: str
    index: int


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The far end of a VXLAN tunnel: the peer's gateway address inside it, its MAC there, and the node's own address."""

    gateway: str
    mac: bytes
    remote: str


@dataclass(frozen=True, slots=True)
class Ways:
    """What the kernel should hold; routes and tunnels by the pod CIDR they lead to."""

    routes: Mapping[str, Hop] = field(default_factory=dict)
    tunnels: Mapping[str, Tunnel] = field(default_factory=dict)
    unreachable: Mapping[str, str] = field(default_factory=dict)
    """Node name → why there is no way."""
    device: bool = False
    """Whether the VXLAN device is needed."""
    device_mtu: int = 0
    pod_mtu: int = 0
    """What fits every way in use; 0: unknown, nothing is to be changed."""


def plan(
    peers: Mapping[str, Peer], lans: Sequence[Lan], *, mode: Mode, own: str = "", pod_cidr: str = "",
    pod_cidr6: str = "",
) -> Ways:  # fmt: skip
    """
    Choose a way for every peer (by node name).

    `own` is the address peers know this node by: only its LAN counts. While no interface has it, every LAN does.
    With a `pod_cidr6` of its own the node also needs ways to peers' IPv6 CIDRs; a tunnel carries both.
    """
    near6 = [lan for lan in lans if ":" in lan.address]
    lans = [lan for lan in lans if ":" not in lan.address]
    near = [lan for lan in lans if lan.address == own] or lans
    routes: dict[str, Hop] = {}
    tunnels: dict[str, Tunnel] = {}
    unreachable: dict[str, str] = {}
    mtus: list[int] = []
    for name, peer in sorted(peers.items()):
        why = _refusal(peer, lans, pod_cidr)
        lan = None if why or mode is Mode.VXLAN else _shared(peer, near)
        if why:
            unreachable[name] = why
        elif lan is not None:
            routes[peer.pod_cidr] = Hop(peer.address, lan.index)
            mtus.append(lan.mtu)
        elif mode is Mode.ROUTES:
            unreachable[name] = "the nodes share no LAN"
        else:
            tunnels[peer.pod_cidr] = tunnel_to(peer)
        if pod_cidr6 and peer.pod_cidr6 and not why:
            lan = None if mode is Mode.VXLAN else _shared6(peer, near6)
            if lan is not None:
                routes[peer.pod_cidr6] = Hop(peer.address6, lan.index)
            elif mode is not Mode.ROUTES:
                tunnels[peer.pod_cidr6] = replace(tunnel_to(peer), gateway=gateway_of(peer.pod_cidr6))
    smallest = min((lan.mtu for lan in near), default=0)
    device = bool(tunnels) or (mode is Mode.VXLAN and bool(lans))
    inner = max(smallest - OVERHEAD, LEAST_MTU6 if pod_cidr6 else LEAST_MTU) if smallest else 0
    mtus.append(inner if device else smallest)
    return Ways(routes, tunnels, unreachable, device, inner if device else 0, min(mtus))


def tunnel_to(peer: Peer) -> Tunnel:
    """Return the far end of the tunnel to a peer; nothing of it has to be asked for."""
    gateway = gateway_of(peer.pod_cidr)
    return Tunnel(gateway, mac_of(gateway), peer.address)


def gateway_of(pod_cidr: str) -> str:
    """Return the address a node itself has in its pod CIDR."""
    if ":" in pod_cidr:
        return str(IPv6Network(pod_cidr)[1])
    first, last = _range(pod_cidr)
    return socket.inet_ntoa(min(first + 1, last).to_bytes(4, "big"))


def mac_of(gateway: str) -> bytes:
    """Return the MAC of a node's VXLAN device: local (02:…), and as unique as the node's pod CIDR."""
    return b"\x02\x45" + socket.inet_aton(gateway)


def _refusal(peer: Peer, lans: Sequence[Lan], pod_cidr: str) -> str:
    if not lans:
        return "this node has no address on a LAN"
    if _number(peer.address) >> 24 in _NO_LAN:
        return f"{peer.address} is no address of a LAN"
    if any(lan.address == peer.address for lan in lans):
        return f"{peer.address} is this node's own address"
    if pod_cidr and _overlap(_range(pod_cidr), _range(peer.pod_cidr)):
        return f"its pod CIDR {peer.pod_cidr} overlaps this node's {pod_cidr}"
    return ""


def _shared(peer: Peer, near: Sequence[Lan]) -> Lan | None:
    """Return the LAN the peer is on, the narrowest if several seem to be."""
    found = [lan for lan in near if lan.prefix < 32 and lan.holds(peer.address)]
    return max(found, key=lambda lan: lan.prefix, default=None)


def _shared6(peer: Peer, near: Sequence[Lan]) -> Lan | None:
    if not peer.address6:
        return None
    address = IPv6Address(peer.address6)
    for lan in near:
        if lan.prefix < 128 and address in IPv6Network((lan.address, lan.prefix), strict=False):
            return lan
    return None


def pod_address6(pod_cidr6: str, address: str) -> str:
    """Return a pod's IPv6 address: its IPv4 address below the node's prefix (/96 or shorter), so as unique as that."""
    return str(IPv6Network(pod_cidr6)[_number(address)])


# Numbers instead of ipaddress' objects: a fleet of a thousand is planned at every look.


def _number(address: str) -> int:
    return int.from_bytes(socket.inet_aton(address), "big")


def _range(cidr: str) -> tuple[int, int]:
    """Return the first and the last address."""
    address, _, bits = cidr.partition("/")
    rest = (1 << (32 - int(bits))) - 1
    first = _number(address) & ~rest
    return first, first | rest


def _overlap(one: tuple[int, int], two: tuple[int, int]) -> bool:
    return one[0] <= two[1] and two[0] <= one[1]
