"""
Neighbour discovery over Ethernet (RFC 4861), as bytes: solicitations and advertisements.

An advertisement to all with the override flag is what a gratuitous ARP is to IPv4; a solicitation
from the unspecified address asks whether anybody has an address, as duplicate detection does (RFC 4862).
"""

import struct
from collections.abc import Iterable
from ipaddress import IPv6Address
from socket import AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple

from edgekube.network.claims import Say
from edgekube.network.tongue import Talk

ETHERTYPE = 0x86DD
SOLICITATION, ADVERTISEMENT = 135, 136
SOLICITED, OVERRIDE = 0x40000000, 0x20000000
UNSPECIFIED, ALL_NODES = "::", "ff02::1"
_HOPS = 255
"""Whoever is more than a link away cannot send this hop limit."""
_ICMP = 58
_SOURCE_OPTION, _TARGET_OPTION = 1, 2
_ETHERNET = struct.Struct("!6s6sH")
_IP = struct.Struct("!IHBB16s16s")
_BODY = struct.Struct("!BBHI16s")
_PSEUDO = struct.Struct("!16s16sII")
_GROUP = int(IPv6Address("ff02::1:ff00:0"))


class Neighbour(NamedTuple):
    """One packet; addresses as text, MACs as six bytes. `flags` are an advertisement's."""

    type: int
    mac: bytes
    source: str
    destination: str
    target: str
    flags: int = 0


def parse(frame: bytes) -> Neighbour | None:
    """Return what an Ethernet frame says; None if it is not a valid solicitation or advertisement."""
    start = _ETHERNET.size + _IP.size
    if len(frame) < start + _BODY.size:
        return None
    _to, mac, kind = _ETHERNET.unpack_from(frame)
    version, size, following, hops, source, destination = _IP.unpack_from(frame, _ETHERNET.size)
    body = frame[start : start + size]
    if (kind, version >> 28, following, hops) != (ETHERTYPE, 6, _ICMP, _HOPS) or size < _BODY.size:
        return None
    said, code, _checksum, flags, target = _BODY.unpack_from(body)
    if said not in {SOLICITATION, ADVERTISEMENT} or code or target[0] == 0xFF or len(body) != size:
        return None
    if _checksum_of(source, destination, body):
        return None
    place, whom, what = (inet_ntop(AF_INET6, address) for address in (source, destination, target))
    return Neighbour(said, mac, place, whom, what, flags)


def build(packet: Neighbour, *, to: bytes = b"") -> bytes:
    """Return the frame for one packet; without `to` it goes to the MAC of the destination's group."""
    source, destination = inet_pton(AF_INET6, packet.source), inet_pton(AF_INET6, packet.destination)
    body = _BODY.pack(packet.type, 0, 0, packet.flags, inet_pton(AF_INET6, packet.target))
    if packet.type == ADVERTISEMENT:
        body += bytes([_TARGET_OPTION, 1]) + packet.mac
    elif packet.source != UNSPECIFIED:
        body += bytes([_SOURCE_OPTION, 1]) + packet.mac
    body = body[:2] + struct.pack("!H", _checksum_of(source, destination, body)) + body[4:]
    ethernet = _ETHERNET.pack(to or b"\x33\x33" + destination[-4:], packet.mac, ETHERTYPE)
    return ethernet + _IP.pack(6 << 28, len(body), _ICMP, _HOPS, source, destination) + body


def group_of(address: str) -> str:
    """Return the solicited-node multicast address (RFC 4291, 2.7.1)."""
    return str(IPv6Address(_GROUP | int(IPv6Address(address)) & 0xFFFFFF))


def answer(asked: Neighbour, mac: bytes) -> bytes:
    """Return the advertisement that says `mac` has the address asked for; who probes has no address to answer to."""
    if asked.source == UNSPECIFIED:
        return build(Neighbour(ADVERTISEMENT, mac, asked.target, ALL_NODES, asked.target, OVERRIDE))
    said = Neighbour(ADVERTISEMENT, mac, asked.target, asked.source, asked.target, SOLICITED | OVERRIDE)
    return build(said, to=asked.mac)


def _checksum_of(source: bytes, destination: bytes, body: bytes) -> int:
    """Return the checksum of a body whose own is 0; of a whole one 0 if it is right (RFC 4443, 2.3)."""
    data = _PSEUDO.pack(source, destination, len(body), _ICMP) + body + b"\0" * (len(body) & 1)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


class NdpTongue:
    """Neighbour discovery as the Tongue of IPv6."""

    ethertype = ETHERTYPE
    filter: tuple[tuple[int, int, int, int], ...] = (
        # Next header ICMPv6, and a type of the two: else every IPv6 packet would wake us.
        (0x30, 0, 0, _ETHERNET.size + 6),
        (0x15, 0, 4, _ICMP),
        (0x30, 0, 0, _ETHERNET.size + _IP.size),
        (0x15, 1, 0, SOLICITATION),
        (0x15, 0, 1, ADVERTISEMENT),
        (0x06, 0, 0, 0xFFFF),
        (0x06, 0, 0, 0),
    )

    def understand(self, frame: bytes) -> Talk | None:
        """Return what a frame says."""
        packet = parse(frame)
        if packet is None:
            return None
        has = {packet.source} if packet.source != UNSPECIFIED else set()
        if packet.type == ADVERTISEMENT:
            has.add(packet.target)
        asks = packet.target if packet.type == SOLICITATION else ""
        return Talk(packet.mac, tuple(has), asks, lambda mac: answer(packet, mac))

    def to_all(self, say: Say, address: str, mac: bytes) -> bytes:
        """Return an unsolicited advertisement, or a solicitation as duplicate detection sends it."""
        if say is Say.ANNOUNCE:
            return build(Neighbour(ADVERTISEMENT, mac, address, ALL_NODES, address, OVERRIDE))
        return build(Neighbour(SOLICITATION, mac, UNSPECIFIED, group_of(address), address))

    def groups(self, addresses: Iterable[str]) -> frozenset[str]:
        """Return the solicited-node groups; those of the other family are not asked for here."""
        return frozenset(group_of(address) for address in addresses if ":" in address)
