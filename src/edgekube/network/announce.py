"""
Speaks for addresses no interface has, so that a LAN's packets for them come to this node.

What to say when is in `claims`; this waits and sends. A Line carries it: the node's LANs, or one in memory.
"""

import asyncio
import ctypes
import fcntl
import logging
import socket
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgekube.network import arp, netns
from edgekube.network.claims import Claims, Sending
from edgekube.network.netlink import ROUTE, attributes, messages

log = logging.getLogger(__name__)

OURS = "ek"
"""How the names of the pod network's interfaces begin: nobody there needs to be told."""
_OUTGOING = 4
_READ = 2048
_SIOCGIFCONF, _SIOCGIFHWADDR = 0x8912, 0x8927
_NEWLINK, _IFNAME, _LOWER_UP = 16, 3, 1 << 16
_NAME, _ETHERNET, _ROOM = 16, 1, 40 * 256
_IFREQ = "16s24x"


class Line(Protocol):
    """Where announcements go, and others' come from."""

    def open(self, claims: Claims, heard: Callable[[str], None], back: Callable[[], None]) -> None:
        """
        Begin to answer for what `claims` holds.

        `heard(address)` is called when another machine has one, `back()` when the line was cut and is whole again.
        """
        ...

    def send(self, sending: Sending) -> None:
        """Send one packet to all; what cannot be sent is lost, as on any LAN."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Announcer:
    """Keeps claims on a line; run `run`."""

    def __init__(self, line: Line) -> None:
        self._line, self._claims = line, Claims()
        self._changed = asyncio.Event()

    def set_addresses(self, addresses: Collection[str]) -> None:
        """Make these the only addresses to speak for."""
        self._claims.wish(addresses, _now())
        self._changed.set()

    def _heard(self, address: str) -> None:
        if self._claims.heard(address, _now()):
            log.warning("another machine claims %s: giving way", address)
        self._changed.set()

    def _back(self) -> None:
        self._claims.ask_again(_now())
        self._changed.set()

    async def run(self) -> None:
        """Speak until cancelled."""
        self._line.open(self._claims, self._heard, self._back)
        try:
            while True:
                self._changed.clear()
                for sending in self._claims.due(_now()):
                    self._line.send(sending)
                at = self._claims.next()
                try:
                    async with asyncio.timeout(None if at is None else max(at - _now(), 0)):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            self._line.close()


def _now() -> float:
    return asyncio.get_running_loop().time()


@dataclass(slots=True)
class MemoryLan:
    """A LAN in memory; lines that are `unplugged` neither hear nor are heard."""

    lines: "list[MemoryLine]" = field(default_factory=list)

    def line(self, name: str) -> "MemoryLine":
        """Connect a machine."""
        made = MemoryLine(self, name)
        self.lines.append(made)
        return made

    def who_has(self, address: str) -> list[str]:
        """Return the machines that answer for an address."""
        return [line.name for line in self.lines if line.answers(address)]


class MemoryLine:
    """One machine's connection to a MemoryLan."""

    def __init__(self, lan: MemoryLan, name: str) -> None:
        self._lan, self.name = lan, name
        self._claims: Claims | None = None
        self._heard: Callable[[str], None] = lambda _address: None
        self._back: Callable[[], None] = lambda: None
        self.unplugged = False

    def open(self, claims: Claims, heard: Callable[[str], None], back: Callable[[], None]) -> None:
        """Connect."""
        self._claims, self._heard, self._back = claims, heard, back

    def plug(self, *, into: bool) -> None:
        """Cut the line, or make it whole again."""
        self.unplugged = not into
        if into:
            self._back()

    def answers(self, address: str) -> bool:
        """Tell whether a question for the address is answered here."""
        return not self.unplugged and self._claims is not None and self._claims.speaks_for(address)

    def send(self, sending: Sending) -> None:
        """Tell the others, or ask them."""
        if self.unplugged:
            return
        for other in self._lan.lines:
            if other is self or other.unplugged:
                continue
            if sending.say.name == "ANNOUNCE":
                other._heard(sending.address)  # noqa: SLF001 - the LAN's own lines
            elif other.answers(sending.address):
                self._heard(sending.address)

    def close(self) -> None:
        """Disconnect."""
        self._claims = None


class ArpLine:
    """The LANs of a network namespace (packet(7), netdevice(7)); without a path that of the thread that opens it."""

    def __init__(self, namespace: Path | None = None) -> None:
        self._namespace = namespace
        self._socket: socket.socket | None = None
        self._claims = Claims()
        self._heard: Callable[[str], None] = lambda _address: None

    def open(self, claims: Claims, heard: Callable[[str], None], back: Callable[[], None]) -> None:
        """Listen to ARP on every interface."""
        self._claims, self._heard = claims, heard
        self._carriers = Carriers(back, self._namespace)
        self._socket = (
            _packet_socket() if self._namespace is None else netns.inside(self._namespace, _packet_socket)
        )
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)

    def close(self) -> None:
        """Listen no more."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._carriers.close()
            self._socket = None

    def send(self, sending: Sending) -> None:
        """Tell or ask every LAN."""
        assert self._socket is not None
        for name in _interfaces(self._socket):
            if not name.startswith(OURS) and (mac := _mac(self._socket, name)):
                self._put(name, arp.to_all(sending.say, sending.address, mac))

    def _readable(self) -> None:
        assert self._socket is not None
        while True:
            try:
                frame, where = self._socket.recvfrom(_READ)
            except BlockingIOError:
                return
            except OSError as error:
                # An interface went down; the socket lives on.
                log.debug("ARP: %s", error)
                return
            name, direction = where[0], where[2]
            if (
                direction != _OUTGOING
                and not name.startswith(OURS)
                and (packet := arp.parse(frame)) is not None
            ):
                self._take(name, packet)

    def _take(self, name: str, packet: arp.Arp) -> None:
        assert self._socket is not None
        mac = _mac(self._socket, name)
        if not mac or packet.sender_mac == mac:
            return
        if packet.sender != "0.0.0.0":
            self._heard(packet.sender)
        if (
            packet.operation == arp.REQUEST
            and packet.sender != packet.target
            and self._claims.speaks_for(packet.target)
        ):
            self._put(name, arp.answer(packet, mac))

    def _put(self, name: str, frame: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.sendto(frame, (name, arp.ETHERTYPE))
        except OSError as error:
            log.debug("ARP on %s: %s", name, error)


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


def _packet_socket() -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    return socket.socket(socket.AF_PACKET, kind, socket.htons(arp.ETHERTYPE))


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
