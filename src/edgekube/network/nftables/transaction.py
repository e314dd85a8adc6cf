"""
One atomic nftables transaction: collect changes of one table, send them as one netlink batch.

In the spirit of sigs.k8s.io/knftables: nothing happens before `commit`, and then all or nothing.
"""

import errno
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import Literal, NamedTuple

from edgekube.network.netlink import (
    ACK,
    APPEND,
    CREATE,
    REQUEST,
    Netlink,
    NetlinkError,
    attribute,
    failure,
    nest,
    text,
)
from edgekube.network.nftables.expressions import data, number, remembered

_NEWTABLE, _DELTABLE, _NEWCHAIN, _DELCHAIN, _NEWRULE, _DELRULE = 0, 2, 3, 5, 6, 8
_NEWSET, _DELSET, _NEWELEMENT, _DELELEMENT = 9, 11, 12, 14
_BEGIN, _END = 0x10, 0x11
_GET_RULE = 10 << 8 | 7
_SUBSYSTEM = 10
IPV4, IPV6 = 2, 10
_HEADER = struct.Struct("=IHHIIBBH")
_ANONYMOUS, _CONSTANT, _INTERVAL, _MAP, _EVAL = 1, 2, 4, 8, 0x20
_INTERVAL_END = 1
_VERDICT_TYPE = 0xFFFFFF00
_CHUNK = 500
"""Elements a message: a netlink attribute ends at 64 KiB."""
BUFFER = 64 << 20
"""Socket buffer for a batch, bytes (a limit, not an allocation)."""
ANONYMOUS, ANONYMOUS_SET = "__map%d", "__set%d"


class Hook(NamedTuple):
    """Where a base chain hangs: `type` is nat or filter."""

    type: str
    number: int
    priority: int


PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)


class Field(NamedTuple):
    """A datatype of nft(8): its number and how many bytes it takes in a concatenation."""

    number: int
    size: int = 4


ADDRESS, PROTOCOL, PORT, MARK = Field(7), Field(12), Field(13), Field(19)
ADDRESS6 = Field(8, 16)


@dataclass(frozen=True, slots=True)
class Step:
    """A message and what to call it in an error."""

    what: str
    type: int
    flags: int
    body: bytes


class Transaction:
    """Changes of one table, of family `ip` or, so asked, `ip6`."""

    def __init__(self, table: str, *, family: int = IPV4) -> None:
        self.steps: list[Step] = []
        self._family = family
        self._table_name = table
        self._table = text(1, table)
        self._set_id = 0

    def add_table(self, comment: str = "") -> None:
        """Add the table; no error when it is there."""
        self._add(f"table {self._table_name}", _NEWTABLE, CREATE, self._table + _comment(6, comment))

    def delete_table(self) -> None:
        """Delete the table and all in it."""
        self._add(f"delete table {self._table_name}", _DELTABLE, 0, self._table)

    def start_afresh(self, comment: str = "") -> None:
        """Have the table empty, whether or not it was there."""
        self.add_table()
        self.delete_table()
        self.add_table(comment)

    def add_chain(self, name: str, *, hook: Hook | None = None, comment: str = "") -> None:
        """Add a chain; base chains accept by default."""
        values = [self._table, text(3, name)]
        if hook is not None:
            place = nest(4, number(1, hook.number), attribute(2, struct.pack(">i", hook.priority)))
            values += [place, number(5, 1), text(7, hook.type)]
        self._add(f"chain {name}", _NEWCHAIN, CREATE, *values, _comment(12, comment))

    def flush_chain(self, name: str) -> None:
        """Delete the chain's rules."""
        self._add(f"flush chain {name}", _DELRULE, 0, self._table, text(2, name))

    def delete_chain(self, name: str) -> None:
        """Delete an empty chain nothing leads to."""
        self._add(f"delete chain {name}", _DELCHAIN, 0, self._table, text(3, name))

    def add_rule(self, chain: str, *expressions: bytes, comment: str = "") -> None:
        """Append a rule."""
        body = (self._table, text(2, chain), nest(4, *expressions), _comment(7, comment))
        self._add(f"rule in {chain}", _NEWRULE, CREATE | APPEND, *body)

    def add_set(self, name: str, key: Sequence[Field], *, timeout: int = 0, size: int = 0) -> None:
        """Add a set; with `timeout` (seconds) one that rules may update."""
        values = [number(3, _EVAL | _TIMEOUT if timeout else 0), *_key(key)]
        if timeout:
            values.append(attribute(11, struct.pack(">Q", timeout * 1000)))
        if size:
            values.append(nest(9, number(1, size)))
        self._add_set(name, values)

    def add_verdict_map(self, name: str, key: Sequence[Field]) -> None:
        """Add a map from `key` to a verdict."""
        self._add_set(name, [number(3, _MAP), *_key(key), number(6, _VERDICT_TYPE), number(7, 4)])

    def anonymous_map(self, slots: Sequence[bytes], value: Sequence[Field] | None) -> int:
        """Add the map `{ 0 : …, 1 : … }` (`value` None: to verdicts) and return its id for `lookup`."""
        values = _map_header(tuple(value) if value is not None else None, len(slots))
        set_id = self._add_set(ANONYMOUS, values)
        wrap = data if value is not None else bytes
        elements = [_element(struct.pack("=I", slot), wrap(item)) for slot, item in enumerate(slots)]
        self._elements(_NEWELEMENT, CREATE, ANONYMOUS, elements, number(4, set_id))
        return set_id

    def anonymous_ranges(self, cidrs: Iterable[str]) -> int:
        """Add the set `{ 10.0.0.0/8, … }`, CIDRs of the table's family, and return its id for `lookup`."""
        key = ADDRESS6 if self._family == IPV6 else ADDRESS
        values = [number(3, _ANONYMOUS | _CONSTANT | _INTERVAL), *_key([key])]
        set_id = self._add_set(ANONYMOUS_SET, values)
        networks: list[IPv4Network] | list[IPv6Network]
        if self._family == IPV6:
            networks = list(collapse_addresses(map(IPv6Network, cidrs)))
        else:
            networks = list(collapse_addresses(map(IPv4Network, cidrs)))
        edges: list[bytes] = []
        for network in networks:
            edges.append(_element(network.network_address.packed))
            after = int(network.broadcast_address) + 1
            if after < 1 << network.max_prefixlen:
                edges.append(_element(after.to_bytes(key.size, "big"), flags=_INTERVAL_END))
        self._elements(_NEWELEMENT, CREATE, ANONYMOUS_SET, edges, number(4, set_id))
        return set_id

    def delete_set(self, name: str) -> None:
        """Delete a set or map no rule uses."""
        self._add(f"delete set {name}", _DELSET, 0, self._table, text(2, name))

    def add_elements(self, name: str, keys: Iterable[bytes]) -> None:
        """Add elements to a set."""
        self._elements(_NEWELEMENT, CREATE, name, [_element(key) for key in keys])

    def add_verdicts(self, name: str, verdicts: Iterable[tuple[bytes, bytes]]) -> None:
        """Add elements to a verdict map."""
        self._elements(_NEWELEMENT, CREATE, name, [_element(key, value) for key, value in verdicts])

    def delete_elements(self, name: str, keys: Iterable[bytes]) -> None:
        """Delete elements of a set or map."""
        self._elements(_DELELEMENT, 0, name, [_element(key) for key in keys])

    def encode(self, first: int = 0) -> bytes:
        """Return the batch: begin is numbered `first`, the steps follow, the last of them asks for an answer."""
        parts = [_edge(_BEGIN, first)]
        last = first + len(self.steps)
        for sequence, step in enumerate(self.steps, first + 1):
            flags = step.flags | REQUEST | (ACK if sequence == last else 0)
            kind = _SUBSYSTEM << 8 | step.type
            parts.append(
                _HEADER.pack(20 + len(step.body), kind, flags, sequence, 0, self._family, 0, 0) + step.body
            )
        parts.append(_edge(_END, first))
        return b"".join(parts)

    def commit(self, netlink: Netlink) -> int:
        """
        Do it, blocking, and return the bytes sent.

        NetlinkError names every message the kernel refused; then nothing was changed. Give it a
        socket that stays open: closing one waits until the kernel has cleared the last batch away.
        """
        if not self.steps:
            return 0
        first = netlink.reserve(len(self.steps) + 1)
        batch = self.encode(first)
        netlink.send(batch)
        refused = _outcome(netlink, first, first + len(self.steps))
        if refused:
            raise self._error(refused)
        return len(batch)

    def _error(self, refused: Sequence[tuple[int, int, str]]) -> NetlinkError:
        named = [
            self.steps[number - 1].what if number else "batch" for number, _errno, _detail in refused[:4]
        ]
        more = f" and {len(refused) - 4} more" if len(refused) > 4 else ""
        _number, errno, detail = refused[0]
        return NetlinkError(f"nftables {self._table_name}: {', '.join(named)}{more}", errno, detail)

    def _add_set(self, name: str, values: Iterable[bytes]) -> int:
        self._set_id += 1
        self._add(
            f"set {name}", _NEWSET, CREATE, self._table, text(2, name), *values, number(10, self._set_id)
        )
        return self._set_id

    def _elements(self, kind: int, flags: int, name: str, elements: Sequence[bytes], *extra: bytes) -> None:
        for start in range(0, len(elements), _CHUNK):
            part = nest(3, *elements[start : start + _CHUNK])
            self._add(f"elements of {name}", kind, flags, self._table, text(2, name), *extra, part)

    def _add(self, what: str, kind: int, flags: int, *values: bytes) -> None:
        self.steps.append(Step(what, kind, flags, b"".join(values)))


_TIMEOUT = 0x10


def _outcome(netlink: Netlink, first: int, last: int) -> list[tuple[int, int, str]]:
    """
    Read until the last step is answered, or (by the first number) the batch as a whole.

    Returns what was refused: the step's number from 1 (0: the batch), errno, the kernel's words.
    """
    refused: list[tuple[int, int, str]] = []
    while True:
        for answer in netlink.receive():
            failed = failure(answer)
            if failed is None or not first <= answer.sequence <= last:
                continue
            if failed[0]:
                refused.append((answer.sequence - first, *failed))
            if answer.sequence in {first, last}:
                return refused


def _edge(kind: int, sequence: int) -> bytes:
    # The resource id (the subsystem) is big-endian.
    subsystem = int.from_bytes(_SUBSYSTEM.to_bytes(2, "big"), _ENDIAN)
    return _HEADER.pack(20, kind, REQUEST, sequence, 0, 0, 0, subsystem)


_ENDIAN: Literal["little", "big"] = "little" if struct.pack("=H", 1) == b"\1\0" else "big"


@remembered
def _map_header(value: tuple[Field, ...] | None, count: int) -> tuple[bytes, ...]:
    """Pack what the kernel is told of a map of numbers to `value` (None: verdicts)."""
    kind = _key(value, 6) if value is not None else (number(6, _VERDICT_TYPE), number(7, 4))
    return (
        number(3, _ANONYMOUS | _CONSTANT | _MAP),
        *_key([MARK]),
        *kind,
        nest(9, number(1, count)),
        # Tells nft(8) that the key is a number in host order.
        attribute(13, struct.pack("=BBI", 0, 4, 1)),
    )


def _key(fields: Sequence[Field], first: int = 4) -> tuple[bytes, bytes]:
    """Pack a key's (first=4) or value's (first=6) type and length: six bits a field, as nft(8) reads it."""
    kind = 0
    for field in fields:
        kind = kind << 6 | field.number
    return number(first, kind), number(first + 1, sum(field.size for field in fields))


def _element(key: bytes, value: bytes | None = None, *, flags: int = 0) -> bytes:
    values = [nest(1, data(key))]
    if value is not None:
        values.append(nest(2, value))
    if flags:
        values.append(number(3, flags))
    return nest(1, *values)


def _comment(kind: int, comment: str) -> bytes:
    """Pack a comment as nft(8) does: type 0, length, string with its zero byte; at most 128 bytes."""
    if not comment:
        return b""
    said = comment.encode()[:127].decode(errors="ignore").encode() + b"\0"
    return attribute(kind, bytes([0, len(said)]) + said)


def count_rules(netlink: Netlink, table: str, *, family: int = IPV4) -> int:
    """Return how many rules a table holds, 0 when there is no such table."""
    try:
        return sum(1 for _rule in netlink.dump("rules", _GET_RULE, bytes([family, 0, 0, 0]) + text(1, table)))
    except NetlinkError as error:
        if error.number == errno.ENOENT:
            return 0
        raise
