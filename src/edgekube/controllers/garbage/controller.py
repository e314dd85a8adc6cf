"""
The garbage collector: deletes what nobody owns any more, over every row of the scheme.

Rows that other loops follow anyway are read from their caches, the rest by informers that keep
metadata only. Rows added while running (custom resources) are found within `RESCAN` seconds.
"""

import asyncio
import logging
from dataclasses import replace
from typing import Any

import msgspec

from edgekube.api.errors import Conflict, NotFound
from edgekube.api.resource import AnyResource, Key
from edgekube.api.types import meta_v1
from edgekube.control.informer import Informer
from edgekube.control.reconcile import Controller
from edgekube.controllers.context import Context
from edgekube.controllers.garbage.graph import FOREGROUND, ORPHAN, Graph, Item, Owner, decide
from edgekube.controllers.ownership import references_patch

log = logging.getLogger(__name__)

RESCAN = 5.0
WORKERS = 4
IGNORED = frozenset({"events", "events.events.k8s.io"})
"""Events have no dependents and no owners, and there are many."""


class Partial(msgspec.Struct, frozen=True, kw_only=True):
    """Any object, metadata only."""

    api_version: str = msgspec.field(default="", name="apiVersion")
    kind: str = ""
    metadata: meta_v1.ObjectMeta = meta_v1.ObjectMeta()


class GarbageCollector:
    """Keys are uids."""

    name = "garbage-collector"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._client, self._scheme = context.client, context.options.scheme
        self.graph = Graph()
        self._loop = Controller[str](self.name, self, workers=WORKERS)
        self._followed: dict[tuple[str, str], Informer[Any]] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._rescan(group)
            for informer in self._followed.values():
                await informer.synced.wait()
            group.create_task(self._loop.run(), name=self.name)
            while True:
                await asyncio.sleep(RESCAN)
                self._rescan(group)

    async def reconcile(self, uid: str) -> float | None:
        """Look at one object: is it to be deleted, finished, or freed of its dependents."""
        item = self.graph.get(uid)
        if item is None:
            return None
        if item.orphaning:
            return await self._orphan(item)
        if item.foreground:
            return await self._finish(item)
        if item.deleting or not item.meta.owner_references:
            return None
        owners = {r.uid: await self._owner(item, r) for r in item.meta.owner_references}
        decided = decide(item, owners, has_dependents=bool(self.graph.dependents(uid)))
        try:
            if decided.propagation == "Foreground":
                item = await self._unblock(item)
            if decided.propagation:
                # The version makes sure that nobody gave it another owner meanwhile.
                await self._client.delete(
                    item.row, item.key, uid=uid, resource_version=item.meta.resource_version,
                    propagation=decided.propagation,
                )  # fmt: skip
            elif decided.drop:
                await self._drop(item, decided.drop)
        except NotFound:
            return None
        return None

    async def _unblock(self, item: Item) -> Item:
        """
        Let an object's owners not wait for it when it will wait for one of its dependents that waits already.

        Otherwise a circle of owners would never end.
        """
        if not any(dependent.foreground for dependent in self.graph.dependents(item.uid)):
            return item
        free = [
            msgspec.structs.replace(r, block_owner_deletion=False) if r.block_owner_deletion else r
            for r in item.meta.owner_references
        ]
        found = Partial(metadata=item.meta)
        changed = await self._client.patch(
            replace(item.row, type=Partial), item.key, references_patch(found, free)
        )
        return replace(item, meta=changed.metadata)

    async def _owner(self, item: Item, reference: meta_v1.OwnerReference) -> Owner:
        known = self.graph.get(reference.uid)
        if known is not None:
            return Owner.WAITING if known.foreground else Owner.SOLID
        row = self._scheme.by_kind(reference.api_version, reference.kind)
        if row is None:
            # A kind we do not serve now may come back; deleting could not be undone.
            return Owner.SOLID
        if row.namespaced and not item.key.namespace:
            # Not allowed, and never resolvable (KEP-2336): leave it alone.
            return Owner.SOLID
        key = Key(item.key.namespace if row.namespaced else "", reference.name)
        try:
            live = await self._client.get(replace(row, type=Partial), key)
        except NotFound:
            return Owner.GONE
        assert isinstance(live, Partial)
        return Owner.SOLID if live.metadata.uid == reference.uid else Owner.GONE

    async def _finish(self, item: Item) -> float | None:
        """Let an object go whose blocking dependents are gone; see to the others."""
        if not self.graph.blocking(item.uid):
            await self._without_finalizer(item, FOREGROUND)
        for dependent in self.graph.dependents(item.uid):
            if not dependent.deleting:
                self._loop.queue.add(dependent.uid)
        return None

    async def _orphan(self, item: Item) -> float | None:
        """Take the owner away from all dependents, then let it go."""
        for dependent in self.graph.dependents(item.uid):
            try:
                await self._drop(dependent, frozenset({item.uid}))
            except NotFound:
                continue
        await self._without_finalizer(item, ORPHAN)
        return None

    async def _drop(self, item: Item, owners: frozenset[str]) -> None:
        rest = [r for r in item.meta.owner_references if r.uid not in owners]
        found = Partial(metadata=item.meta)
        await self._client.patch(replace(item.row, type=Partial), item.key, references_patch(found, rest))

    async def _without_finalizer(self, item: Item, finalizer: str) -> None:
        rest = [name for name in item.meta.finalizers if name != finalizer]
        meta = {"uid": item.uid, "resourceVersion": item.meta.resource_version, "finalizers": rest}
        try:
            await self._client.patch(replace(item.row, type=Partial), item.key, {"metadata": meta})
        except NotFound:
            return
        except Conflict:
            # The watch brings the newer version, which queues it again.
            self._loop.queue.add_after(item.uid, 0.1)

    def _rescan(self, group: asyncio.TaskGroup) -> None:
        rows: dict[tuple[str, str], AnyResource] = {}
        for row in self._scheme:
            if {"list", "watch", "delete"} <= set(row.verbs) and row.group_resource not in IGNORED:
                # Another version shows the same objects.
                rows.setdefault((row.group, row.plural), row)
        for path in self._followed.keys() - rows.keys():
            self._unfollow(path)
        for path, row in rows.items():
            if path not in self._followed:
                self._follow(path, row, group)

    def _follow(self, path: tuple[str, str], row: AnyResource, group: asyncio.TaskGroup) -> None:
        informer = self._context.informers.known(row)
        if informer is None:
            informer = Informer(self._client, replace(row, type=Partial))
            self._tasks[path] = group.create_task(informer.run(), name=f"informer-{row.plural}-metadata")
        self._followed[path] = informer
        informer.subscribe(lambda old, new: self._changed(row, old, new))

    def _unfollow(self, path: tuple[str, str]) -> None:
        informer = self._followed.pop(path)
        if task := self._tasks.pop(path, None):
            task.cancel()
            informer.replace(())

    def _changed(self, row: AnyResource, old: Any, new: Any) -> None:
        if new is None or (old is not None and old.metadata.uid != new.metadata.uid):
            self._gone(old.metadata.uid)
        if new is None:
            return
        item = Item(row, Key(new.metadata.namespace, new.metadata.name), new.metadata)
        before = self.graph.get(item.uid)
        self.graph.set(item)
        if item.foreground or item.orphaning:
            self._loop.queue.add(item.uid)
        if item.owners and (
            before is None or before.owners != item.owners or before.deleting != item.deleting
        ):
            self._loop.queue.add(item.uid)
        if before is not None:
            self._owners_wait(before)

    def _gone(self, uid: str) -> None:
        item = self.graph.get(uid)
        self.graph.drop(uid)
        for dependent in self.graph.dependents(uid):
            self._loop.queue.add(dependent.uid)
        if item is not None:
            self._owners_wait(item)

    def _owners_wait(self, item: Item) -> None:
        for uid in item.owners:
            owner = self.graph.get(uid)
            if owner is not None and owner.foreground:
                self._loop.queue.add(uid)


def build(context: Context) -> GarbageCollector:
    """Return the loop."""
    return GarbageCollector(context)
