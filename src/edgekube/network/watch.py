"""
This node's own addresses, and a sign when they, its links or our routes change (rtnetlink(7) groups).

What one change is made of comes as many messages, and pods coming and going make more: a waiter is
woken once for all that is there, and only by what can matter to the ways between nodes.
"""

import asyncio
import errno
import socket
import struct

from edgekube.network.base import NetworkError, NodeAddress
from edgekube.network.links import PROTOCOL, Links
from edgekube.network.netlink import ROUTE, Answer, attributes, messages

_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE."""
_NEWLINK, _DELLINK, _NEWADDR, _DELADDR, _NEWROUTE, _DELROUTE = 16, 17, 20, 21, 24, 25
_IFNAME, _IFA_LABEL = 3, 3
_READ = 1 << 16
_DEFAULT = 0
"""The prefix length of the default route, which tells which address is the node's."""


class LinuxSurroundings:
    """Surroundings of the network namespace that the process (or the thread that makes it) is in."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, ROUTE
        )
        try:
            self._socket.bind((0, _GROUPS))
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    async def changed(self) -> None:
        """Wait until addresses, links or our routes may have changed since the last call; one waiter at a time."""
        while not self._drain():
            readable = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_reader(self._socket.fileno(), readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(self._socket.fileno())

    def _drain(self) -> bool:
        """Read all there is; tell whether some of it matters."""
        matters = False
        while True:
            try:
                data = self._socket.recv(_READ)
            except BlockingIOError:
                return matters
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise NetworkError(f"netlink receive: {error.strerror}") from error
                # Some were lost: anything may have changed.
                matters = True
                continue
            matters = matters or any(_matters(message) for message in messages(data))

    def addresses(self) -> list[NodeAddress]:
        """Return this node's addresses, IPv4 first, not the pod network's; a short blocking call."""
        links = Links()
        try:
            names = {
                link.index: link.name
                for link in links.all()
                if link.up and not link.loopback and not _ours(link.name)
            }
            gateways = {index: number for number, index in enumerate(links.default_interfaces())}
            found = [
                item
                for family in (socket.AF_INET, socket.AF_INET6)
                for item in links.addresses(family)
                if item.index in names
            ]
        finally:
            links.close()
        # sorted() is stable: the kernel's own order where nothing else decides.
        ranked = sorted(
            found, key=lambda item: (":" in item.address, gateways.get(item.index, len(gateways)))
        )
        return [NodeAddress(names[item.index], item.address, item.index in gateways) for item in ranked]


def _matters(message: Answer) -> bool:
    kind, body = message.type, message.body
    if kind in {_NEWADDR, _DELADDR}:
        family, scope = body[0], body[3]
        if family == socket.AF_INET6:
            # Every interface has a link-local one, and ours have single ones (/128).
            return scope == 0 and body[1] < 128
        # Pods' ends have no address on the node's side, and our own interfaces' labels say whose they are.
        return not _ours(_name(attributes(body, 8), _IFA_LABEL))
    if kind in {_NEWLINK, _DELLINK}:
        return not _is_pod_link(_name(attributes(body, 16), _IFNAME))
    if kind in {_NEWROUTE, _DELROUTE} and len(body) >= 12:
        _family, length, _source, _tos, _table, protocol = struct.unpack_from("=BBBBBB", body)
        # A pod's own IPv6 route goes aloud with its interface.
        return length == _DEFAULT or (kind == _DELROUTE and protocol == PROTOCOL and length < 128)
    return False


def _name(values: dict[int, bytes], kind: int) -> str:
    return values.get(kind, b"").rstrip(b"\0").decode(errors="replace")


def _ours(name: str) -> bool:
    return name.startswith("ek")


def _is_pod_link(name: str) -> bool:
    return _ours(name) and len(name) == len("ek00000000")
