"""
Which of other programs' rules stand in the way of pods: pure, from their chains and a few packets as examples.

Only what is certain is told: a rule that asks something unknown here may let packets pass.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address

from edgekube.network.foreign import Chain, Field, Hook, Match, Rule, Verdict

_NEW = (8).to_bytes(4, "little")
"""A connection's first packet, in the kernel's bits of connection states."""
_DEPTH = 16
"""Jumps the kernel allows."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A packet nobody should stop: what it is in words, where it passes, and what it looks like."""

    about: str
    hook: Hook
    family: str
    """As nft(8) says it: ip or ip6."""
    fields: Mapping[Field, bytes]


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A base chain that stops packets."""

    family: str
    table: str
    chain: str
    stops: tuple[str, ...]
    """What, in words."""

    def __str__(self) -> str:
        where = f"chain {self.chain} of table {self.family} {self.table}"
        return f"another program's {where} drops {', '.join(self.stops)}: let interfaces ek* pass there"


def probes(pod: str, dns: str, *, lan: str = "eth0") -> list[Probe]:
    """Return the packets of a pod at `pod` that asks `dns` and others by the interface `lan`; one family's."""
    family = "ip6" if ":" in pod else "ip"
    near, far = _packed(pod), _packed(_neighbour(pod))

    def packet(
        source: bytes, target: bytes, way: tuple[str, str], *, protocol: int, port: int
    ) -> dict[Field, bytes]:
        return {
            Field.SOURCE: source, Field.DESTINATION: target, Field.IN: _name(way[0]), Field.OUT: _name(way[1]),
            Field.PROTOCOL: bytes([protocol]), Field.PORT: port.to_bytes(2, "big"),
            Field.FAMILY: bytes([10 if family == "ip6" else 2]), Field.STATE: _NEW, Field.STATUS: bytes(4),
        }  # fmt: skip

    made = [
        Probe("what pods send", Hook.FORWARD, family, packet(near, far, (_POD, lan), protocol=6, port=_PORT)),
        Probe("what pods are sent", Hook.FORWARD, family, packet(far, near, (lan, _POD), protocol=6, port=_PORT)),
        Probe("what pods of this node send each other", Hook.FORWARD, family, packet(near, far, (_POD, _OTHER), protocol=6, port=_PORT)),
    ]  # fmt: skip
    if dns:
        asked = packet(near, _packed(dns), (_POD, ""), protocol=17, port=53)
        made.append(Probe("what pods ask the node's DNS", Hook.INPUT, family, asked))
    return made


_POD, _OTHER = "ek0af40002", "ek0af40003"
_PORT = 34567
"""One that nobody has rules for."""


def obstacles(chains: Sequence[Chain], packets: Iterable[Probe]) -> list[Obstacle]:
    """Return the base chains that certainly stop some of the packets."""
    packets = tuple(packets)
    found = []
    for chain in chains:
        if chain.hook is Hook.NONE:
            continue
        near = {
            each.name: each for each in chains if (each.family, each.table) == (chain.family, chain.table)
        }
        stops = [
            probe.about
            for probe in packets
            if probe.hook is chain.hook
            and chain.family in {"inet", probe.family}
            and _stops(near, chain, probe)
        ]
        if stops:
            found.append(Obstacle(chain.family, chain.table, chain.name, tuple(dict.fromkeys(stops))))
    return found


class _Fate(Enum):
    """What becomes of a packet in a chain: `PASSES` if it may be accepted, for all that is known."""

    PASSES = 1
    DROPPED = 2
    THROUGH = 3


def _stops(chains: Mapping[str, Chain], base: Chain, probe: Probe) -> bool:
    fate = _walk(chains, base, probe, _DEPTH)
    return fate is _Fate.DROPPED or (fate is _Fate.THROUGH and base.drops)


def _walk(chains: Mapping[str, Chain], chain: Chain, probe: Probe, depth: int) -> _Fate:
    for rule in chain.rules:
        holds = _holds(rule, probe.fields)
        if holds is False or rule.verdict is Verdict.NONE:
            continue
        fate = _outcome(chains, rule, probe, depth)
        if holds:
            if fate is not _Fate.THROUGH or rule.verdict is not Verdict.JUMP:
                return fate
        elif fate is _Fate.PASSES or (fate is _Fate.THROUGH and rule.verdict is not Verdict.JUMP):
            return _Fate.PASSES
    return _Fate.THROUGH


def _outcome(chains: Mapping[str, Chain], rule: Rule, probe: Probe, depth: int) -> _Fate:
    if rule.verdict in {Verdict.JUMP, Verdict.GOTO}:
        target = chains.get(rule.target)
        return _walk(chains, target, probe, depth - 1) if target is not None and depth else _Fate.PASSES
    return _FATES[rule.verdict]


_FATES = {
    Verdict.ACCEPT: _Fate.PASSES, Verdict.DROP: _Fate.DROPPED, Verdict.RETURN: _Fate.THROUGH,
}  # fmt: skip


def _holds(rule: Rule, fields: Mapping[Field, bytes]) -> bool | None:
    """Tell whether a packet meets all matches; None if that is not known."""
    answers = [_meets(test, fields) for test in rule.matches]
    if False in answers:
        return False
    return None if None in answers else True


def _meets(test: Match, fields: Mapping[Field, bytes]) -> bool | None:
    if test.field is None:
        return None
    value = fields[test.field][: len(test.value)]
    if len(value) < len(test.value):
        return None
    if test.mask:
        value = bytes(one & other for one, other in zip(value, test.mask, strict=False))
    return (value == test.value) is test.equal


def _packed(address: str) -> bytes:
    return ip_address(address).packed


def _neighbour(address: str) -> str:
    return str(ip_address(address) + 1)


def _name(interface: str) -> bytes:
    return interface.encode().ljust(16, b"\0")
