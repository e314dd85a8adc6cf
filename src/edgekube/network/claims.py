"""
Speaking for addresses on a LAN, decided without I/O (IPv4 address conflict detection, RFC 5227; for IPv6 alike).

An address that is taken over is announced at once, for its last owner is dead or told to stop.
After a start it is asked for first: what the disk says may be old. Who hears that another has an
address gives way, and asks again a minute later whether anybody is there. Owners ask as well now
and then, and when their cable is back: of two that took an address while they could not hear each
other one finds out.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

ANNOUNCEMENTS = 5
INTERVAL = 1.0
"""Seconds between announcements."""
PATIENCE = 2.0
"""Seconds to wait for an answer to a question."""
AGAIN = 60.0
"""Seconds until an address is asked for again, one given up as well as one held."""


class Say(Enum):
    """What is sent to all: a claim, or the question whether somebody has the address."""

    ANNOUNCE = "announce"
    PROBE = "probe"


class Sending(NamedTuple):
    """One packet to send now."""

    say: Say
    address: str


class _Phase(Enum):
    HELD = "held"
    ASKING = "asking"
    YIELDED = "yielded"


@dataclass(slots=True)
class _Claim:
    phase: _Phase
    at: float
    """When there is something to do next."""
    left: int = ANNOUNCEMENTS
    """Announcements still to be sent."""


class Claims:
    """The addresses this node was told to speak for, and how far it is with each. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._claims: dict[str, _Claim] = {}
        self._started = False

    @property
    def addresses(self) -> frozenset[str]:
        """All of them, whether held or not."""
        return frozenset(self._claims)

    def wish(self, addresses: Collection[str], now: float) -> None:
        """Make these the only ones."""
        for gone in self._claims.keys() - set(addresses):
            del self._claims[gone]
        first = _Phase.HELD if self._started else _Phase.ASKING
        for address in addresses:
            self._claims.setdefault(address, _Claim(first, now))
        self._started = True

    def speaks_for(self, address: str) -> bool:
        """Tell whether to answer for an address."""
        claim = self._claims.get(address)
        return claim is not None and claim.phase is _Phase.HELD

    def heard(self, address: str, now: float) -> bool:
        """Take note that another machine has the address; True if it was ours until now."""
        claim = self._claims.get(address)
        if claim is None:
            return False
        ours = claim.phase is _Phase.HELD
        self._claims[address] = _Claim(_Phase.YIELDED, now + AGAIN)
        return ours

    def ask_again(self, now: float) -> None:
        """Find out whether others have what is held here: this node could not be heard for a while."""
        for claim in self._claims.values():
            if claim.phase is _Phase.HELD:
                claim.left, claim.at = 0, now

    def due(self, now: float) -> list[Sending]:
        """Return what to send now, and count it as sent."""
        return [sending for address, claim in self._claims.items() for sending in _step(address, claim, now)]

    def next(self) -> float | None:
        """Return when `due` has something to say again; None: not before something changes."""
        return min((claim.at for claim in self._claims.values()), default=None)


def _step(address: str, claim: _Claim, now: float) -> list[Sending]:
    if claim.at > now:
        return []
    match claim.phase:
        case _Phase.HELD if claim.left:
            claim.left -= 1
            claim.at = now + INTERVAL
            return [Sending(Say.ANNOUNCE, address)]
        case _Phase.HELD:
            claim.at = now + AGAIN
            return [Sending(Say.PROBE, address)]
        case _Phase.ASKING if claim.left == ANNOUNCEMENTS:
            claim.left, claim.at = ANNOUNCEMENTS - 1, now + PATIENCE
            return [Sending(Say.PROBE, address)]
        case _Phase.ASKING:
            # Nobody answered.
            claim.phase, claim.left, claim.at = _Phase.HELD, ANNOUNCEMENTS - 1, now + INTERVAL
            return [Sending(Say.ANNOUNCE, address)]
        case _Phase.YIELDED:
            claim.phase, claim.left, claim.at = _Phase.ASKING, ANNOUNCEMENTS - 1, now + PATIENCE
            return [Sending(Say.PROBE, address)]
