"""
What the node has to tell and the hub has not confirmed: the newest of each thing only.

A slot is one thing worth telling (a pod's status, the node's, an event). Putting something into a
slot replaces what was there; it is sent again until the hub says DONE. What is confirmed is kept
as far as a hub that starts anew should hear it again. Pure: the caller brings the time.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from edgekube.transport.wire import Kind

FIRST, LAST = 20.0, 300.0
"""Seconds until something unconfirmed is sent again, doubled up to LAST."""
LIMIT = 4096
"""Slots; beyond them the oldest are forgotten."""


@dataclass(slots=True)
class Item:
    """One slot's content."""

    kind: Kind
    body: object
    kept: bool
    """Whether a new hub shall hear it again after it was confirmed."""
    confirmed: bool
    """Whether the hub confirms it; otherwise once sent is done."""
    seq: int = 0
    """Under which it was last sent; 0: not yet in this form."""
    due: float = 0.0
    delay: float = FIRST
    done: bool = False


@dataclass(slots=True)
class Outbox:
    """Slots in the order they were filled."""

    _items: OrderedDict[Hashable, Item] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return sum(not item.done for item in self._items.values())

    def put(
        self, slot: Hashable, kind: Kind, body: object, *, kept: bool = False, confirmed: bool = True,
        due: float = 0.0,
    ) -> None:  # fmt: skip
        """Tell `body` from `due` on, instead of what `slot` held."""
        old = self._items.get(slot)
        if old is not None and old.body == body:
            return
        self._items[slot] = Item(kind, body, kept, confirmed, due=due)
        while len(self._items) > LIMIT:
            self._items.popitem(last=False)

    def drop(self, slots: Iterable[Hashable]) -> None:
        """Forget slots."""
        for slot in slots:
            self._items.pop(slot, None)

    def due(self, now: float) -> tuple[Hashable, ...]:
        """Return the slots to send now."""
        return tuple(slot for slot, item in self._items.items() if not item.done and item.due <= now)

    def next_due(self) -> float | None:
        """Return when the next slot is due."""
        return min((item.due for item in self._items.values() if not item.done), default=None)

    def get(self, slot: Hashable) -> Item | None:
        """Return what `slot` holds."""
        return self._items.get(slot)

    def sent(self, slot: Hashable, seq: int, now: float) -> None:
        """Note that `slot` went out as number `seq`."""
        item = self._items[slot]
        item.seq, item.due = seq, now + item.delay
        item.delay = min(item.delay * 2, LAST)
        if not item.confirmed:
            self._finish(slot, item)

    def confirm(self, seqs: Iterable[int]) -> None:
        """The hub is done with these; what was replaced meanwhile stays due."""
        wanted = set(seqs) - {0}
        for slot, item in tuple(self._items.items()):
            if item.seq in wanted:
                self._finish(slot, item)

    def again(self, *, everything: bool) -> None:
        """Make what is unconfirmed due now, with `everything` also what is kept: the hub is a new one."""
        for item in self._items.values():
            if everything or not item.done:
                item.done, item.due, item.delay = False, 0.0, FIRST

    def _finish(self, slot: Hashable, item: Item) -> None:
        item.done = True
        if not item.kept:
            del self._items[slot]
