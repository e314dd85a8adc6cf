"""One watch cache a resource, filled together; reads wait until they show this server's own writes."""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from edgekube.api.errors import NotFound, Timeout
from edgekube.api.resource import AnyResource
from edgekube.apiserver import fields
from edgekube.apiserver.cache import Decode, Entry, ResourceCache, Selectable, entry_decoder
from edgekube.apiserver.registry.paths import prefix_of
from edgekube.store.base import Record, Store

Path = tuple[str, str]
Tree = dict[str, Any]
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
        label: Selectable(
            ".".join(path), fields.absent(label), fields.INSTEAD.get((row.group_resource, label), "")
        )
        for label, path in fields.paths_of(row).items()
        if path[0] != "metadata"
    }


def _defaults(schema: Tree) -> Tree:
    """Return what is left of a schema when only its defaults count; {} when it has none."""
    found: Tree = {"default": schema["default"]} if "default" in schema else {}
    below = {
        name: left for name, inner in (schema.get("properties") or {}).items() if (left := _defaults(inner))
    }
    if below:
        found["properties"] = below
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict) and (left := _defaults(schema[word])):
            found[word] = left
    return found


@dataclass(frozen=True, slots=True)
class _Looks:
    """How a resource's objects are read from the store."""

    selectable: Mapping[str, Selectable]
    defaults: Tree

    @classmethod
    def of(cls, row: AnyResource) -> "_Looks":
        return cls(_selectable(row), _defaults(row.custom.schema) if row.custom is not None else {})

    def decoder(self, row: AnyResource) -> Decode:
        """Return what makes entries; custom resources from before a default was there get it now."""
        decode, custom = entry_decoder(self.selectable), row.custom
        if not self.defaults or custom is None:
            return decode

        def filled(record: Record) -> Entry:
            tree = msgspec.json.decode(record.value)
            custom.fill(tree)
            return decode(replace(record, value=msgspec.json.encode(tree)))

        return filled


class Caches:
    """The caches of all resources of the scheme."""

    def __init__(self, store: Store, rows: Iterable[AnyResource]) -> None:
        self.store = store
        self._caches: dict[Path, ResourceCache] = {}
        self._written: dict[Path, int] = {}
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[Path, asyncio.Task[None]] = {}
        self._looks: dict[Path, _Looks] = {}
        for row in rows:
            self._add(row)

    def _add(self, row: AnyResource) -> ResourceCache:
        path, looks = (row.group, row.plural), _Looks.of(row)
        self._looks[path] = looks
        cache = self._caches[path] = ResourceCache(self.store, prefix_of(row), looks.decoder(row))
        return cache

    async def serve(self, row: AnyResource) -> None:
        """Keep a cache for a custom resource as well, from when it is filled; again if it is read otherwise now."""
        path = (row.group, row.plural)
        if path in self._caches and self._looks[path] == _Looks.of(row):
            return
        self.drop(row)
        cache = self._add(row)
        if self._group is not None:
            self._start(path, cache, self._group)
            await cache.ready.wait()

    def drop(self, row: AnyResource) -> None:
        """Keep no cache any more; watches end."""
        path = (row.group, row.plural)
        if task := self._tasks.pop(path, None):
            task.cancel()
        cache = self._caches.pop(path, None)
        if cache is not None:
            cache.close()
        self._looks.pop(path, None)

    def _start(self, path: Path, cache: ResourceCache, group: asyncio.TaskGroup) -> None:
        self._tasks[path] = group.create_task(cache.run(), name=f"cache-{path[1]}.{path[0]}")

    def __iter__(self) -> Iterator[tuple[str, ResourceCache]]:
        for (group, plural), cache in tuple(self._caches.items()):
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
        cache = self._caches.get(path)
        if cache is None:
            raise NotFound("the server could not find the requested resource")
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
            self._group = group
            for path, cache in tuple(self._caches.items()):
                self._start(path, cache, group)
            # The group ends with us, not with its last task: others may come.
            await asyncio.Event().wait()
