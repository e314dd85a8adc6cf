"""One watch cache a resource, filled together; reads wait until they show this server's own writes."""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator

from edgekube.api.errors import Timeout
from edgekube.api.resource import AnyResource
from edgekube.apiserver import fields
from edgekube.apiserver.cache import ResourceCache, Selectable, entry_decoder
from edgekube.apiserver.registry.paths import prefix_of
from edgekube.store.base import Store

Path = tuple[str, str]
PATIENCE = 10.0
"""Seconds a request waits for the cache to catch up with the store."""


async def _patiently(wait: Awaitable[object]) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await wait
    except TimeoutError as error:
        raise Timeout("the server's cache does not keep up with its store", retry_after=1) from error


def _selectable(row: AnyResource) -> dict[str, Selectable]:
    return {
        label: Selectable(".".join(path), "false" if label in fields.BOOLEANS else "")
        for label, path in fields.paths_of(row).items()
        if path[0] != "metadata"
    }


class Caches:
    """The caches of all resources of the scheme."""

    def __init__(self, store: Store, rows: Iterable[AnyResource]) -> None:
        self.store = store
        self._caches: dict[Path, ResourceCache] = {}
        self._written: dict[Path, int] = {}
        for row in rows:
            decode = entry_decoder(_selectable(row))
            self._caches[row.group, row.plural] = ResourceCache(store, prefix_of(row), decode)

    def __iter__(self) -> Iterator[tuple[str, ResourceCache]]:
        for (group, plural), cache in self._caches.items():
            yield (f"{plural}.{group}" if group else plural), cache

    def of(self, row: AnyResource) -> ResourceCache:
        """Return a resource's cache as it is."""
        return self._caches[row.group, row.plural]

    def wrote(self, row: AnyResource, revision: int) -> None:
        """Note a write that later reads must show."""
        path = (row.group, row.plural)
        if revision > self._written.get(path, 0):
            self._written[path] = revision

    async def fresh(self, row: AnyResource) -> ResourceCache:
        """Return a resource's cache once it shows every write acknowledged so far."""
        path = (row.group, row.plural)
        cache = self._caches[path]
        written = self._written.get(path, 0)
        if written > cache.revision:
            await _patiently(cache.wait_for(written))
        if not cache.ready.is_set():
            await _patiently(cache.ready.wait())
        return cache

    @property
    def ready(self) -> bool:
        """Whether every cache has its first list."""
        return all(cache.ready.is_set() for cache in self._caches.values())

    async def filled(self) -> None:
        """Wait until every cache has its first list."""
        for cache in self._caches.values():
            await cache.ready.wait()

    async def run(self) -> None:
        """Follow the store until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, cache in self:
                group.create_task(cache.run(), name=f"cache-{name}")
