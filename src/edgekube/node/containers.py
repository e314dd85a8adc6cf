"""
What the runtime has, as a local copy kept fresh by events: the kubelet's pod lifecycle event generator.

Events wake only the pod they are about; a slow relist is there in case an event was lost.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable

from edgekube.lib.backoff import Backoff
from edgekube.node import labels
from edgekube.runtime.base import (
    ContainerEvent,
    ContainerInfo,
    Containers,
    NoSuchContainer,
    Phase,
    RuntimeFailure,
)

log = logging.getLogger(__name__)

KNOWN_BY = {
    "created": (Phase.CREATED, Phase.RUNNING, Phase.EXITED),
    "started": (Phase.RUNNING, Phase.EXITED),
}
"""Event → phases of a container that is no news any more; none ever goes back to an earlier one."""
SETTLE = 1.0
"""Seconds after (re)connecting at which to list again: events between list and connection are lost."""


class ContainerCopy:
    """Containers by pod. `changed(uid)` is called when a pod's containers changed."""

    def __init__(self, containers: Containers, changed: Callable[[str], None], *, period: float) -> None:
        self._containers = containers
        self._changed = changed
        self._period = period
        self._infos: dict[str, ContainerInfo] = {}
        self._asked: dict[str, int] = {}
        self._questions = itertools.count(1)
        self._relist = asyncio.Event()
        self.synced = asyncio.Event()

    def of_pod(self, uid: str) -> tuple[ContainerInfo, ...]:
        """Return a pod's containers in any phase."""
        return tuple(info for info in self._infos.values() if info.labels.get(labels.POD_UID) == uid)

    def all(self) -> tuple[ContainerInfo, ...]:
        """Return every pod's containers."""
        return tuple(self._infos.values())

    async def refresh(self, container: str) -> None:
        """Look at one container now; raises RuntimeFailure."""
        question = next(self._questions)
        try:
            info = await self._containers.inspect(container)
        except NoSuchContainer:
            self._answer(question, container, None)
        else:
            self._answer(question, container, info)

    async def run(self) -> None:
        """List, then follow events, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(), name="container-events")
            group.create_task(self._list_slowly(), name="container-relist")

    async def _follow(self) -> None:
        backoff = Backoff[str](first=0.5, limit=15.0)
        while True:
            asyncio.get_running_loop().call_later(SETTLE, self._relist.set)
            try:
                async for event in self._containers.events():
                    backoff.forget("events")
                    if not self._knows(event):
                        await self.refresh(event.id)
            except RuntimeFailure as error:
                log.warning("runtime events: %s", error)
            await asyncio.sleep(backoff.next("events"))
            self._relist.set()

    async def _list_slowly(self) -> None:
        backoff = Backoff[str](first=0.5, limit=15.0)
        delay = 0.0
        while True:
            try:
                await self._list()
                backoff.forget("list")
                delay = self._period
            except RuntimeFailure as error:
                log.warning("runtime list: %s", error)
                delay = backoff.next("list")
            self._relist.clear()
            try:
                async with asyncio.timeout(delay):
                    await self._relist.wait()
            except TimeoutError:
                pass

    async def _list(self) -> None:
        question = next(self._questions)
        found = {info.id: info for info in await self._containers.list()}
        for identity in self._infos.keys() - found.keys():
            self._answer(question, identity, None)
        for identity, info in found.items():
            self._answer(question, identity, info)
        # Of those long gone no earlier answer can be under way any more.
        for identity in [i for i, asked in self._asked.items() if i not in self._infos and asked < question]:
            del self._asked[identity]
        self.synced.set()

    def _knows(self, event: ContainerEvent) -> bool:
        """Tell whether an event says what who made it happen has asked about already."""
        info = self._infos.get(event.id)
        return info is not None and info.phase in KNOWN_BY.get(event.action, ())

    def _answer(self, question: int, identity: str, info: ContainerInfo | None) -> None:
        """Take an answer unless a later question about the same container was answered already."""
        if self._asked.get(identity, 0) > question:
            return
        old = self._infos.get(identity)
        self._asked[identity] = question
        if info is None:
            self._infos.pop(identity, None)
        else:
            self._infos[identity] = info
        about = info or old
        if about is not None and info != old:
            self._changed(about.labels.get(labels.POD_UID, ""))
