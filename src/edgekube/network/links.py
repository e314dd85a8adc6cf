"""Interfaces, addresses and routes of one network namespace (rtnetlink(7)); calls block and may be repeated."""

import errno
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network

from edgekube.network.base import Traffic
from edgekube.network.netlink import (
    CREATE,
    EXCL,
    REPLACE,
    ROUTE,
    Netlink,
    NetlinkError,
    attribute,
    attributes,
    nest,
    text,
)

PROTOCOL = 69
"""Marks the routes that are ours (rtm_protocol; unassigned in /etc/iproute2/rt_protos)."""

_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _NEWROUTE, _DELROUTE, _GETROUTE = 16, 17, 18, 20, 24, 25, 26
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_ALIAS, _IFLA_STATS64, _IFLA_NET_NS_FD = (
    1,
    3,
    4,
    18,
    20,
    23,
    28,
)
_UP = 1
_MAIN_TABLE = 254
_SCOPE_GLOBAL, _SCOPE_LINK = 0, 253


@dataclass(frozen=True, slots=True)
class Link:
    """An interface: `alias` is the note attached to it."""

    index: int
    name: str
    alias: str
    up: bool
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class Route:
    """An own IPv4 route: by `gateway`, or ("") straight out of the interface `index`."""

    target: str
    gateway: str
    index: int


class Links:
    """The rtnetlink side of the namespace of the thread that makes it."""

    def __init__(self) -> None:
        self._netlink = Netlink(ROUTE)

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def find(self, name: str) -> Link | None:
        """Return the interface of that name."""
        body = _IFINFO.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name)
        try:
            return _link(self._netlink.get(f"link {name}", _GETLINK, body))
        except NetlinkError as error:
            if error.number == errno.ENODEV:
                return None
            raise

    def all(self) -> Iterator[Link]:
        """Yield every interface."""
        for body in self._netlink.dump("links", _GETLINK, _IFINFO.pack(0, 0, 0, 0, 0)):
            yield _link(body)

    def add(self, name: str, kind: str) -> None:
        """Make an interface of a kind that needs no more than its name; one that is there is kept."""
        self._new(name, text(_IFLA_IFNAME, name), nest(_IFLA_LINKINFO, text(1, kind)))

    def add_veth(self, name: str, *, peer: str, namespace: int, mtu: int = 0) -> None:
        """Make a veth pair with the end called `peer` in the namespace of that file descriptor."""
        size = [attribute(_IFLA_MTU, struct.pack("=I", mtu))] if mtu else []
        inner = _IFINFO.pack(0, 0, 0, 0, 0) + b"".join(
            [text(_IFLA_IFNAME, peer), attribute(_IFLA_NET_NS_FD, struct.pack("=I", namespace)), *size]
        )
        info = nest(_IFLA_LINKINFO, text(1, "veth"), nest(2, attribute(1, inner)))
        self._new(name, text(_IFLA_IFNAME, name), *size, info)

    def _new(self, name: str, *values: bytes) -> None:
        body = _IFINFO.pack(0, 0, 0, 0, 0) + b"".join(values)
        try:
            self._netlink.request(f"add link {name}", _NEWLINK, CREATE | EXCL, body)
        except NetlinkError as error:
            if error.number != errno.EEXIST:
                raise

    def set(self, index: int, *, up: bool = True, alias: str = "") -> None:
        """Switch an interface on or off; note `alias` on it."""
        note = attribute(_IFLA_ALIAS, alias.encode()[:255]) if alias else b""
        body = _IFINFO.pack(0, 0, index, _UP if up else 0, _UP) + note
        self._netlink.request(f"set link {index}", _NEWLINK, 0, body)

    def remove(self, name: str) -> None:
        """Remove an interface (and its peer); no error when there is none."""
        body = _IFINFO.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name)
        try:
            self._netlink.request(f"delete link {name}", _DELLINK, 0, body)
        except NetlinkError as error:
            if error.number != errno.ENODEV:
                raise

    def add_address(self, index: int, address: str) -> None:
        """Give the interface `address`/32."""
        packed = socket.inet_aton(address)
        body = (
            _IFADDR.pack(socket.AF_INET, 32, 0, _SCOPE_GLOBAL, index)
            + attribute(2, packed)
            + attribute(1, packed)
        )
        self._netlink.request(f"add address {address}", _NEWADDR, CREATE | REPLACE, body)

    def add_route(self, target: str, *, index: int = 0, gateway: str = "", source: str = "") -> None:
        """Route `target` (CIDR) by `gateway`, out of the interface, or both; replaces the route that is there."""
        values = []
        if gateway:
            values.append(attribute(5, socket.inet_aton(gateway)))
        if index:
            values.append(attribute(4, struct.pack("=I", index)))
        if source:
            values.append(attribute(7, socket.inet_aton(source)))
        scope = _SCOPE_GLOBAL if gateway else _SCOPE_LINK
        body = _route_body(target, scope) + b"".join(values)
        self._netlink.request(f"add route {target}", _NEWROUTE, CREATE | REPLACE, body)

    def remove_route(self, target: str) -> None:
        """Remove our route to `target`; no error when there is none."""
        try:
            self._netlink.request(f"delete route {target}", _DELROUTE, 0, _route_body(target, 255))
        except NetlinkError as error:
            if error.number != errno.ESRCH:
                raise

    def routes(self) -> Iterator[Route]:
        """Yield our own IPv4 routes of the main table."""
        for body in self._netlink.dump(
            "routes", _GETROUTE, _ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        ):
            family, length, _src, _tos, table, protocol, _scope, _type, _flags = _ROUTE.unpack_from(body)
            if family != socket.AF_INET or table != _MAIN_TABLE or protocol != PROTOCOL:
                continue
            values = attributes(body, _ROUTE.size)
            target = socket.inet_ntoa(values.get(1, b"\0\0\0\0"))
            gateway = socket.inet_ntoa(values[5]) if 5 in values else ""
            yield Route(f"{target}/{length}", gateway, int.from_bytes(values.get(4, b""), "little"))


def _route_body(target: str, scope: int) -> bytes:
    network = IPv4Network(target)
    header = _ROUTE.pack(socket.AF_INET, network.prefixlen, 0, 0, _MAIN_TABLE, PROTOCOL, scope, 1, 0)
    return header + (attribute(1, network.network_address.packed) if network.prefixlen else b"")


def _link(body: bytes) -> Link:
    _family, _type, index, flags, _change = _IFINFO.unpack_from(body)
    values = attributes(body, _IFINFO.size)
    return Link(
        index,
        _string(values, _IFLA_IFNAME),
        _string(values, _IFLA_ALIAS),
        bool(flags & _UP),
        _traffic(values),
    )


def _string(values: Mapping[int, bytes], kind: int) -> str:
    return values.get(kind, b"").rstrip(b"\0").decode(errors="replace")


def _traffic(values: Mapping[int, bytes]) -> Traffic:
    # What the host's end sends is what the pod receives. struct rtnl_link_stats64 starts with
    # rx_packets, tx_packets, rx_bytes, tx_bytes.
    statistics = values.get(_IFLA_STATS64, b"")
    if len(statistics) < 32:
        return Traffic(0, 0, 0, 0)
    rx_packets, tx_packets, rx_bytes, tx_bytes = struct.unpack_from("=4Q", statistics)
    return Traffic(
        received_bytes=tx_bytes, sent_bytes=rx_bytes, received_packets=tx_packets, sent_packets=rx_packets
    )
