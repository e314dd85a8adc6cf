"""
Speaks for addresses no interface has, so that a LAN's packets for them come to this node.

What to say when is in `claims`; this waits and sends. A Line carries it: the node's LANs (`lanline`), or one
in memory.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from edgekube.network.claims import Claims, Sending

log = logging.getLogger(__name__)


class Line(Protocol):
    """Where announcements go, and others' come from."""

    def open(self, claims: Claims, heard: Callable[[str], None], back: Callable[[], None]) -> None:
        """
        Begin to answer for what `claims` holds.

        `heard(address)` is called when another machine has one, `back()` when the line was cut and is whole again.
        """
        ...

    def send(self, sending: Sending) -> None:
        """Send one packet to all; what cannot be sent is lost, as on any LAN."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Announcer:
    """Keeps claims on a line; run `run`."""

    def __init__(self, line: Line) -> None:
        self._line, self._claims = line, Claims()
        self._changed = asyncio.Event()

    def set_addresses(self, addresses: Collection[str]) -> None:
        """Make these the only addresses to speak for."""
        self._claims.wish(addresses, _now())
        self._changed.set()

    def _heard(self, address: str) -> None:
        if self._claims.heard(address, _now()):
            log.warning("another machine claims %s: giving way", address)
        self._changed.set()

    def _back(self) -> None:
        self._claims.ask_again(_now())
        self._changed.set()

    async def run(self) -> None:
        """Speak until cancelled."""
        self._line.open(self._claims, self._heard, self._back)
        try:
            while True:
                self._changed.clear()
                for sending in self._claims.due(_now()):
                    self._line.send(sending)
                at = self._claims.next()
                try:
                    async with asyncio.timeout(None if at is None else max(at - _now(), 0)):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            self._line.close()


def _now() -> float:
    return asyncio.get_running_loop().time()


@dataclass(slots=True)
class MemoryLan:
    """A LAN in memory; lines that are `unplugged` neither hear nor are heard."""

    lines: "list[MemoryLine]" = field(default_factory=list)

    def line(self, name: str) -> "MemoryLine":
        """Connect a machine."""
        made = MemoryLine(self, name)
        self.lines.append(made)
        return made

    def who_has(self, address: str) -> list[str]:
        """Return the machines that answer for an address."""
        return [line.name for line in self.lines if line.answers(address)]


class MemoryLine:
    """One machine's connection to a MemoryLan."""

    def __init__(self, lan: MemoryLan, name: str) -> None:
        self._lan, self.name = lan, name
        self._claims: Claims | None = None
        self._heard: Callable[[str], None] = lambda _address: None
        self._back: Callable[[], None] = lambda: None
        self.unplugged = False

    def open(self, claims: Claims, heard: Callable[[str], None], back: Callable[[], None]) -> None:
        """Connect."""
        self._claims, self._heard, self._back = claims, heard, back

    def plug(self, *, into: bool) -> None:
        """Cut the line, or make it whole again."""
        self.unplugged = not into
        if into:
            self._back()

    def answers(self, address: str) -> bool:
        """Tell whether a question for the address is answered here."""
        return not self.unplugged and self._claims is not None and self._claims.speaks_for(address)

    def send(self, sending: Sending) -> None:
        """Tell the others, or ask them."""
        if self.unplugged:
            return
        for other in self._lan.lines:
            if other is self or other.unplugged:
                continue
            if sending.say.name == "ANNOUNCE":
                other._heard(sending.address)  # noqa: SLF001 - the LAN's own lines
            elif other.answers(sending.address):
                self._heard(sending.address)

    def close(self) -> None:
        """Disconnect."""
        self._claims = None
