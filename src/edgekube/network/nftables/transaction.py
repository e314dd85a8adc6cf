"""
One atomic nftables transaction: collect changes of tables, send them as one netlink batch.

In the spirit of sigs.k8s.io/knftables: nothing happens before `commit`, and then all or nothing.

Thousands of messages are packed at a time, so what many of them have in common is packed once.
"""

import errno
import struct
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from itertools import count
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
ANONYMOUS_SET = "__set%d"


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


class Step(NamedTuple):
    """A message; `action` and `name` say in an error what it is about."""

    action: str
    name: str
    type: int
    flags: int
    body: bytes

    @property
    def is_rule(self) -> bool:
        """Tell whether it adds a rule."""
        return self.type == _NEWRULE

    @property
    def what(self) -> str:
        """What to call it in an error."""
        return f"{self.action} {self.name}"


class Transaction:
    """
    Changes of one table, of family `ip` or, so asked, `ip6`.

    `numbered` counts the anonymous maps a table has ever had: give the same for every change of it.
    """

    def __init__(self, table: str, *, family: int = IPV4, numbered: Iterator[int] | None = None) -> None:
        self.steps: list[Step] = []
        self.family = family
        self.table = table
        self._table = text(1, table)
        # Ids are the batch's own, whichever table the sets are in.
        self._set_id = family << 24
        self._numbered = numbered if numbered is not None else count(1)

    def add_table(self, comment: str = "") -> None:
        """Add the table; no error when it is there."""
        self._add("table", self.table, _NEWTABLE, CREATE, self._table + _comment(6, comment))

    def delete_table(self) -> None:
        """Delete the table and all in it."""
        self._add("delete table", self.table, _DELTABLE, 0, self._table)

    def start_afresh(self, comment: str = "") -> None:
        """Have the table empty, whether or not it was there."""
        self.add_table()
        self.delete_table()
        self.add_table(comment)

    def add_chain(self, name: str, *, hook: Hook | None = None, comment: str = "") -> None:
        """Add a chain; base chains accept by default."""
        body = self._table + text(3, name)
        if hook is not None:
            place = nest(4, number(1, hook.number), attribute(2, struct.pack(">i", hook.priority)))
            body += place + number(5, 1) + text(7, hook.type)
        if comment:
            body += _comment(12, comment)
        self.steps.append(Step("chain", name, _NEWCHAIN, CREATE, body))

    def flush_chain(self, name: str) -> None:
        """Delete the chain's rules."""
        self._add("flush chain", name, _DELRULE, 0, self._table, text(2, name))

    def delete_chain(self, name: str) -> None:
        """Delete an empty chain nothing leads to."""
        self._add("delete chain", name, _DELCHAIN, 0, self._table, text(3, name))

    def add_rule(self, chain: str, *expressions: bytes, comment: str = "") -> None:
        """Append a rule."""
        body = self._table + text(2, chain) + nest(4, *expressions)
        if comment:
            body += _comment(7, comment)
        self.steps.append(Step("rule in", chain, _NEWRULE, CREATE | APPEND, body))

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

    def anonymous_map(self, values: Sequence[bytes], kind: tuple[Field, ...] | None) -> str:
        """
        Add the map `{ 0 : …, 1 : … }` (`kind` None: to verdicts) and return its name for `lookup`.

        It is named here, for the kernel looks through all names of a table to find a free one.
        """
        name = f"__map{next(self._numbered)}"
        self._set_id += 1
        about = _map_header(kind, len(values)) + _number_once(10, self._set_id)
        self.steps.append(Step("set", name, _NEWSET, CREATE, self._table + text(2, name) + about))
        if kind is not None:
            size = len(values[0])
            elements = [_slot(slot, size) + value for slot, value in enumerate(values)]
        else:
            elements = [_element(_slot_key(slot), value) for slot, value in enumerate(values)]
        self._elements(_NEWELEMENT, CREATE, name, elements)
        return name

    def anonymous_ranges(self, cidrs: Iterable[str]) -> int:
        """Add the set `{ 10.0.0.0/8, … }`, CIDRs of the table's family, and return its id for `lookup`."""
        key = ADDRESS6 if self.family == IPV6 else ADDRESS
        values = [number(3, _ANONYMOUS | _CONSTANT | _INTERVAL), *_key([key])]
        set_id = self._add_set(ANONYMOUS_SET, values)
        networks: list[IPv4Network] | list[IPv6Network]
        if self.family == IPV6:
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
        self._add("delete set", name, _DELSET, 0, self._table, text(2, name))

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
        return encode([self], first)

    def commit(self, netlink: Netlink) -> int:
        """Do it; see the function."""
        return commit(netlink, [self])

    def _add_set(self, name: str, values: Iterable[bytes]) -> int:
        self._set_id += 1
        self._add(
            "set", name, _NEWSET, CREATE, self._table, text(2, name), *values, _number_once(10, self._set_id)
        )
        return self._set_id

    def _elements(self, kind: int, flags: int, name: str, elements: Sequence[bytes], *extra: bytes) -> None:
        for start in range(0, len(elements), _CHUNK):
            part = nest(3, *elements[start : start + _CHUNK])
            self._add("elements of", name, kind, flags, self._table, text(2, name), *extra, part)

    def _add(self, action: str, name: str, kind: int, flags: int, *values: bytes) -> None:
        self.steps.append(Step(action, name, kind, flags, b"".join(values)))


def encode(changes: Sequence[Transaction], first: int = 0) -> bytes:
    """Return one batch of all changes; see Transaction.encode."""
    parts = [_edge(_BEGIN, first)]
    pack, subsystem, sequence = _HEADER.pack, _SUBSYSTEM << 8, first
    last = first + sum(len(change.steps) for change in changes)
    for change in changes:
        family = change.family
        for _action, _name, kind, flags, body in change.steps:
            sequence += 1
            asking = flags | (REQUEST if sequence < last else REQUEST | ACK)
            parts.append(pack(20 + len(body), subsystem | kind, asking, sequence, 0, family, 0, 0))
            parts.append(body)
    parts.append(_edge(_END, first))
    return b"".join(parts)


def commit(netlink: Netlink, changes: Sequence[Transaction]) -> int:
    """
    Do all changes at once or none, blocking, and return the bytes sent.

    NetlinkError names every message the kernel refused; then nothing was changed. Give it a
    socket that stays open: closing one waits until the kernel has cleared the last batch away.
    """
    steps = [step for change in changes for step in change.steps]
    if not steps:
        return 0
    first = netlink.reserve(len(steps) + 1)
    batch = encode(changes, first)
    netlink.send(batch)
    refused = _outcome(netlink, first, first + len(steps))
    if refused:
        raise _error(changes[0], steps, refused)
    return len(batch)


def _error(
    change: Transaction, steps: Sequence[Step], refused: Sequence[tuple[int, int, str]]
) -> NetlinkError:
    named = [steps[number - 1].what if number else "batch" for number, _errno, _detail in refused[:4]]
    more = f" and {len(refused) - 4} more" if len(refused) > 4 else ""
    _number, errno, detail = refused[0]
    return NetlinkError(f"nftables {change.table}: {', '.join(named)}{more}", errno, detail)


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


def _number_once(kind: int, value: int) -> bytes:
    """Pack a number that comes once: it need not be remembered."""
    return _NUMBER.pack(8, kind, value.to_bytes(4, "big"))


_NUMBER = struct.Struct("=HH4s")


@remembered
def _map_header(value: tuple[Field, ...] | None, size: int) -> bytes:
    """Pack what the kernel is told of a map of `size` numbers to `value` (None: verdicts)."""
    kind = _key(value, 6) if value is not None else (number(6, _VERDICT_TYPE), number(7, 4))
    parts = (
        number(3, _ANONYMOUS | _CONSTANT | _MAP),
        *_key([MARK]),
        *kind,
        nest(9, number(1, size)),
        # Tells nft(8) that the key is a number in host order.
        attribute(13, struct.pack("=BBI", 0, 4, 1)),
    )
    return b"".join(parts)


@remembered
def _slot(slot: int, size: int) -> bytes:
    """Pack all of an element of a map of numbers but its value, which takes `size` bytes (a multiple of 4)."""
    return _element(_slot_key(slot), data(bytes(size)))[:-size]


def _slot_key(slot: int) -> bytes:
    return struct.pack("=I", slot)


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


_LONGEST_COMMENT = 128


def _comment(kind: int, comment: str) -> bytes:
    """Pack a comment as nft(8) does: type 0, length, string with its zero byte; at most 128 bytes."""
    if not comment:
        return b""
    said = comment.encode() + b"\0"
    if len(said) > _LONGEST_COMMENT:
        said = said[: _LONGEST_COMMENT - 1].decode(errors="ignore").encode() + b"\0"
    return attribute(kind, bytes([0, len(said)]) + said)


def count_rules(netlink: Netlink, table: str, *, family: int = IPV4) -> int:
    """Return how many rules a table holds, 0 when there is no such table."""
    try:
        return sum(1 for _rule in netlink.dump("rules", _GET_RULE, bytes([family, 0, 0, 0]) + text(1, table)))
    except NetlinkError as error:
        if error.number == errno.ENOENT:
            return 0
        raise
