"""
The scheduling queue: pods to place now, pods that wait a moment, pods that wait for a change.

A pod no node will do for sleeps until something happens that its refusing filters care about; a
change that happens while it is being decided counts as well, or it would be missed.
"""

import asyncio
import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgekube.api.types import core_v1
from edgekube.lib.backoff import Backoff
from edgekube.scheduler.infos import PodInfo, pod_info
from edgekube.scheduler.plugins import Change, Plugins

LONGEST = 300.0
"""Seconds after which a sleeping pod is tried again, whatever happened."""

EVERYTHING = frozenset(Change)


@dataclass(slots=True)
class _Entry:
    info: PodInfo
    sleeping: frozenset[str] = frozenset()
    """The filters that refused it, while it sleeps."""
    taken: int = 0
    """Count of changes when it was last taken."""
    timer: asyncio.TimerHandle | None = None


class SchedulingQueue:
    """Pods by uid. Give every pod from `get` back with `bound`, `refused` or `failed`."""

    def __init__(self, profiles: Iterable[Plugins]) -> None:
        self._wakes: Mapping[str, frozenset[Change]] = {
            row.name: row.wakes for plugins in profiles for row in plugins.filters
        }
        self._entries: dict[str, _Entry] = {}
        self._heap: list[tuple[int, str, int, str]] = []
        self._ready: set[str] = set()
        self._sleeping: set[str] = set()
        self._working: set[str] = set()
        self._backoff = Backoff[str](first=1.0, limit=10.0)
        self._changes: dict[Change, int] = {}
        self._count = 0
        self._serial = 0
        self._event = asyncio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, uid: str) -> bool:
        return uid in self._entries

    def set(self, pod: core_v1.Pod) -> None:
        """Add a pod that needs a node, or take its newer version."""
        uid = pod.metadata.uid
        entry = self._entries.get(uid)
        if entry is None:
            self._entries[uid] = _Entry(pod_info(pod))
            self._push(uid)
            return
        changed = entry.info.pod.spec != pod.spec or entry.info.labels != pod.metadata.labels
        entry.info = pod_info(pod)
        if changed and entry.sleeping:
            self._wake(uid, entry)

    def drop(self, uid: str) -> None:
        """Forget a pod: gone, or somebody bound it."""
        entry = self._entries.pop(uid, None)
        if entry is not None and entry.timer is not None:
            entry.timer.cancel()
        for group in (self._ready, self._working, self._sleeping):
            group.discard(uid)
        self._backoff.forget(uid)

    async def get(self) -> PodInfo:
        """Wait for the most urgent pod: the highest priority, then the oldest."""
        while True:
            while self._heap:
                *_, uid = heapq.heappop(self._heap)
                if uid in self._ready:
                    self._ready.discard(uid)
                    self._working.add(uid)
                    entry = self._entries[uid]
                    entry.taken = self._count
                    return entry.info
            self._event.clear()
            await self._event.wait()

    def bound(self, uid: str) -> None:
        """Say that the pod has its node."""
        self.drop(uid)

    def refused(self, uid: str, plugins: frozenset[str]) -> None:
        """Say that no node will do: sleep until a change that matters."""
        entry = self._entries.get(uid)
        self._working.discard(uid)
        if entry is None:
            return
        wakes = frozenset().union(*(self._wakes.get(name, EVERYTHING) for name in plugins))
        entry.sleeping = plugins
        self._sleeping.add(uid)
        if any(self._changes.get(change, 0) > entry.taken for change in wakes):
            self._wake(uid, entry)
        else:
            self._later(uid, entry, LONGEST)

    def failed(self, uid: str) -> None:
        """Say that placing it went wrong: try again after a moment."""
        entry = self._entries.get(uid)
        self._working.discard(uid)
        if entry is not None:
            self._wake(uid, entry)

    def happened(self, change: Change) -> None:
        """Wake the pods this change may help."""
        self._count += 1
        self._changes[change] = self._count
        for uid in tuple(self._sleeping):
            entry = self._entries[uid]
            if any(change in self._wakes.get(name, EVERYTHING) for name in entry.sleeping):
                self._wake(uid, entry)

    def _wake(self, uid: str, entry: _Entry) -> None:
        """Queue after the back-off, so that a busy cluster does not try the same pod all the time."""
        entry.sleeping = frozenset()
        self._sleeping.discard(uid)
        self._later(uid, entry, self._backoff.next(uid))

    def _later(self, uid: str, entry: _Entry, delay: float) -> None:
        if entry.timer is not None:
            entry.timer.cancel()
        entry.timer = asyncio.get_running_loop().call_later(delay, self._push, uid)

    def _push(self, uid: str) -> None:
        entry = self._entries.get(uid)
        if entry is None or uid in self._ready or uid in self._working:
            return
        entry.sleeping, entry.timer = frozenset(), None
        self._sleeping.discard(uid)
        self._ready.add(uid)
        self._serial += 1
        pod = entry.info.pod
        rank = (-(pod.spec.priority or 0), pod.metadata.creation_timestamp, self._serial, uid)
        heapq.heappush(self._heap, rank)
        self._event.set()
