"""Objects by resource and key: read from the cache, written to the store."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from edgekube.api.resource import AnyResource, Durability, Key
from edgekube.apiserver.cache import with_revision
from edgekube.apiserver.caches import Caches
from edgekube.apiserver.registry.paths import path_of
from edgekube.apiserver.request import Tree
from edgekube.store.base import KeyExists, Mismatch, Record


class Stored(msgspec.Struct, frozen=True, gc=False):
    """An object as clients see it: JSON with resourceVersion, and that version as a number."""

    body: bytes
    revision: int

    def tree(self) -> Tree:
        """Decode it, without resourceVersion."""
        tree: Tree = msgspec.json.decode(self.body)
        tree["metadata"].pop("resourceVersion", None)
        return tree


Glance = Mapping[str, Any]
"""A decoded object that others look at, too."""
LOOKED = 256
"""How many objects are kept decoded: Namespaces, ServiceAccounts, classes, which every write asks for."""


class Storage:
    """What the registry reads and writes."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches
        self._store = caches.store
        self._looked: dict[tuple[str, Key], tuple[int, Glance]] = {}
        """What `look` decoded, with its revision."""

    async def read(self, row: AnyResource, key: Key) -> Stored | None:
        """Return the object as it is now."""
        cache = await self._caches.fresh(row)
        entry = cache.get(key.namespace, key.name)
        return None if entry is None else Stored(entry.raw, entry.revision)

    async def find(self, row: AnyResource, key: Key) -> Tree | None:
        """Return the object as it is now, decoded, without resourceVersion."""
        stored = await self.read(row, key)
        return None if stored is None else stored.tree()

    async def look(self, row: AnyResource, key: Key) -> Glance | None:
        """Return what `find` does, to be read only: the next caller gets the same."""
        stored = await self.read(row, key)
        return None if stored is None else self._decoded(row, key, stored)

    async def look_within(self, row: AnyResource, namespace: str) -> Sequence[Glance]:
        """Return what `within` does, to be read only."""
        cache = await self._caches.fresh(row)
        if not len(cache):
            return ()
        entries = cache.page(namespace).entries
        return [self._decoded(row, entry.key, Stored(entry.raw, entry.revision)) for entry in entries]

    def _decoded(self, row: AnyResource, key: Key, stored: Stored) -> Glance:
        known = self._looked.get((row.group_resource, key))
        if known is not None and known[0] == stored.revision:
            return known[1]
        if len(self._looked) >= LOOKED:
            self._looked.clear()
        tree = stored.tree()
        self._looked[row.group_resource, key] = (stored.revision, tree)
        return tree

    async def within(self, row: AnyResource, namespace: str) -> Sequence[Tree]:
        """Return a namespace's objects, decoded, without resourceVersion."""
        return [stored.tree() for stored in await self.stored_within(row, namespace)]

    async def stored_within(self, row: AnyResource, namespace: str) -> Sequence[Stored]:
        """Return a namespace's objects as they are now."""
        cache = await self._caches.fresh(row)
        if not len(cache):
            return ()
        return [Stored(entry.raw, entry.revision) for entry in cache.page(namespace).entries]

    async def write(
        self, row: AnyResource, key: Key, value: bytes, *, expected: int, durability: Durability
    ) -> Stored:
        """Write if unchanged since `expected` (0: if new); raises KeyExists or Mismatch."""
        try:
            record = await self._store.put(path_of(row, key), value, expected=expected, durability=durability)
        except (KeyExists, Mismatch) as error:
            self._lost(row, error.current)
            raise
        self._caches.wrote(row, record.revision)
        return Stored(with_revision(value, record.revision), record.revision)

    async def remove(self, row: AnyResource, key: Key, *, expected: int) -> int:
        """Delete if unchanged since `expected`; return the deletion's revision. Raises Mismatch."""
        try:
            record = await self._store.delete(path_of(row, key), expected=expected, durability=row.durability)
        except Mismatch as error:
            self._lost(row, error.current)
            raise
        self._caches.wrote(row, record.revision)
        return record.revision

    def _lost(self, row: AnyResource, current: Record | None) -> None:
        """Make the next read show what we lost against, so that trying again is no waste."""
        if current is not None:
            self._caches.wrote(row, current.revision)

    async def all(self, row: AnyResource) -> Iterable[Tree]:
        """Return every object of a resource."""
        cache = await self._caches.fresh(row)
        return [Stored(entry.raw, entry.revision).tree() for entry in cache.page().entries]
