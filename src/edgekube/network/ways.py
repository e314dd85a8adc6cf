"""
Makes the kernel hold the planned ways to other nodes' pods: reads what is there, writes the difference.

Only what is ours is touched: routes marked with our protocol number that go by a gateway, and the
VXLAN device with everything on it.
"""

import errno
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekube.network import sysctl
from edgekube.network.base import NetworkError
from edgekube.network.links import Links, pack
from edgekube.network.netlink import NetlinkError
from edgekube.network.overlay import Hop, Lan, Tunnel, Ways, mac_of
from edgekube.network.tunnels import DEVICE, Device, Tunnels

_UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.ENODEV, errno.ENETDOWN}
"""What the kernel says of a gateway that is on no LAN of ours (any more)."""


def lans(links: Links) -> list[Lan]:
    """Return this node's own addresses; those of the pod network's interfaces are not such."""
    usable = {
        link.index: link
        for link in links.all()
        if link.up and not link.loopback and not link.name.startswith("ek")
    }
    found = [item for family in (socket.AF_INET, socket.AF_INET6) for item in links.addresses(family)]
    return [
        Lan(item.index, item.address, item.prefix, usable[item.index].mtu)
        for item in found
        if item.index in usable
    ]


def apply(links: Links, ways: Ways, *, own: Sequence[str]) -> Sequence[str]:
    """
    Program `ways`; `own` are this node's addresses in its pod CIDRs. Returns what could not be done, as sentences.

    Entries are made before the route that needs them and removed after it.
    """
    problems: list[str] = []
    tunnels = Tunnels()
    try:
        device = None
        try:
            device = _device(links, tunnels, ways, own) if ways.device else None
        except NetworkError as error:
            # The routes are good without it.
            problems.append(str(error))
        had = _put_ends(tunnels, device, ways) if device is not None else None
        problems += _routes(links, ways, device, own)
        if device is not None and had is not None:
            _remove_ends(tunnels, device, ways, had)
        elif not ways.device and tunnels.device() is not None:
            links.remove(DEVICE)
    finally:
        tunnels.close()
    return problems


def _device(links: Links, tunnels: Tunnels, ways: Ways, own: Sequence[str]) -> Device:
    mac, mtu = mac_of(own[0]), ways.device_mtu
    have = tunnels.device()
    if have is not None and (not have.fit or have.mac != mac):
        # VNI and port cannot be changed in place.
        links.remove(DEVICE)
        have = None
    if have is None:
        try:
            tunnels.add_device(mac, mtu)
        except NetlinkError as error:
            if error.number == errno.EOPNOTSUPP:
                raise NetworkError(
                    "nodes on other LANs need VXLAN, which this kernel lacks: modprobe vxlan "
                    "(Ubuntu on a Raspberry Pi: apt install linux-modules-extra-raspi)"
                ) from error
            raise
        have = tunnels.device()
    if have is None:
        raise NetworkError(f"interface {DEVICE} vanished")
    if not have.up or have.mtu != mtu:
        # The way back may be another for a moment, while the far end has not chosen yet (rp_filter 2: loose).
        sysctl.write(f"net/ipv4/conf/{DEVICE}/rp_filter", "2", missing_ok=True)
        links.set(have.index, mtu=mtu)
    for address in own:
        there = [item.index for item in links.addresses(pack(address)[0]) if item.address == address]
        if have.index not in there:
            # What this node itself sends must come back by the tunnel.
            links.add_address(have.index, address)
    return have


@dataclass(frozen=True, slots=True)
class _Ends:
    """What the kernel held on the device before: MACs by address, nodes by MAC."""

    neighbours: Mapping[str, bytes]
    forwarding: Mapping[bytes, str]


def _put_ends(tunnels: Tunnels, device: Device, ways: Ways) -> _Ends:
    have = _Ends(dict(tunnels.neighbours(device.index)), dict(tunnels.forwarding(device.index)))
    for end in ways.tunnels.values():
        if have.neighbours.get(end.gateway) != end.mac:
            tunnels.put_neighbour(device.index, end.gateway, end.mac)
    # A peer's tunnels of both families end at one MAC.
    for mac, remote in {(end.mac, end.remote) for end in ways.tunnels.values()}:
        if have.forwarding.get(mac) != remote:
            tunnels.put_forwarding(device.index, mac, remote)
    return have


def _remove_ends(tunnels: Tunnels, device: Device, ways: Ways, had: _Ends) -> None:
    wanted = {end.gateway: end.mac for end in ways.tunnels.values()}
    for address in had.neighbours.keys() - wanted.keys():
        tunnels.remove_neighbour(device.index, address)
    for mac in had.forwarding.keys() - set(wanted.values()):
        tunnels.remove_forwarding(device.index, mac)


def _routes(links: Links, ways: Ways, device: Device | None, own: Sequence[str]) -> Sequence[str]:
    sources = {pack(address)[0]: address for address in own}
    wanted: dict[str, Hop] = dict(ways.routes)
    if device is not None:
        wanted |= {cidr: _hop(end, device) for cidr, end in ways.tunnels.items()}
    have = {
        route.target: Hop(route.gateway, route.index)
        for family in (socket.AF_INET, socket.AF_INET6)
        for route in links.routes(family)
        if route.gateway
    }
    for target in have.keys() - wanted.keys():
        links.remove_route(target)
    problems = []
    for target in sorted(cidr for cidr, hop in wanted.items() if have.get(cidr) != hop):
        hop, inside = wanted[target], target in ways.tunnels
        source = sources.get(pack(hop.gateway)[0], "") if inside else ""
        try:
            links.add_route(target, index=hop.index, gateway=hop.gateway, source=source, onlink=inside)
        except NetlinkError as error:
            if error.number not in _UNREACHABLE:
                raise
            links.remove_route(target)
            problems.append(f"no way to {target} by {hop.gateway}: {error}")
    return problems


def _hop(end: Tunnel, device: Device) -> Hop:
    return Hop(end.gateway, device.index)
