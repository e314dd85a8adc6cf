"""When to ask: one timer a probe on the event loop's own clock, nothing that polls."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgekube.api.types import core_v1
from edgekube.node.clock import Clock
from edgekube.node.probes.check import Answer, Checker, Target
from edgekube.node.probes.state import ProbeKind, Tally, advance

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProbeKey:
    """A probe of a running container."""

    container: str
    kind: ProbeKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Ask `target` by `probe`; `since` is when the container started (seconds since the epoch)."""

    probe: core_v1.Probe
    target: Target
    since: float


Verdict = Callable[[ProbeKey, Answer, bool | None], None]
"""Called after each answer; the last argument is the new verdict, None when it did not change."""


@dataclass(slots=True)
class _Watch:
    wish: Wish
    verdict: Verdict
    tally: Tally = Tally()  # noqa: RUF009 - frozen
    timer: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None


class Prober:
    """All probes of this node. `run` owns their tasks."""

    def __init__(self, checker: Checker, *, clock: Clock) -> None:
        self._checker, self._clock = checker, clock
        self._watches: dict[str, dict[ProbeKey, _Watch]] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Own the tasks of running probes until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    await asyncio.Event().wait()
                finally:
                    # A group that ends takes no more tasks.
                    self._group = None
        finally:
            for uid in tuple(self._watches):
                self.wish(uid, {}, _ignore)

    def wish(self, uid: str, wishes: Mapping[ProbeKey, Wish], verdict: Verdict) -> None:
        """Make `wishes` the probes of pod `uid`; those that go on keep their count."""
        watches = self._watches.setdefault(uid, {})
        for key in watches.keys() - wishes.keys():
            _stop(watches.pop(key))
        for key, wish in wishes.items():
            if key in watches:
                watches[key].wish = wish
                continue
            watch = watches[key] = _Watch(wish, verdict)
            first = wish.since + float(wish.probe.initial_delay_seconds or 0) - self._clock()
            self._arm(key, watch, max(first, 0.0))
        if not watches:
            del self._watches[uid]

    def _arm(self, key: ProbeKey, watch: _Watch, delay: float) -> None:
        watch.timer = asyncio.get_running_loop().call_later(delay, self._fire, key, watch)

    def _fire(self, key: ProbeKey, watch: _Watch) -> None:
        if self._group is not None:
            watch.task = self._group.create_task(self._ask(key, watch), name=f"probe-{key.kind.value}")

    async def _ask(self, key: ProbeKey, watch: _Watch) -> None:
        begun = asyncio.get_running_loop().time()
        answer = await self._checker(watch.wish.probe, watch.wish.target)
        before = watch.tally.verdict
        watch.tally = advance(watch.tally, watch.wish.probe, success=answer.success)
        changed = watch.tally.verdict if watch.tally.verdict is not before else None
        period = float(watch.wish.probe.period_seconds or 10)
        spent = asyncio.get_running_loop().time() - begun
        self._arm(key, watch, max(period - spent, 0.0))
        watch.verdict(key, answer, changed)


def _stop(watch: _Watch) -> None:
    if watch.timer is not None:
        watch.timer.cancel()
    if watch.task is not None and not watch.task.done():
        watch.task.cancel()


def _ignore(_key: ProbeKey, _answer: Answer, _verdict: bool | None) -> None:  # noqa: FBT001 - a Verdict
    """Nobody listens any more."""
