"""
nftables expressions packed by hand: the words of a rule, in the kernel's numbers (linux/netfilter/nf_tables.h).

Registers are the 4-byte ones, 8 to 23; VERDICT is register 0. Only what `nft` can say is here, so
that `nft list ruleset` shows every rule.
"""

import socket
import struct
from functools import lru_cache
from ipaddress import IPv4Network

from edgekube.network.base import Transport
from edgekube.network.netlink import attribute, nest, text

VERDICT = 0
FIRST = 8
"""The first register; a concatenation of three takes 8, 9 and 10."""

_NETWORK, _TRANSPORT = 1, 2
_EQUAL, _NOT_EQUAL, _AT_MOST, _AT_LEAST = 0, 1, 3, 5
_MARK, _L4PROTO = 3, 16
_DROP, _ACCEPT, _JUMP, _GOTO, _RETURN = 0, 1, -3, -4, -5
_LOCAL = 2
_FROM, _TO = 1, 2
_NUMBER_HEADER = struct.Struct("=HH")

remembered = lru_cache(256)
"""For words that thousands of rules have in common: packing them anew takes half the time of a full batch."""


@remembered
def number(kind: int, value: int) -> bytes:
    """Pack an unsigned 32-bit attribute (big-endian, as nftables wants)."""
    return _NUMBER_HEADER.pack(8, kind) + value.to_bytes(4, "big")


def expression(name: str, *values: bytes) -> bytes:
    """Pack one expression as a list element."""
    return nest(1, text(1, name), nest(2, *values))


def data(value: bytes) -> bytes:
    """Pack a value (NFTA_DATA_VALUE)."""
    return attribute(1, value)


def verdict(code: int, chain: str = "") -> bytes:
    """Pack a verdict (NFTA_DATA_VERDICT), to be nested in an immediate or a map's element."""
    return nest(2, attribute(1, struct.pack(">i", code)), *([text(2, chain)] if chain else []))


def goto_chain(chain: str) -> bytes:
    """Pack a map element's value: go to `chain`."""
    return verdict(_GOTO, chain)


def drop() -> bytes:
    """Say `drop`."""
    return _decide(_DROP)


def accept() -> bytes:
    """Say `accept`: this base chain has no objection."""
    return _decide(_ACCEPT)


def _decide(code: int, chain: str = "") -> bytes:
    return expression("immediate", number(1, VERDICT), nest(2, verdict(code, chain)))


def jump(chain: str) -> bytes:
    """Say `jump chain`."""
    return _decide(_JUMP, chain)


def goto(chain: str) -> bytes:
    """Say `goto chain`."""
    return _decide(_GOTO, chain)


def leave() -> bytes:
    """Say `return`."""
    return _decide(_RETURN)


def payload(base: int, offset: int, length: int, register: int) -> bytes:
    """Load bytes of a packet's header."""
    return expression("payload", number(1, register), number(2, base), number(3, offset), number(4, length))


def source(register: int = FIRST) -> bytes:
    """Load `ip saddr`."""
    return payload(_NETWORK, 12, 4, register)


def destination(register: int = FIRST) -> bytes:
    """Load `ip daddr`."""
    return payload(_NETWORK, 16, 4, register)


def source6(register: int = FIRST) -> bytes:
    """Load `ip6 saddr`, into four registers."""
    return payload(_NETWORK, 8, 16, register)


def destination6(register: int = FIRST) -> bytes:
    """Load `ip6 daddr`, into four registers."""
    return payload(_NETWORK, 24, 16, register)


def protocol(register: int) -> bytes:
    """Load `meta l4proto`."""
    return expression("meta", number(1, register), number(2, _L4PROTO))


@remembered
def of_protocol(transport: Transport) -> bytes:
    """Go on only with packets of that protocol: `meta l4proto tcp`."""
    return protocol(FIRST) + compare(bytes([transport.value]))


def port(register: int) -> bytes:
    """Load `th dport`."""
    return payload(_TRANSPORT, 2, 2, register)


def ports(first: int, last: int) -> bytes:
    """Say `th dport first-last`, both included."""
    low, high = struct.pack(">H", first), struct.pack(">H", last)
    if first == last:
        return port(FIRST) + compare(low)
    bounds = [
        expression("cmp", number(1, FIRST), number(2, relation), nest(3, data(value)))
        for relation, value in ((_AT_LEAST, low), (_AT_MOST, high))
    ]
    return port(FIRST) + b"".join(bounds)


def ongoing() -> bytes:
    """Say `ct state established,related`."""
    load = expression("ct", number(1, FIRST), number(2, 0))
    return (
        load
        + _mask(FIRST, struct.pack("=I", _ESTABLISHED | _RELATED), bytes(4))
        + compare(bytes(4), equal=False)
    )


_ESTABLISHED, _RELATED = 2, 4


def original_destination(register: int = FIRST) -> bytes:
    """Load `ct original ip daddr`: where the client sent to, before NAT."""
    return expression("ct", number(1, register), number(2, 20), attribute(3, b"\0"))


def _mask(register: int, mask: bytes, xor: bytes) -> bytes:
    return expression(
        "bitwise",
        number(1, register),
        number(2, register),
        number(3, 4),
        nest(4, data(mask)),
        nest(5, data(xor)),
    )


def compare(value: bytes, *, equal: bool = True, register: int = FIRST) -> bytes:
    """Go on only if the register (un)equals `value`."""
    return expression(
        "cmp", number(1, register), number(2, _EQUAL if equal else _NOT_EQUAL), nest(3, data(value))
    )


def within(cidr: str, *, equal: bool = True, register: int = FIRST) -> bytes:
    """Go on only if the address in the register is (not) in `cidr`."""
    network = IPv4Network(cidr)
    same = compare(network.network_address.packed, equal=equal, register=register)
    return same if network.prefixlen == 32 else _mask(register, network.netmask.packed, bytes(4)) + same


def to_this_node(*, equal: bool = True) -> bytes:
    """Say `fib daddr type local` (or `!= local`)."""
    return _is_local(_TO, equal=equal)


def from_this_node() -> bytes:
    """Say `fib saddr type local`."""
    return _is_local(_FROM, equal=True)


def _is_local(which: int, *, equal: bool) -> bytes:
    load = expression("fib", number(1, FIRST), number(2, 3), number(3, which))
    return load + compare(struct.pack("=I", _LOCAL), equal=equal)


def set_mark(bit: int) -> bytes:
    """Say `meta mark set meta mark or bit`."""
    load = expression("meta", number(1, FIRST), number(2, _MARK))
    keep, add = struct.pack("=I", 0xFFFFFFFF ^ bit), struct.pack("=I", bit)
    return load + _mask(FIRST, keep, add) + expression("meta", number(2, _MARK), number(3, FIRST))


def marked(bit: int) -> bytes:
    """Say `meta mark and bit != 0`."""
    load = expression("meta", number(1, FIRST), number(2, _MARK))
    return load + _mask(FIRST, struct.pack("=I", bit), bytes(4)) + compare(bytes(4), equal=False)


def lookup(name: str, *, into: int | None = None, set_id: int = 0, inverted: bool = False) -> bytes:
    """
    Say `@name` (`!= @name` when inverted); the key starts at FIRST.

    With `into`, the register of the answer, it is `vmap`/`map @name`.
    """
    values = [text(1, name), number(2, FIRST)]
    if into is not None:
        values.append(number(3, into))
    if set_id:
        values.append(number(4, set_id))
    if inverted:
        values.append(number(5, 1))
    return expression("lookup", *values)


def round_robin(modulus: int) -> bytes:
    """Load `numgen inc mod modulus`."""
    return _generate(modulus, 0)


def chance(modulus: int) -> bytes:
    """Load `numgen random mod modulus`."""
    return _generate(modulus, 1)


@remembered
def _generate(modulus: int, kind: int) -> bytes:
    return expression("numgen", number(1, FIRST), number(2, modulus), number(3, kind), number(4, 0))


def load(value: bytes, register: int) -> bytes:
    """Load a constant."""
    return expression("immediate", number(1, register), nest(2, data(value)))


@remembered
def dnat(address: int = FIRST, port_register: int = FIRST + 1) -> bytes:
    """Say `dnat to` the address and port in the registers."""
    return expression("nat", number(1, 1), number(2, 2), number(3, address), number(5, port_register))


def masquerade() -> bytes:
    """Say `masquerade fully-random`."""
    return expression("masq", number(1, 1 << 4))


def reject() -> bytes:
    """Say `reject with icmp port-unreachable` (the ICMPX form drops silently in an `ip` table)."""
    return expression("reject", number(1, 0), attribute(2, b"\3"))


def reject_protocol() -> bytes:
    """Say `reject with icmp prot-unreachable`: what ends an SCTP association at once (RFC 9260, 10)."""
    return expression("reject", number(1, 0), attribute(2, b"\2"))


def reject_by_reset() -> bytes:
    """Say `reject with tcp reset`, of TCP packets only."""
    return expression("reject", number(1, 1))


def update(name: str) -> bytes:
    """Say `update @name { … }`: note the key in FIRST, or begin its timeout afresh."""
    return expression("dynset", text(1, name), number(3, 1), number(4, FIRST))


@remembered
def counter() -> bytes:
    """Say `counter`."""
    return _COUNTER


_COUNTER = expression("counter", attribute(1, bytes(8)), attribute(2, bytes(8)))


def address_key(address: str) -> bytes:
    """Pack an IPv4 address as a key."""
    return socket.inet_aton(address)


def any_address_key(address: str) -> bytes:
    """Pack an address of either family as a key."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def port_key(value: int) -> bytes:
    """Pack a port as part of a concatenation."""
    return struct.pack(">H2x", value)


def transport_key(transport: Transport) -> bytes:
    """Pack a protocol as part of a concatenation."""
    return bytes([transport.value, 0, 0, 0])
