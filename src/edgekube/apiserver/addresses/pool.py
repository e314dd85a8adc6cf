"""Numbers that are given once: taking one is a single step without waiting, so no two get the same."""

import random
import time
from collections.abc import Iterable, Iterator
from itertools import chain


class Ledger:
    """Which numbers are taken, and since when."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}
        """Monotonic seconds."""

    def __contains__(self, number: int) -> bool:
        return number in self._since

    def take(self, number: int) -> bool:
        """Take this one; False when it is taken."""
        if number in self._since:
            return False
        self._since[number] = time.monotonic()
        return True

    def give(self, number: int) -> None:
        """Take it back."""
        self._since.pop(number, None)

    def __iter__(self) -> Iterator[int]:
        return iter(tuple(self._since))

    def settle(self, used: Iterable[int], before: float) -> set[int]:
        """Hold exactly what is used, and what was taken since `before`; return what had leaked."""
        used = set(used)
        leaked = {n for n, since in self._since.items() if n not in used and since < before}
        for number in leaked:
            del self._since[number]
        for number in used - self._since.keys():
            self._since[number] = before
        return leaked


class Pool:
    """
    Numbers from `first` to `last`, given as `ledger` allows; what is asked for by name comes from the low `band`.

    New ones are drawn from above the band first (KEP-3070, KEP-3668), and never from those `reserved`.
    """

    def __init__(
        self, first: int, last: int, *, ledger: Ledger, band: int, reserved: Iterable[int] = ()
    ) -> None:
        self.first, self.last = first, last
        self._reserved = frozenset(reserved)
        self._ledger = ledger
        self._band = first + min(band, last - first)

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last

    def draw(self) -> int | None:
        """Take any; None when none is left."""
        for low, high in ((self._band, self.last), (self.first, self._band - 1)):
            if low > high:
                continue
            start = random.randint(low, high)  # noqa: S311 - spreading, no secret
            for number in chain(range(start, high + 1), range(low, start)):
                if number not in self._reserved and self._ledger.take(number):
                    return number
        return None


def address_band(size: int) -> int:
    """Return how many addresses are for those who name one (KEP-3070)."""
    return min(max(16, size // 16), 256)


def port_band(size: int) -> int:
    """Return how many node ports are for those who name one (KEP-3668): none of a very small range."""
    return min(max(16, size // 32), 128) if size > 16 else 0
