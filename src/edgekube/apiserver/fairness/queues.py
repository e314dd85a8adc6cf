"""
The queues of one priority level: seats, shuffle sharding, and start-time fair queueing. Pure.

A flow may wait in a few of many queues (its hand, drawn by a hash), and takes the shortest: so a flow
that fills its hand leaves every other flow a queue that is free. Whoever waited in the queue that was
served least comes next, whatever the number of requests behind it (Goyal, Vin, Chen: "Start-time Fair Queueing").
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shape:
    """How a level queues; `queues` 0: it does not, but refuses."""

    seats: int
    queues: int = 0
    hand: int = 1
    length: int = 0


@dataclass(slots=True)
class _Queue(Generic[T]):
    waiting: deque[tuple[float, T]] = field(default_factory=deque)
    finish: float = 0.0


def hand(flow: str, shape: Shape) -> tuple[int, ...]:
    """Return the distinct queues that a flow may use."""
    value = int.from_bytes(blake2b(flow.encode(), digest_size=16).digest())
    left, drawn = list(range(shape.queues)), []
    for _ in range(min(shape.hand, shape.queues)):
        value, index = divmod(value, len(left))
        drawn.append(left.pop(index))
    return tuple(drawn)


class Level(Generic[T]):
    """Counts who runs and orders who waits."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.running = 0
        self.waiting = 0
        self._queues: list[_Queue[T]] = [_Queue() for _ in range(shape.queues)]
        self._now = 0.0
        self._hands: dict[str, tuple[int, ...]] = {}

    def try_start(self) -> bool:
        """Take a seat, unless all are taken or others wait for one."""
        if self.waiting or self.running >= self.shape.seats:
            return False
        self.running += 1
        return True

    def enqueue(self, flow: str, item: T) -> bool:
        """Wait in the shortest queue of the flow's hand; False: that is full too."""
        if not self._queues:
            return False
        queue = min((self._queues[index] for index in self._hand(flow)), key=lambda each: len(each.waiting))
        if len(queue.waiting) >= self.shape.length:
            return False
        start = max(self._now, queue.finish)
        queue.finish = start + 1.0
        queue.waiting.append((start, item))
        self.waiting += 1
        return True

    def leave(self, item: T) -> None:
        """Take somebody who will not wait any longer out of the queues."""
        for queue in self._queues:
            kept = deque(each for each in queue.waiting if each[1] is not item)
            self.waiting -= len(queue.waiting) - len(kept)
            queue.waiting = kept

    def finished(self, seats: int = 1) -> Sequence[T]:
        """Give seats back; return who starts now."""
        self.running -= seats
        started: list[T] = []
        while self.waiting and self.running < self.shape.seats:
            queue = min((each for each in self._queues if each.waiting), key=lambda each: each.waiting[0][0])
            self._now, item = queue.waiting.popleft()
            self.waiting -= 1
            self.running += 1
            started.append(item)
        return started

    def _hand(self, flow: str) -> tuple[int, ...]:
        found = self._hands.get(flow)
        if found is None:
            if len(self._hands) > 1024:
                self._hands.clear()
            found = self._hands[flow] = hand(flow, self.shape)
        return found
