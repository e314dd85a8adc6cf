"""Interfaces, addresses and routes of one network namespace (rtnetlink(7)); calls block and may be repeated."""

import errno
import socket
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

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

_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _DELADDR, _GETADDR, _NEWROUTE, _DELROUTE, _GETROUTE = (
    16,
    17,
    18,
    20,
    21,
    22,
    24,
    25,
    26,
)
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
_IFLA_QDISC = 6
_UP, _LOOPBACK = 1, 8
_ONLINK = 4
"""The gateway is behind the interface, whatever its addresses say (RTNH_F_ONLINK)."""
_CLONED = 0x200
_NODAD, _FLEETING = 0x02, 0x01 | 0x08 | 0x20 | 0x40
"""IFA_F_NODAD; and temporary (RFC 8981), not unique, deprecated or not yet checked addresses."""
_SIZES: Mapping[int, int] = {socket.AF_INET: 4, socket.AF_INET6: 16}
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
    mtu: int = 0
    loopback: bool = False
    queue: str = ""
    """The kind of its root queue (tc(8))."""


@dataclass(frozen=True, slots=True)
class Route:
    """An own route: by `gateway`, or ("") straight out of the interface `index`."""

    target: str
    gateway: str
    index: int


@dataclass(frozen=True, slots=True)
class Address:
    """An address of global scope on the interface `index`; `prefix` in bits."""

    index: int
    address: str
    prefix: int


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

    def set(self, index: int, *, up: bool = True, alias: str = "", mtu: int = 0) -> None:
        """Switch an interface on or off; note `alias` on it; give it an MTU (0: keep it)."""
        note = attribute(_IFLA_ALIAS, alias.encode()[:255]) if alias else b""
        size = attribute(_IFLA_MTU, struct.pack("=I", mtu)) if mtu else b""
        body = _IFINFO.pack(0, 0, index, _UP if up else 0, _UP) + note + size
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
        """Give the interface `address` and nothing around it (/32, /128)."""
        family, packed = pack(address)
        # Nobody else can have it, so IPv6 need not ask around first (IFA_F_NODAD).
        flags = _NODAD if family == socket.AF_INET6 else 0
        body = (
            _IFADDR.pack(family, len(packed) * 8, flags, _SCOPE_GLOBAL, index)
            + attribute(2, packed)
            + attribute(1, packed)
        )
        self._netlink.request(f"add address {address}", _NEWADDR, CREATE | REPLACE, body)

    def remove_address(self, index: int, address: str) -> None:
        """Take that address from the interface; no error when it is not there."""
        family, packed = pack(address)
        body = _IFADDR.pack(family, len(packed) * 8, 0, _SCOPE_GLOBAL, index) + attribute(2, packed)
        try:
            self._netlink.request(f"delete address {address}", _DELADDR, 0, body)
        except NetlinkError as error:
            if error.number != errno.EADDRNOTAVAIL:
                raise

    def addresses(self, family: int = socket.AF_INET) -> Iterator[Address]:
        """Yield the addresses of global scope."""
        for body in self._netlink.dump("addresses", _GETADDR, _IFADDR.pack(family, 0, 0, 0, 0)):
            found, prefix, flags, scope, index = _IFADDR.unpack_from(body)
            values = attributes(body, _IFADDR.size)
            # IFA_LOCAL is our end, IFA_ADDRESS the peer's on a point-to-point link.
            local = values.get(2, values.get(1))
            fleeting = family == socket.AF_INET6 and flags & _FLEETING
            if found == family and scope == _SCOPE_GLOBAL and local is not None and not fleeting:
                yield Address(index, socket.inet_ntop(family, local), prefix)

    def add_route(
        self, target: str, *, index: int = 0, gateway: str = "", source: str = "", onlink: bool = False
    ) -> None:
        """
        Route `target` (CIDR) by `gateway`, out of the interface, or both; replaces the route that is there.

        `onlink`: the gateway is reached through the interface though no prefix of it says so.
        """
        values = []
        if gateway:
            values.append(attribute(5, pack(gateway)[1]))
        if index:
            values.append(attribute(4, struct.pack("=I", index)))
        if source:
            values.append(attribute(7, pack(source)[1]))
        scope = _SCOPE_GLOBAL if gateway else _SCOPE_LINK
        body = _route_body(target, scope, flags=_ONLINK if onlink else 0) + b"".join(values)
        self._netlink.request(f"add route {target}", _NEWROUTE, CREATE | REPLACE, body)

    def remove_route(self, target: str) -> None:
        """Remove our route to `target`; no error when there is none."""
        try:
            self._netlink.request(f"delete route {target}", _DELROUTE, 0, _route_body(target, 255))
        except NetlinkError as error:
            if error.number != errno.ESRCH:
                raise

    def routes(self, family: int = socket.AF_INET) -> Iterator[Route]:
        """Yield our own routes of the main table."""
        for length, protocol, values in self._routes(family):
            if protocol != PROTOCOL:
                continue
            target = socket.inet_ntop(family, values.get(1, bytes(_SIZES[family])))
            gateway = socket.inet_ntop(family, values[5]) if 5 in values else ""
            yield Route(f"{target}/{length}", gateway, int.from_bytes(values.get(4, b""), sys.byteorder))

    def default_interfaces(self) -> Sequence[int]:
        """Return the interfaces that IPv4 default routes leave by, the one in use (lowest metric) first."""
        found = [
            (int.from_bytes(values.get(6, b""), sys.byteorder), int.from_bytes(values[4], sys.byteorder))
            for length, _protocol, values in self._routes(socket.AF_INET)
            if length == 0 and 4 in values
        ]
        return list(dict.fromkeys(index for _metric, index in sorted(found, key=lambda item: item[0])))

    def _routes(self, family: int) -> Iterator[tuple[int, int, dict[int, bytes]]]:
        """Yield prefix length, protocol and attributes of the routes of the main table."""
        for body in self._netlink.dump("routes", _GETROUTE, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)):
            found, length, _src, _tos, table, protocol, _scope, _type, flags = _ROUTE.unpack_from(body)
            if found == family and table == _MAIN_TABLE and not flags & _CLONED:
                yield length, protocol, attributes(body, _ROUTE.size)


def pack(address: str) -> tuple[int, bytes]:
    """Return an address's family and bytes."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def _route_body(target: str, scope: int, *, flags: int = 0) -> bytes:
    address, _, length = target.partition("/")
    family, packed = pack(address)
    # In IPv6 routes have no scope.
    reach = scope if family == socket.AF_INET else 0
    header = _ROUTE.pack(family, int(length), 0, 0, _MAIN_TABLE, PROTOCOL, reach, 1, flags)
    return header + (attribute(1, packed) if int(length) else b"")


def _link(body: bytes) -> Link:
    _family, _type, index, flags, _change = _IFINFO.unpack_from(body)
    values = attributes(body, _IFINFO.size)
    return Link(
        index,
        _string(values, _IFLA_IFNAME),
        _string(values, _IFLA_ALIAS),
        bool(flags & _UP),
        _traffic(values),
        int.from_bytes(values.get(_IFLA_MTU, b""), sys.byteorder),
        bool(flags & _LOOPBACK),
        _string(values, _IFLA_QDISC),
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
