"""What IPv4 and IPv6 have apart in packet rules; everything else is written once."""

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgekube.network.nftables import expressions as nft
from edgekube.network.nftables.transaction import ADDRESS, ADDRESS6, IPV4, IPV6, Field


@dataclass(frozen=True, slots=True)
class Family:
    """How a family's tables load, hold and compare addresses; `registers` is how many an address takes."""

    number: int
    name: str
    """What nft(8) calls it."""
    field: Field
    registers: int
    source: Callable[[int], bytes]
    destination: Callable[[int], bytes]
    original_destination: bytes
    """Loads where the client sent to, before NAT."""
    nobody: bytes
    """The unspecified address, which no packet that is forwarded comes from."""
    loopback: str
    """Addresses that never leave the machine, as a CIDR."""
    reject: bytes
    """Refuses a packet: port unreachable."""
    reject_protocol: bytes
    """Refuses a whole protocol, where the family has a word for that; else as `reject`."""
    dnat: bytes
    """Sends to the address and port in the registers from FIRST on."""
    pack: Callable[[str], bytes]

    @property
    def port_register(self) -> int:
        """The register after an address."""
        return nft.FIRST + self.registers

    def __contains__(self, address: str) -> bool:
        """Tell whether an address or CIDR is of this family."""
        return (":" in address) == (self.number == IPV6)


def _pack6(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, address)


FAMILY4 = Family(
    number=IPV4, name="ip", field=ADDRESS, registers=1, source=nft.source, destination=nft.destination,
    original_destination=nft.original_destination(IPV4), nobody=bytes(4), loopback="127.0.0.0/8",
    # ICMP: 3 is port unreachable, 2 protocol unreachable (RFC 792).
    reject=nft.reject(3), reject_protocol=nft.reject(2), dnat=nft.dnat(IPV4, port=nft.FIRST + 1), pack=socket.inet_aton,
)  # fmt: skip
FAMILY6 = Family(
    number=IPV6, name="ip6", field=ADDRESS6, registers=4, source=nft.source6, destination=nft.destination6,
    original_destination=nft.original_destination(IPV6), nobody=bytes(16), loopback="::1/128",
    # ICMPv6: 4 is port unreachable (RFC 4443).
    reject=nft.reject(4), reject_protocol=nft.reject(4), dnat=nft.dnat(IPV6, port=nft.FIRST + 4), pack=_pack6,
)  # fmt: skip
FAMILIES = (FAMILY4, FAMILY6)


def family_of(address: str) -> Family:
    """Return the family of an address."""
    return FAMILY6 if ":" in address else FAMILY4


def cidr_of(cidrs: Iterable[str], family: Family) -> str:
    """Return the first CIDR of a family, "" if there is none."""
    return next((cidr for cidr in cidrs if cidr in family), "")
