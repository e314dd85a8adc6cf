"""How the pod network names its interfaces, and what it reads and sets of them; calls block."""

import errno
import re
import socket
from collections.abc import Mapping, Sequence

from edgekube.network import sysctl
from edgekube.network.base import NetworkError
from edgekube.network.links import Link, Links
from edgekube.network.netlink import NetlinkError
from edgekube.network.shaping import limit

BASE = "ek0"


def base(links: Links) -> int:
    """Return the index of the interface that holds the node's own addresses, made if need be."""
    for kind in ("dummy", "bridge"):
        # A kernel without the dummy driver has bridges; one without ports does as well.
        try:
            links.add(BASE, kind)
            break
        except NetlinkError as error:
            if error.number != errno.EOPNOTSUPP:
                raise
    link = links.find(BASE)
    if link is None:
        raise NetworkError(
            f"cannot make interface {BASE}: the kernel has neither the dummy nor the bridge driver"
        )
    return link.index


def configure(
    addresses: Sequence[str], gateways: Sequence[str], sysctls: Mapping[str, str], *, rate: int
) -> None:
    """Set up the pod's side, by which it sends at most `rate` bits/s; runs inside its namespace."""
    links = Links()
    try:
        loopback, inner = links.find("lo"), links.find("eth0")
        if loopback is None or inner is None:
            raise NetworkError("the pod's namespace lacks lo or eth0")
        links.set(loopback.index)
        if any(":" in address for address in addresses):
            without_asking("eth0")
        for address in addresses:
            links.add_address(inner.index, address)
        limit(inner, rate)
        links.set(inner.index)
        for gateway in gateways:
            links.add_route(whole(gateway), index=inner.index)
            links.add_route("::/0" if ":" in gateway else "0.0.0.0/0", index=inner.index, gateway=gateway)
    finally:
        links.close()
    for name, value in sysctls.items():
        sysctl.write(sysctl.path_of(name), value)


def without_asking(name: str) -> None:
    """Let an interface use IPv6, and at once: there are only two on the link, who have nothing in common."""
    sysctl.write(f"net/ipv6/conf/{name}/disable_ipv6", "0")
    sysctl.write(f"net/ipv6/conf/{name}/accept_dad", "0")


def has_eth0() -> bool:
    """Tell whether the namespace has a pod's interface."""
    links = Links()
    try:
        return links.find("eth0") is not None
    finally:
        links.close()


def set_mtu(name: str, mtu: int) -> None:
    """Set the MTU of an interface of this namespace."""
    links = Links()
    try:
        link = links.find(name)
        if link is not None:
            links.set(link.index, mtu=mtu)
    finally:
        links.close()


def whole(address: str) -> str:
    """Return an address as the CIDR of itself alone."""
    return f"{address}/{128 if ':' in address else 32}"


def name_of(address: str) -> str:
    """Return the name of the host's end of the pod with that IPv4 address."""
    return f"ek{socket.inet_aton(address).hex()}"


def is_pod(name: str) -> bool:
    """Tell whether an interface is a pod's."""
    return re.fullmatch(r"ek[0-9a-f]{8}", name) is not None


def pods_in_kernel(links: Links) -> dict[str, str]:
    """Return pods' IPv4 addresses by uid, as their interfaces tell them."""
    return {uid: socket.inet_ntoa(bytes.fromhex(link.name[2:])) for uid, link in _pods(links)}


def _pods(links: Links) -> Sequence[tuple[str, Link]]:
    found = ((link.alias.split(" ")[0], link) for link in links.all() if is_pod(link.name))
    return [(uid, link) for uid, link in found if uid]
