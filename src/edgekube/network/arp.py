"""ARP packets over Ethernet (RFC 826), as bytes."""

import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

from edgekube.network.claims import Say
from edgekube.network.tongue import Talk

ETHERTYPE = 0x0806
BROADCAST = b"\xff" * 6
REQUEST, REPLY = 1, 2
_FRAME = struct.Struct("!6s6sHHHBBH6s4s6s4s")
_ETHERNET, _IPV4 = 1, 0x0800


class Arp(NamedTuple):
    """One packet; addresses as text, MACs as six bytes. A sender address of 0.0.0.0 is a probe (RFC 5227)."""

    operation: int
    sender_mac: bytes
    sender: str
    target_mac: bytes
    target: str


def parse(frame: bytes) -> Arp | None:
    """Return what an Ethernet frame says; None if it is not ARP for IPv4."""
    if len(frame) < _FRAME.size:
        return None
    _to, _from, kind, hardware, protocol, hlen, plen, operation, sha, spa, tha, tpa = _FRAME.unpack_from(
        frame
    )
    if (kind, hardware, protocol, hlen, plen) != (ETHERTYPE, _ETHERNET, _IPV4, 6, 4):
        return None
    return Arp(operation, sha, socket.inet_ntoa(spa), tha, socket.inet_ntoa(tpa))


def build(packet: Arp, *, to: bytes) -> bytes:
    """Return the frame for one packet."""
    return _FRAME.pack(
        to, packet.sender_mac, ETHERTYPE, _ETHERNET, _IPV4, 6, 4, packet.operation,
        packet.sender_mac, socket.inet_aton(packet.sender), packet.target_mac, socket.inet_aton(packet.target),
    )  # fmt: skip


def answer(asked: Arp, mac: bytes) -> bytes:
    """Return the reply that says `mac` has the address asked for."""
    return build(Arp(REPLY, mac, asked.target, asked.sender_mac, asked.sender), to=asked.sender_mac)


class ArpTongue:
    """ARP as the Tongue of IPv4."""

    ethertype = ETHERTYPE
    filter: tuple[tuple[int, int, int, int], ...] = ()

    def understand(self, frame: bytes) -> Talk | None:
        """Return what a frame says."""
        packet = parse(frame)
        if packet is None:
            return None
        has = (packet.sender,) if packet.sender != "0.0.0.0" else ()
        asks = packet.operation == REQUEST and packet.sender != packet.target
        return Talk(packet.sender_mac, has, packet.target if asks else "", lambda mac: answer(packet, mac))

    def to_all(self, say: Say, address: str, mac: bytes) -> bytes:
        """Return a claim (a request that names the address as sender and target) or a question (a probe)."""
        sender = address if say is Say.ANNOUNCE else "0.0.0.0"
        return build(Arp(REQUEST, mac, sender, bytes(6), address), to=BROADCAST)

    def groups(self, addresses: Iterable[str]) -> frozenset[str]:
        """Return none: ARP is broadcast."""
        del addresses
        return frozenset()
