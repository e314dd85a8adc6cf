"""
Fill a Copy from the API: list once, then follow the watch.

A broken watch resumes at the last revision seen; a compacted one starts over with a list, whose
difference to the copy is reported as if the missed events had arrived. Subscribers therefore
never need to know which of the two happened.

A loop that writes tells its informer what the API answered (`learn`), so that it never decides
on something older than its own writes. Resource versions are compared as numbers (KEP-5504).
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from edgekube.api.errors import Expired, StatusError
from edgekube.api.resource import Key, Object, Resource, key_of
from edgekube.client.base import Unreachable
from edgekube.client.typed import Client
from edgekube.control.reader import Copy
from edgekube.lib.backoff import Backoff

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Object)
PAGE = 500
"""Objects a list call asks for at once."""
CALM = 5.0
"""Seconds a watch must last to count as healthy; shorter ones back off, or they would make a hot loop."""


class Informer(Copy[T], Generic[T]):
    """A Reader of one resource, optionally narrowed by selectors; `jitter` returns 0…1."""

    def __init__(
        self, client: Client, resource: Resource[T], *, labels: str = "", fields: str = "",
        jitter: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        super().__init__()
        self.resource = resource
        self._client = client
        self._labels, self._fields = labels, fields
        self._jitter = jitter
        self._backoff = Backoff[str](first=0.1, limit=30.0)
        self._seen = 0
        self._ahead: dict[Key, T] = {}

    async def run(self) -> None:
        """Follow the API until cancelled."""
        loop = asyncio.get_running_loop()
        since = ""
        while True:
            started = loop.time()
            try:
                if not since:
                    since = await self._list()
                since = await self._follow(since)
            except Expired as error:
                since = ""
                log.info("%s: listing again: %s", self.resource.group_resource, error)
            except (Unreachable, StatusError) as error:
                log.warning("%s: %s", self.resource.group_resource, error)
            if loop.time() - started >= CALM:
                self._backoff.forget("watch")
                continue
            delay = self._backoff.next("watch")
            await asyncio.sleep(delay * (0.5 + self._jitter()))

    def learn(self, obj: T) -> None:
        """Show what a write answered before the watch does; what the watch has passed already is ignored."""
        version = _number(obj.metadata.resource_version)
        if version <= self._seen:
            return
        key = key_of(obj)
        self._ahead[key] = obj
        self.set(obj)

    def forget(self, obj: T) -> None:
        """Drop `obj` because the API said it is gone, before the watch does."""
        key = key_of(obj)
        self._ahead.pop(key, None)
        self._drop_uid(key, obj.metadata.uid)

    async def _follow(self, since: str) -> str:
        events = self._client.watch(self.resource, since=since, labels=self._labels, fields=self._fields)
        async for event in events:
            since = event.resource_version
            self._seen = max(self._seen, _number(since))
            if event.object is None:
                continue
            key = key_of(event.object)
            if event.type == "DELETED":
                self._passed(key, since)
                self._drop_uid(key, event.object.metadata.uid)
            elif self._passed(key, since):
                self.set(event.object)
        return since

    def _passed(self, key: Key, since: str) -> bool:
        """Tell whether the watch has caught up with what we learned of `key`."""
        ahead = self._ahead.get(key)
        if ahead is not None and _number(ahead.metadata.resource_version) > _number(since):
            return False
        self._ahead.pop(key, None)
        return True

    def _drop_uid(self, key: Key, uid: str) -> None:
        known = self.get(key)
        if known is not None and known.metadata.uid == uid:
            self.drop(key)

    async def _list(self) -> str:
        items: list[T] = []
        page = await self._client.list(self.resource, labels=self._labels, fields=self._fields, limit=PAGE)
        items += page.items
        while page.continue_:
            page = await self._client.list(
                self.resource, labels=self._labels, fields=self._fields, limit=PAGE, continue_=page.continue_
            )
            items += page.items
        self._seen = _number(page.resource_version)
        self._ahead = {
            k: o for k, o in self._ahead.items() if _number(o.metadata.resource_version) > self._seen
        }
        fresh = {key_of(obj): obj for obj in items}
        self.replace((fresh | self._ahead).values())
        return page.resource_version


def _number(version: str) -> int:
    return int(version) if version.isdecimal() else 0


class Informers:
    """One shared informer a resource; `run` follows them all, those asked for later included."""

    name = "informers"

    def __init__(self, client: Client) -> None:
        self._client = client
        self._informers: dict[tuple[str, ...], Informer[Any]] = {}
        self._group: asyncio.TaskGroup | None = None

    def __iter__(self) -> Iterator[Informer[Any]]:
        return iter(tuple(self._informers.values()))

    def of(self, resource: Resource[T], *, labels: str = "", fields: str = "") -> Informer[T]:
        """Return the informer of `resource`, of all its objects or of those selected, made at first use."""
        path = (resource.group, resource.version, resource.plural, labels, fields)
        informer = self._informers.get(path)
        if informer is None:
            informer = self._informers[path] = Informer(self._client, resource, labels=labels, fields=fields)
            self._start(informer)
        return informer

    def known(self, resource: Resource[Any]) -> Informer[Any] | None:
        """Return the informer of all objects of `resource` if somebody uses one already."""
        return self._informers.get((resource.group, resource.version, resource.plural, "", ""))

    async def run(self) -> None:
        """Follow all until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for informer in self:
                    self._start(informer)
                await asyncio.Event().wait()
            finally:
                self._group = None

    def _start(self, informer: Informer[Any]) -> None:
        if self._group is not None:
            self._group.create_task(informer.run(), name=f"informer-{informer.resource.plural}")
