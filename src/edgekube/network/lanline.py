"""Announcements on the LANs of a network namespace (packet(7), netdevice(7), ipv6(7))."""

import asyncio
import contextlib
import ctypes
import fcntl
import logging
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from edgekube.network import netns
from edgekube.network.announce import Line
from edgekube.network.arp import ArpTongue
from edgekube.network.claims import Claims, Sending
from edgekube.network.ndp import NdpTongue
from edgekube.network.netlink import ROUTE, attributes, messages
from edgekube.network.tongue import Talk, Tongue

log = logging.getLogger(__name__)

T = TypeVar("T")

OURS = "ek"
"""How the names of the pod network's interfaces begin: nobody there needs to be told."""
_OUTGOING = 4
_READ = 2048
_SIOCGIFCONF, _SIOCGIFHWADDR, _SIOCGIFINDEX = 0x8912, 0x8927, 0x8933
_NEWLINK, _IFNAME, _LOWER_UP = 16, 3, 1 << 16
_NAME, _ETHERNET, _ROOM = 16, 1, 40 * 256
_IFREQ = "16s24x"
_ATTACH_FILTER = 26
_INTERFACES6 = Path("/proc/thread-self/net/if_inet6")


class LanLine:
    """All LANs, in one Tongue; without a path those of the thread that opens it."""

    def __init__(self, tongue: Tongue, namespace: Path | None = None) -> None:
        self._tongue, self._namespace = tongue, namespace
        self._socket: socket.socket | None = None
        self._claims = Claims()
        self._heard: Callable[[str], None] = lambda _address: None

    def open(self, claims: Claims, heard: Callable[[str], None], back: Callable[[], None]) -> None:
        """Listen on every interface."""
        self._claims, self._heard = claims, heard
        # First what a kernel may not have.
        self._groups = Groups(self._inside(_group_socket)) if self._tongue.groups(["::1"]) else None
        self._socket = self._inside(lambda: _packet_socket(self._tongue))
        self._carriers = Carriers(back, self._namespace)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)

    def close(self) -> None:
        """Listen no more."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._carriers.close()
            if self._groups is not None:
                self._groups.close()
            self._socket = None

    def send(self, sending: Sending) -> None:
        """Tell or ask every LAN."""
        assert self._socket is not None
        names = [name for name in self._interfaces(self._socket) if not name.startswith(OURS)]
        if self._groups is not None:
            self._groups.follow(names, self._tongue.groups(self._claims.addresses | {sending.address}))
        for name in names:
            if mac := _mac(self._socket, name):
                self._put(name, self._tongue.to_all(sending.say, sending.address, mac))

    def _interfaces(self, made: socket.socket) -> Sequence[str]:
        return _interfaces(made) if self._groups is None else self._inside(_interfaces6)

    def _inside(self, work: Callable[[], T]) -> T:
        return work() if self._namespace is None else netns.inside(self._namespace, work)

    def _readable(self) -> None:
        assert self._socket is not None
        while True:
            try:
                frame, where = self._socket.recvfrom(_READ)
            except BlockingIOError:
                return
            except OSError as error:
                # An interface went down; the socket lives on.
                log.debug("%s: %s", type(self._tongue).__name__, error)
                return
            name, direction = where[0], where[2]
            if direction != _OUTGOING and not name.startswith(OURS):
                talk = self._tongue.understand(frame)
                if talk is not None:
                    self._take(name, talk)

    def _take(self, name: str, talk: Talk) -> None:
        assert self._socket is not None
        mac = _mac(self._socket, name)
        if not mac or talk.mac == mac:
            return
        for address in talk.has:
            self._heard(address)
        if talk.asks and self._claims.speaks_for(talk.asks):
            self._put(name, talk.answer(mac))

    def _put(self, name: str, frame: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.sendto(frame, (name, self._tongue.ethertype))
        except OSError as error:
            log.debug("%s on %s: %s", type(self._tongue).__name__, name, error)


class BothLines:
    """The LANs in both families; that of IPv6 is opened with the first address it has to carry."""

    def __init__(self, four: Line, six: Line) -> None:
        self._four, self._six = four, six
        self._open_six: Callable[[], None] | None = None

    def open(self, claims: Claims, heard: Callable[[str], None], back: Callable[[], None]) -> None:
        """Listen."""
        self._four.open(claims, heard, back)
        self._open_six = lambda: self._six.open(claims, heard, back)

    def send(self, sending: Sending) -> None:
        """Tell or ask all, in the family of the address."""
        if ":" not in sending.address:
            self._four.send(sending)
            return
        if self._open_six is not None:
            try:
                self._open_six()
            except OSError as error:
                log.debug("%s is not announced: %s", sending.address, error)
                return
            self._open_six = None
        self._six.send(sending)

    def close(self) -> None:
        """Listen no more."""
        self._four.close()
        if self._open_six is None:
            self._six.close()


def lan(namespace: Path | None = None) -> BothLines:
    """Return the LANs of a namespace, by ARP and neighbour discovery."""
    return BothLines(LanLine(ArpTongue(), namespace), LanLine(NdpTongue(), namespace))


class Groups:
    """Memberships in multicast groups, so that questions reach us: the kernel tells switches, and the interface."""

    def __init__(self, made: socket.socket) -> None:
        self._socket = made
        self._joined: set[tuple[int, str]] = set()

    def follow(self, names: Iterable[str], groups: Iterable[str]) -> None:
        """Be in these groups by these interfaces, and in no others."""
        groups = tuple(groups)
        wanted = {(index, group) for index in map(self._index, names) if index for group in groups}
        for option, members in (
            (socket.IPV6_LEAVE_GROUP, self._joined - wanted),
            (socket.IPV6_JOIN_GROUP, wanted - self._joined),
        ):
            for index, group in members:
                request = socket.inet_pton(socket.AF_INET6, group) + struct.pack("=i", index)
                # Left already with its interface, or no IPv6 there.
                with contextlib.suppress(OSError):
                    self._socket.setsockopt(socket.IPPROTO_IPV6, option, request)
        self._joined = wanted

    def close(self) -> None:
        """Leave them all."""
        self._socket.close()

    def _index(self, name: str) -> int:
        request = struct.pack("16si20x", name.encode(), 0)
        try:
            answer = fcntl.ioctl(self._socket.fileno(), _SIOCGIFINDEX, request)
        except OSError:
            return 0
        return int(struct.unpack_from("=i", answer, _NAME)[0])


class Carriers:
    """Calls `back()` when a LAN's cable is plugged in again (rtnetlink(7), RTMGRP_LINK)."""

    def __init__(self, back: Callable[[], None], namespace: Path | None) -> None:
        self._back = back
        self._up: dict[str, bool] = {}
        self._socket = _link_socket() if namespace is None else netns.inside(namespace, _link_socket)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)

    def close(self) -> None:
        """Listen no more."""
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def _readable(self) -> None:
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                # Some messages were lost: one of them may have been it.
                self._back()
                continue
            for message in messages(data):
                if message.type == _NEWLINK:
                    self._take(message.body)

    def _take(self, body: bytes) -> None:
        name = attributes(body, 16).get(_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
        (flags,) = struct.unpack_from("=I", body, 8)
        up = bool(flags & _LOWER_UP)
        was = self._up.get(name, True)
        self._up[name] = up
        if up and not was and not name.startswith(OURS):
            self._back()


def _link_socket() -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    made = socket.socket(socket.AF_NETLINK, kind, ROUTE)
    made.bind((0, 1))
    return made


def _packet_socket(tongue: Tongue) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    made = socket.socket(socket.AF_PACKET, kind, socket.htons(tongue.ethertype))
    if tongue.filter:
        program = b"".join(struct.pack("=HBBI", *step) for step in tongue.filter)
        room = ctypes.create_string_buffer(program)
        pointed = struct.pack("HP", len(tongue.filter), ctypes.addressof(room))
        made.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, pointed)
    return made


def _group_socket() -> socket.socket:
    return socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)


def _interfaces6() -> list[str]:
    """Return the interfaces with an IPv6 address, in the thread's namespace."""
    lines = _INTERFACES6.read_text().splitlines() if _INTERFACES6.exists() else []
    return list(dict.fromkeys(line.split()[5] for line in lines))


def _interfaces(made: socket.socket) -> list[str]:
    """Return the interfaces with an IPv4 address, in the socket's namespace."""
    room = ctypes.create_string_buffer(_ROOM)
    request = struct.pack("iP", _ROOM, ctypes.addressof(room))
    (size, _) = struct.unpack("iP", fcntl.ioctl(made.fileno(), _SIOCGIFCONF, request))
    entry = struct.calcsize(_IFREQ)
    names = (room.raw[at : at + _NAME].split(b"\0", 1)[0].decode() for at in range(0, size, entry))
    return list(dict.fromkeys(names))


def _mac(made: socket.socket, name: str) -> bytes:
    """Return an Ethernet interface's MAC, b"" for another kind and for one that is gone."""
    request = struct.pack(_IFREQ, name.encode())
    try:
        answer = fcntl.ioctl(made.fileno(), _SIOCGIFHWADDR, request)
    except OSError:
        return b""
    (kind,) = struct.unpack_from("H", answer, _NAME)
    return answer[_NAME + 2 : _NAME + 8] if kind == _ETHERNET else b""
