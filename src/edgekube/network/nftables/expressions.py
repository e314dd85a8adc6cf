"""
nftables expressions packed by hand: the words of a rule, in the kernel's numbers (linux/netfilter/nf_tables.h).

Registers are the 4-byte ones, 8 to 23; VERDICT is register 0. Only what `nft` can say is here, so
that `nft list ruleset` shows every rule.
"""

import socket
import struct
from functools import lru_cache
from ipaddress import ip_network

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
    return nest(2, _GOTO_CODE, text(2, chain))


_GOTO_CODE = attribute(1, struct.pack(">i", _GOTO))


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


_ORIGINAL_TARGETS = {2: 20, 10: 22}
"""NFT_CT_DST_IP and NFT_CT_DST_IP6, by family."""


def original_destination(family: int) -> bytes:
    """Load `ct original ip daddr` (or `ip6 daddr`): where the client sent to, before NAT."""
    return expression("ct", number(1, FIRST), number(2, _ORIGINAL_TARGETS[family]), attribute(3, b"\0"))


def _mask(register: int, mask: bytes, xor: bytes) -> bytes:
    return expression(
        "bitwise",
        number(1, register),
        number(2, register),
        number(3, len(mask)),
        nest(4, data(mask)),
        nest(5, data(xor)),
    )


def compare(value: bytes, *, equal: bool = True, register: int = FIRST) -> bytes:
    """Go on only if the register (un)equals `value`."""
    return expression(
        "cmp", number(1, register), number(2, _EQUAL if equal else _NOT_EQUAL), nest(3, data(value))
    )


def within(cidr: str, *, equal: bool = True, register: int = FIRST) -> bytes:
    """Go on only if the address in the register is (not) in `cidr`, of either family."""
    network = ip_network(cidr)
    mask = network.netmask.packed
    same = compare(network.network_address.packed, equal=equal, register=register)
    whole = network.prefixlen == network.max_prefixlen
    return same if whole else _mask(register, mask, bytes(len(mask))) + same


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
    where = _lookup_rest(into, inverted=inverted)
    if set_id:
        where += number(4, set_id)
    return nest(1, _LOOKUP, nest(2, text(1, name), where))


_LOOKUP = text(1, "lookup")


@remembered
def _lookup_rest(into: int | None, *, inverted: bool) -> bytes:
    answer = number(3, into) if into is not None else b""
    return number(2, FIRST) + answer + (number(5, 1) if inverted else b"")


@remembered
def pick(modulus: int, *, chance: bool) -> bytes:
    """Load `numgen inc mod modulus`, or `numgen random`."""
    kind = 1 if chance else 0
    return expression("numgen", number(1, FIRST), number(2, modulus), number(3, kind), number(4, 0))


def load(value: bytes, register: int) -> bytes:
    """Load a constant."""
    return expression("immediate", number(1, register), nest(2, data(value)))


def dnat(family: int, *, port: int) -> bytes:
    """Say `dnat to` the address in FIRST and the port in the register `port`."""
    return expression("nat", number(1, 1), number(2, family), number(3, FIRST), number(5, port))


def masquerade() -> bytes:
    """Say `masquerade fully-random`."""
    return expression("masq", number(1, 1 << 4))


def reject(code: int) -> bytes:
    """Say `reject with icmp …` (in an `ip6` table icmpv6), a code of type unreachable; ICMPX would drop silently."""
    return expression("reject", number(1, 0), attribute(2, bytes([code])))


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


def any_address_key(address: str) -> bytes:
    """Pack an address of either family as a key."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def port_key(value: int) -> bytes:
    """Pack a port as part of a concatenation."""
    return _PORT_KEY.pack(value)


_PORT_KEY = struct.Struct(">H2x")


def transport_key(transport: Transport) -> bytes:
    """Pack a protocol as part of a concatenation."""
    return _TRANSPORT_KEYS[transport]


_TRANSPORT_KEYS = {transport: bytes([transport.value, 0, 0, 0]) for transport in Transport}
