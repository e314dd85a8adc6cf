"""
Other programs' packet filters, as far as they can be told: rules that may stand in the way of pods' packets.

Only read, never touched. A Match nobody here understands has no field, so that nothing is said of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol


class Field(Enum):
    """What of a packet a Match looks at; values are bytes as the kernel compares them."""

    IN = "iifname"
    OUT = "oifname"
    SOURCE = "saddr"
    DESTINATION = "daddr"
    PROTOCOL = "l4proto"
    PORT = "dport"
    FAMILY = "nfproto"
    STATE = "ct state"
    STATUS = "ct status"


class Match(NamedTuple):
    """One condition of a rule: a field, masked, equals `value` (or not); without a field it is not understood."""

    field: Field | None = None
    value: bytes = b""
    mask: bytes = b""
    """As long as the field, or b"" for all of it."""
    equal: bool = True


class Verdict(Enum):
    """What a rule does with a packet all its matches hold for."""

    NONE = "goes on"
    ACCEPT = "accept"
    DROP = "drop"
    JUMP = "jump"
    GOTO = "goto"
    RETURN = "return"


class Rule(NamedTuple):
    """A rule; `target` is the chain of a jump or goto."""

    matches: tuple[Match, ...]
    verdict: Verdict
    target: str = ""


class Hook(Enum):
    """Where a base chain looks at packets."""

    NONE = ""
    INPUT = "input"
    FORWARD = "forward"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A chain of somebody else's table; `family` is as nft(8) says it."""

    family: str
    table: str
    name: str
    hook: Hook = Hook.NONE
    drops: bool = False
    """Whether its policy is to drop."""
    rules: tuple[Rule, ...] = ()


class ForeignRules(Protocol):
    """Reads the packet filters of others."""

    async def chains(self) -> Sequence[Chain]:
        """Return all chains of others' tables for IP packets; raises NetworkError."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class MemoryForeignRules:
    """ForeignRules that are told what there is."""

    def __init__(self, chains: Sequence[Chain] = ()) -> None:
        self.there = chains

    async def chains(self) -> Sequence[Chain]:
        """Return what is there."""
        return self.there

    def close(self) -> None:
        """Nothing to close."""
