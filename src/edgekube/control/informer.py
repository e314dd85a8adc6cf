"""
Fill a Copy from the API: list once, then follow the watch.

A broken watch resumes at the last revision seen; a compacted one starts over with a list, whose
difference to the copy is reported as if the missed events had arrived. Subscribers therefore
never need to know which of the two happened.
"""

import asyncio
import logging
from typing import Any, Generic, TypeVar

from edgekube.api.errors import Expired, StatusError
from edgekube.api.resource import Object, Resource, key_of
from edgekube.client.base import Unreachable
from edgekube.client.typed import Client
from edgekube.control.reader import Copy
from edgekube.lib.backoff import Backoff

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Object)
PAGE = 500
"""Objects a list call asks for at once."""


class Informer(Copy[T], Generic[T]):
    """A Reader of one resource, optionally narrowed by selectors."""

    def __init__(self, client: Client, resource: Resource[T], *, labels: str = "", fields: str = "") -> None:
        super().__init__()
        self.resource = resource
        self._client = client
        self._labels, self._fields = labels, fields
        self._backoff = Backoff[str](first=0.2, limit=30.0)

    async def run(self) -> None:
        """Follow the API until cancelled."""
        since = ""
        while True:
            try:
                since = since or await self._list()
                since = await self._follow(since)
                continue
            except Expired:
                since = ""
            except (Unreachable, StatusError) as error:
                log.warning("%s: %s", self.resource.group_resource, error)
            await asyncio.sleep(self._backoff.next("watch"))

    async def _follow(self, since: str) -> str:
        events = self._client.watch(self.resource, since=since, labels=self._labels, fields=self._fields)
        async for event in events:
            since = event.resource_version
            self._backoff.forget("watch")
            if event.object is None:
                continue
            if event.type == "DELETED":
                self.drop(key_of(event.object))
            else:
                self.set(event.object)
        return since

    async def _list(self) -> str:
        items: list[T] = []
        page = await self._client.list(self.resource, labels=self._labels, fields=self._fields, limit=PAGE)
        items += page.items
        while page.continue_:
            page = await self._client.list(
                self.resource, labels=self._labels, fields=self._fields, limit=PAGE, continue_=page.continue_
            )
            items += page.items
        self.replace(items)
        return page.resource_version


class Informers:
    """One shared informer a resource; `run` follows them all."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._informers: dict[tuple[str, str, str], Informer[Any]] = {}

    def of(self, resource: Resource[T]) -> Informer[T]:
        """Return the informer of `resource`, made at first use (before `run`)."""
        path = (resource.group, resource.version, resource.plural)
        return self._informers.setdefault(path, Informer(self._client, resource))

    async def run(self) -> None:
        """Follow all until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers.values():
                group.create_task(informer.run(), name=f"informer-{informer.resource.plural}")
