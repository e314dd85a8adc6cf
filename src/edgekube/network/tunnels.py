"""
The VXLAN device and who is behind it (RFC 7348; rtnetlink(7), bridge(8) fdb).

Nothing is learned from packets: where each peer's MAC is, and which MAC its address has, is written
as permanent entries. All entries of the device are ours.
"""

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from edgekube.network.links import pack
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

DEVICE = "ekvx"
VNI = 69
"""Not 1, which flannel uses on the same port; the same on all nodes."""
PORT = 8472
"""UDP; Linux's default, and not 4789, which Docker's overlay networks take."""

_NEWLINK, _GETLINK, _NEWNEIGH, _DELNEIGH, _GETNEIGH = 16, 18, 28, 29, 30
_IFINFO = struct.Struct("=BxHiII")
_NDMSG = struct.Struct("=BxxxiHBB")
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO = 1, 3, 4, 18
_INFO_KIND, _INFO_DATA = 1, 2
_VXLAN_ID, _VXLAN_LEARNING, _VXLAN_PORT = 1, 7, 15
_NDA_DST, _NDA_LLADDR = 1, 2
_PERMANENT, _SELF = 0x80, 0x02


@dataclass(frozen=True, slots=True)
class Device:
    """The VXLAN device as the kernel has it; `fit`: its VNI, port and learning are ours."""

    index: int
    mac: bytes
    mtu: int
    up: bool
    fit: bool


class Tunnels:
    """The tunnel side of the namespace of the thread that makes it; calls block and may be repeated."""

    def __init__(self) -> None:
        self._netlink = Netlink(ROUTE)

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def device(self) -> Device | None:
        """Return the device, if there is one."""
        body = _IFINFO.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, DEVICE)
        try:
            answer = self._netlink.get("vxlan device", _GETLINK, body)
        except NetlinkError as error:
            if error.number == errno.ENODEV:
                return None
            raise
        _family, _type, index, flags, _change = _IFINFO.unpack_from(answer)
        values = attributes(answer, _IFINFO.size)
        return Device(
            index,
            values.get(_IFLA_ADDRESS, b""),
            int.from_bytes(values.get(_IFLA_MTU, b""), sys.byteorder),
            bool(flags & 1),
            _fit(values.get(_IFLA_LINKINFO, b"")),
        )

    def add_device(self, mac: bytes, mtu: int) -> None:
        """
        Make the device. It has no address of its own and no interface below it: the routes decide, as they change.

        NetlinkError with EOPNOTSUPP: the kernel has no VXLAN.
        """
        data = (
            attribute(_VXLAN_ID, struct.pack("=I", VNI)),
            attribute(_VXLAN_LEARNING, b"\0"),
            attribute(_VXLAN_PORT, struct.pack("!H", PORT)),
        )
        body = _IFINFO.pack(0, 0, 0, 0, 0) + b"".join((
            text(_IFLA_IFNAME, DEVICE),
            attribute(_IFLA_ADDRESS, mac),
            attribute(_IFLA_MTU, struct.pack("=I", mtu)),
            nest(_IFLA_LINKINFO, text(_INFO_KIND, "vxlan"), nest(_INFO_DATA, *data)),
        ))  # fmt: skip
        self._netlink.request("add vxlan device", _NEWLINK, CREATE | EXCL, body)

    def neighbours(self, index: int) -> Iterator[tuple[str, bytes]]:
        """Yield the device's permanent neighbours of both families: address and MAC."""
        for family in (socket.AF_INET, socket.AF_INET6):
            for values in self._entries(family, index):
                if _NDA_DST in values and _NDA_LLADDR in values:
                    yield socket.inet_ntop(family, values[_NDA_DST]), values[_NDA_LLADDR]

    def forwarding(self, index: int) -> Iterator[tuple[bytes, str]]:
        """Yield the device's forwarding entries: MAC and the node it is at."""
        for values in self._entries(socket.AF_BRIDGE, index):
            if len(values.get(_NDA_DST, b"")) == 4 and _NDA_LLADDR in values:
                yield values[_NDA_LLADDR], socket.inet_ntoa(values[_NDA_DST])

    def put_neighbour(self, index: int, address: str, mac: bytes) -> None:
        """Say which MAC an address has."""
        self._put(f"neighbour {address}", pack(address)[0], index, address, mac)

    def put_forwarding(self, index: int, mac: bytes, remote: str) -> None:
        """Say at which node a MAC is."""
        self._put(f"forwarding entry to {remote}", socket.AF_BRIDGE, index, remote, mac)

    def remove_neighbour(self, index: int, address: str) -> None:
        """Forget an address; no error when it is not known."""
        family, packed = pack(address)
        self._remove(f"neighbour {address}", family, index, attribute(_NDA_DST, packed))

    def remove_forwarding(self, index: int, mac: bytes) -> None:
        """Forget a MAC; no error when it is not known."""
        self._remove(f"forwarding entry {mac.hex(':')}", socket.AF_BRIDGE, index, attribute(_NDA_LLADDR, mac))

    def _entries(self, family: int, index: int) -> Iterator[dict[int, bytes]]:
        # Older kernels leave the choice of the device to the asker.
        for body in self._netlink.dump("neighbours", _GETNEIGH, _NDMSG.pack(family, index, 0, 0, 0)):
            found, at, state, _flags, _type = _NDMSG.unpack_from(body)
            if found == family and at == index and state & _PERMANENT:
                yield attributes(body, _NDMSG.size)

    def _put(self, what: str, family: int, index: int, address: str, mac: bytes) -> None:
        flags = _SELF if family == socket.AF_BRIDGE else 0
        body = (
            _NDMSG.pack(family, index, _PERMANENT, flags, 0)
            + attribute(_NDA_DST, pack(address)[1])
            + attribute(_NDA_LLADDR, mac)
        )
        self._netlink.request(f"add {what}", _NEWNEIGH, CREATE | REPLACE, body)

    def _remove(self, what: str, family: int, index: int, key: bytes) -> None:
        flags = _SELF if family == socket.AF_BRIDGE else 0
        body = _NDMSG.pack(family, index, 0, flags, 0) + key
        try:
            self._netlink.request(f"delete {what}", _DELNEIGH, 0, body)
        except NetlinkError as error:
            if error.number != errno.ENOENT:
                raise


def _fit(information: bytes) -> bool:
    values = attributes(information)
    data = attributes(values.get(_INFO_DATA, b""))
    wanted = {
        _VXLAN_ID: struct.pack("=I", VNI),
        _VXLAN_LEARNING: b"\0",
        _VXLAN_PORT: struct.pack("!H", PORT),
    }
    kind = values.get(_INFO_KIND, b"").rstrip(b"\0")
    return kind == b"vxlan" and all(data.get(key) == value for key, value in wanted.items())
