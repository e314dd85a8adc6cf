"""
Other programs' nftables rules (iptables-nft's too), read by netlink dumps; nothing is written.

A lookup in a small set or map becomes a rule for each of its elements: what is left are comparisons.
"""

import asyncio
import struct
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

from edgekube.network.foreign import Chain, Field, Hook, Match, Rule, Verdict
from edgekube.network.netlink import NETFILTER, Netlink, attribute_list, attributes, text
from edgekube.network.nftables.transaction import BUFFER

OURS = "edgekube"
"""How our tables' names begin."""
_SUBSYSTEM = 10 << 8
_TABLE, _CHAIN, _RULE, _SET, _ELEMENT = (_SUBSYSTEM | kind for kind in (1, 4, 7, 10, 13))
_FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}
_HOOKS = {1: Hook.INPUT, 2: Hook.FORWARD}
_VERDICTS = {
    0: Verdict.DROP, 1: Verdict.ACCEPT, -1: Verdict.NONE, -3: Verdict.JUMP, -4: Verdict.GOTO, -5: Verdict.RETURN,
}  # fmt: skip
_META = {6: Field.IN, 7: Field.OUT, 15: Field.FAMILY, 16: Field.PROTOCOL}
_CT = {0: Field.STATE, 2: Field.STATUS}
_HEADERS = {
    "ip": {9: (Field.PROTOCOL, 1), 12: (Field.SOURCE, 4), 16: (Field.DESTINATION, 4)},
    "ip6": {6: (Field.PROTOCOL, 1), 8: (Field.SOURCE, 16), 24: (Field.DESTINATION, 16)},
}
"""By family and offset, with the size; a part from the beginning is loaded for a prefix."""
_SIZES = {
    Field.IN: 16,
    Field.OUT: 16,
    Field.PROTOCOL: 1,
    Field.PORT: 2,
    Field.FAMILY: 1,
    Field.STATE: 4,
    Field.STATUS: 4,
}
_HARMLESS = frozenset({"counter", "log", "notrack", "objref", "last", "immediate"})
_REFUSING = frozenset({b"REJECT", b"DROP"})
_MARKING = frozenset({b"LOG", b"MARK", b"NFLOG", b"CONNMARK"})
_UNREADABLE = 4 | 0x10 | 0x20
"""Flags of sets whose elements are ranges, or come and go."""
_MOST = 64
"""Elements of a set that are made rules of, at most."""

Element = tuple[bytes, Mapping[int, bytes]]
"""A key, and the verdict it is mapped to."""


class NftablesForeignRules:
    """Those of the network namespace the process runs in."""

    async def chains(self) -> Sequence[Chain]:
        """Return all chains of others' tables of the families ip, ip6 and inet."""
        return await asyncio.to_thread(read)

    def close(self) -> None:
        """Nothing is kept open."""


def read() -> list[Chain]:
    """Read them (blocking). Without foreign tables this is one small question."""
    with Netlink(NETFILTER, buffer=BUFFER) as netlink:
        found = [
            (body[0], _text(attributes(body, 4), 1)) for body in netlink.dump("tables", _TABLE, bytes(4))
        ]
        tables = [
            (family, name) for family, name in found if family in _FAMILIES and not name.startswith(OURS)
        ]
        rules = {(family, name): _Table(netlink, family, name).rules() for family, name in tables}
        if not rules:
            return []
        listed = [(body[0], attributes(body, 4)) for body in netlink.dump("chains", _CHAIN, bytes(4))]
    return [
        _chain(family, values, rules[family, _text(values, 1)])
        for family, values in listed
        if (family, _text(values, 1)) in rules
    ]


def _chain(family: int, values: Mapping[int, bytes], rules: Mapping[str, list[Rule]]) -> Chain:
    name, place = _text(values, 3), attributes(values.get(4, b""))
    filters = place and _text(values, 7) == "filter"
    return Chain(
        family=_FAMILIES[family], table=_text(values, 1), name=name,
        hook=_HOOKS.get(_number(place, 1), Hook.NONE) if filters else Hook.NONE,
        drops=_number(values, 5) == 0, rules=tuple(rules.get(name, ())),
    )  # fmt: skip


class _Loaded(NamedTuple):
    """What a register holds."""

    field: Field | None
    size: int = 0
    mask: bytes = b""


class _Table:
    """Somebody else's table."""

    def __init__(self, netlink: Netlink, family: int, name: str) -> None:
        self._netlink, self._family = netlink, _FAMILIES[family]
        self._body = bytes([family, 0, 0, 0]) + text(1, name)
        self._sets: dict[str, Mapping[int, bytes]] = {}

    def rules(self) -> dict[str, list[Rule]]:
        """Return its rules by chain."""
        for body in self._netlink.dump("sets", _SET, self._body):
            values = attributes(body, 4)
            self._sets[_text(values, 2)] = values
        rules: dict[str, list[Rule]] = defaultdict(list)
        for body in list(self._netlink.dump("rules", _RULE, self._body)):
            values = attributes(body, 4)
            rules[_text(values, 2)] += self._rule(values.get(4, b""))
        return rules

    def _rule(self, expressions: bytes) -> list[Rule]:
        registers: dict[int, _Loaded] = {}
        tests: list[list[Match]] = []
        """Alternatives of each condition."""
        for _kind, item in attribute_list(expressions):
            values = attributes(item)
            name, data = _text(values, 1), attributes(values.get(2, b""))
            if name == "immediate" and _word(data, 1) < 0:
                verdict, target = _verdict(attributes(data.get(2, b"")))
                return [Rule(each, verdict, target) for each in product(*tests)]
            if name == "reject" or (name == "target" and _raw(data, 1) in _REFUSING):
                return [Rule(each, Verdict.DROP) for each in product(*tests)]
            if name == "lookup" and 3 in data and _word(data, 3) < 0:
                return self._mapped(tests, registers, data)
            self._condition(name, data, registers, tests)
        return []

    def _condition(
        self, name: str, data: Mapping[int, bytes], registers: dict[int, _Loaded], tests: list[list[Match]]
    ) -> None:
        if name in {"meta", "ct"}:
            if 1 in data:
                field = (_META if name == "meta" else _CT).get(_number(data, 2))
                registers[_word(data, 1)] = _Loaded(field, _SIZES[field] if field else 0)
        elif name == "payload" and 1 in data:
            registers[_word(data, 1)] = self._header(*(_number(data, kind) for kind in (2, 3, 4)))
        elif name == "bitwise":
            loaded, mask = (
                registers.get(_word(data, 1), _Loaded(None)),
                attributes(data.get(4, b"")).get(1, b""),
            )
            plain = mask and not any(attributes(data.get(5, b"")).get(1, b""))
            registers[_word(data, 2)] = _Loaded(loaded.field if plain else None, loaded.size, mask)
        elif name == "cmp":
            loaded, relation = registers.get(_word(data, 1), _Loaded(None)), _number(data, 2)
            value = attributes(data.get(3, b"")).get(1, b"")
            known = loaded.field if relation in {0, 1} else None
            tests.append([Match(known, value, loaded.mask, relation == 0)])
        elif name == "lookup":
            tests += self._listed(registers, data)
        elif name == "match":
            tests += _match(data)
        elif name not in _HARMLESS and not (name == "target" and _raw(data, 1) in _MARKING):
            tests.append([Match()])

    def _header(self, base: int, offset: int, length: int) -> _Loaded:
        if (base, offset, length) == (2, 2, 2):
            return _Loaded(Field.PORT, 2)
        for family in (self._family,) if self._family != "inet" else ("ip", "ip6"):
            field, size = _HEADERS[family].get(offset, (None, 0))
            # Of an inet table's two families the size tells which is meant, as addresses are told whole mostly.
            if (
                base == 1
                and field is not None
                and length <= size
                and (length == size or family == self._family)
            ):
                return _Loaded(field, size)
        return _Loaded(None)

    def _listed(self, registers: Mapping[int, _Loaded], data: Mapping[int, bytes]) -> list[list[Match]]:
        """Return what it takes to be in a set, or in none of its elements."""
        loaded = registers.get(_word(data, 2), _Loaded(None))
        elements = self._elements(_text(data, 1), loaded) if 3 not in data else None
        if elements is None:
            return [[Match()]]
        inverted = bool(_number(data, 5) & 1) if 5 in data else False
        made = [Match(loaded.field, key, loaded.mask, not inverted) for key, _verdict in elements]
        return [[test] for test in made] if inverted else [made]

    def _mapped(
        self, tests: Sequence[Sequence[Match]], registers: Mapping[int, _Loaded], data: Mapping[int, bytes]
    ) -> list[Rule]:
        """Return a rule for each element of a verdict map."""
        loaded = registers.get(_word(data, 2), _Loaded(None))
        elements = self._elements(_text(data, 1), loaded)
        if elements is None:
            # Where that leads nobody knows: perhaps to be accepted.
            return [Rule((*each, Match()), Verdict.ACCEPT) for each in product(*tests)]
        return [
            Rule((*each, Match(loaded.field, key, loaded.mask)), *_verdict(value))
            for key, value in elements
            for each in product(*tests)
        ]

    def _elements(self, name: str, loaded: _Loaded) -> list[Element] | None:
        """Return the elements of a set of single values; None if they cannot be told one by one."""
        about = self._sets.get(name)
        if about is None or loaded.field is None or _number(about, 5) != loaded.size:
            return None
        if (3 in about and _number(about, 3) & _UNREADABLE) or loaded.mask:
            return None
        body = self._body + text(2, name)
        found: list[Element] = []
        for answer in self._netlink.dump(f"elements of {name}", _ELEMENT, body):
            for _kind, item in attribute_list(attributes(answer, 4).get(3, b"")):
                values = attributes(item)
                key = attributes(values.get(1, b"")).get(1, b"")
                found.append((key, attributes(values.get(2, b""))))
        return found if len(found) <= _MOST else None


def _verdict(data: Mapping[int, bytes]) -> tuple[Verdict, str]:
    values = attributes(data.get(2, b""))
    (code,) = struct.unpack(">i", values.get(1, b"\0\0\0\1"))
    # What another program decides in userspace is not known to be dropped.
    return _VERDICTS.get(code, Verdict.ACCEPT), _text(values, 2)


def _match(data: Mapping[int, bytes]) -> list[list[Match]]:
    """Return what an iptables extension asks: of conntrack's the state alone (xt_conntrack.h, revision 3)."""
    name, info = _raw(data, 1), data.get(3, b"")
    if name == b"comment":
        return []
    if name == b"conntrack" and len(info) >= _CT_END:
        flags, inverted, states = struct.unpack_from("=HHH", info, _CT_FLAGS)
        if flags == _CT_STATE_ONLY:
            return [[Match(Field.STATE, bytes(4), struct.pack("=I", states), equal=bool(inverted & 1))]]
    return [[Match()]]


_CT_FLAGS, _CT_END, _CT_STATE_ONLY = 146, 152, 1


def _word(data: Mapping[int, bytes], kind: int) -> int:
    """Return a register as the number of its first 4-byte word; negative: the verdict's."""
    number = _number(data, kind)
    return number - 8 if number >= 8 else 4 * (number - 1)


def _number(data: Mapping[int, bytes], kind: int) -> int:
    """Return a number, -1 if it is not there."""
    return int.from_bytes(data[kind], "big") if kind in data else -1


def _raw(data: Mapping[int, bytes], kind: int) -> bytes:
    return data.get(kind, b"").rstrip(b"\0")


def _text(values: Mapping[int, bytes], kind: int) -> str:
    return _raw(values, kind).decode(errors="replace")
