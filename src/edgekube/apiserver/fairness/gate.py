"""The gate every request from outside passes: it gets a seat of its priority level, waits for one, or is told to come again."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from edgekube.api.errors import TooManyRequests
from edgekube.api.kinds.flowcontrol_v1 import FLOW_SCHEMAS, PRIORITY_LEVELS
from edgekube.api.resource import AnyResource
from edgekube.apiserver.authz import Access
from edgekube.apiserver.caches import Caches
from edgekube.apiserver.fairness import defaults
from edgekube.apiserver.fairness.queues import Level
from edgekube.apiserver.fairness.schemas import Priority, Schema, priorities_of, schema_of
from edgekube.apiserver.identity import User
from edgekube.apiserver.request import Tree

SEATS = 300
"""Requests under way at most, all limited levels together."""
PATIENCE = 15.0
"""Seconds a request waits for a seat."""
REMEMBERED = 4096
HEADERS = ("X-Kubernetes-PF-FlowSchema-UID", "X-Kubernetes-PF-PriorityLevel-UID")
MANDATORY = frozenset({"exempt", "catch-all"})
"""What always holds, whatever objects there are."""

Waiter = asyncio.Future[None]
_GAUGES: Mapping[str, Callable[[Level[Waiter]], int]] = {
    "nominal_limit_seats": lambda level: level.shape.seats,
    "current_executing_requests": lambda level: level.running,
    "current_inqueue_requests": lambda level: level.waiting,
}
Flow = tuple[str, tuple[str, ...], str, str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Ticket:
    """Where a request belongs; `level` None: it is exempt."""

    schema: Schema
    priority: Priority
    level: Level[Waiter] | None
    flow: str
    headers: tuple[tuple[str, str], ...]
    """What the answer says of it."""


class Gate:
    """
    Levels and schemas as the objects say; a change empties nothing, it makes new levels beside the old.

    A seat is given back at the end of the event loop's turn, not at once: a request that never waits would
    otherwise never be seen to hold one, and whoever has most connections would be served most.
    """

    def __init__(self, caches: Caches, *, seats: int = SEATS, patience: float = PATIENCE) -> None:
        self._caches = caches
        self._seats, self._patience = seats, patience
        self._seen: tuple[int, int] | None = None
        self._schemas: list[Schema] = []
        self._priorities: dict[str, tuple[Priority, Level[Waiter] | None]] = {}
        self._known: dict[Flow, Ticket] = {}
        self._refused: Counter[tuple[str, str]] = Counter()
        self._ending: dict[int, tuple[Level[Waiter], int]] = {}

    def ticket(self, user: User, access: Access) -> Ticket:
        """Return where a request belongs."""
        seen = (self._caches.of(FLOW_SCHEMAS).revision, self._caches.of(PRIORITY_LEVELS).revision)
        if seen != self._seen:
            self._load()
            self._seen = seen
        key = (
            user.name, user.groups, access.verb, access.group, access.plural, access.subresource,
            access.namespace, access.path,
        )  # fmt: skip
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = self._known[key] = self._classify(user, access)
        return found

    async def enter(self, ticket: Ticket) -> None:
        """Take a seat, perhaps after a while; raises TooManyRequests."""
        level = ticket.level
        if level is None or level.try_start():
            return
        waiter: Waiter = asyncio.get_running_loop().create_future()
        if not level.enqueue(ticket.flow, waiter):
            self._refused[
                ticket.priority.name, "queue-full" if level.shape.queues else "concurrency-limit"
            ] += 1
            raise _refused()
        try:
            async with asyncio.timeout(self._patience):
                await waiter
        except BaseException as error:
            self._give_up(level, waiter)
            if isinstance(error, TimeoutError):
                self._refused[ticket.priority.name, "time-out"] += 1
                raise _refused() from error
            raise

    def leave(self, ticket: Ticket) -> None:
        """Give the seat back at the end of this turn."""
        level = ticket.level
        if level is None:
            return
        if not self._ending:
            asyncio.get_running_loop().call_soon(self._end)
        _, count = self._ending.get(id(level), (level, 0))
        self._ending[id(level)] = (level, count + 1)

    def text(self) -> Iterator[str]:
        """Yield what /metrics says of levels: seats, who runs and who waits."""
        every = [(name, level) for name, (_, level) in sorted(self._priorities.items()) if level is not None]
        for metric, value in _GAUGES.items():
            yield f"# TYPE apiserver_flowcontrol_{metric} gauge"
            for name, level in every:
                yield f'apiserver_flowcontrol_{metric}{{priority_level="{name}"}} {value(level)}'
        yield "# TYPE apiserver_flowcontrol_rejected_requests_total counter"
        for (name, reason), number in sorted(self._refused.items()):
            labels = f'priority_level="{name}",reason="{reason}"'
            yield f"apiserver_flowcontrol_rejected_requests_total{{{labels}}} {number}"

    def _end(self) -> None:
        ending, self._ending = self._ending, {}
        for level, count in ending.values():
            _start(level, count)

    def _give_up(self, level: Level[Waiter], waiter: Waiter) -> None:
        if waiter.done() and not waiter.cancelled():
            _start(level, 1)
        else:
            level.leave(waiter)

    def _classify(self, user: User, access: Access) -> Ticket:
        schema = next((each for each in self._schemas if each.matches(user, access)), self._schemas[-1])
        priority, level = self._priorities.get(schema.level) or self._priorities["catch-all"]
        uids = (schema.uid, priority.uid)
        headers = tuple(zip(HEADERS, uids, strict=True)) if all(uids) else ()
        return Ticket(schema, priority, level, f"{schema.name}/{schema.flow(user, access)}", headers)

    def _load(self) -> None:
        levels = _merged(self._trees(PRIORITY_LEVELS), list(defaults.levels()))
        schemas = _merged(self._trees(FLOW_SCHEMAS), list(defaults.schemas()))
        old = self._priorities
        self._priorities = {}
        for priority in priorities_of(levels, self._seats):
            before = old.get(priority.name)
            if before is not None and before[0].shape == priority.shape:
                level = before[1]
            else:
                level = None if priority.shape is None else Level[Waiter](priority.shape)
            self._priorities[priority.name] = (priority, level)
        self._schemas = sorted(map(schema_of, schemas), key=lambda each: (each.precedence, each.name))
        self._known.clear()

    def _trees(self, row: AnyResource) -> list[Tree]:
        return [msgspec.json.decode(entry.raw) for entry in self._caches.of(row).page().entries]


def _merged(found: list[Tree], wished: list[Tree]) -> list[Tree]:
    names = {tree["metadata"]["name"] for tree in found}
    missing = MANDATORY - names
    return [*found, *(tree for tree in wished if tree["metadata"]["name"] in missing)]


def _start(level: Level[Waiter], seats: int) -> None:
    """Give seats to those who wait; whoever went away meanwhile passes it on."""
    while seats:
        started, seats = level.finished(seats), 0
        for waiter in started:
            if waiter.done():
                seats += 1
            else:
                waiter.set_result(None)


def _refused() -> TooManyRequests:
    return TooManyRequests("too many requests, please try again later", retry_after=1)
