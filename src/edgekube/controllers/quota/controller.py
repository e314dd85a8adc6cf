"""
The ResourceQuota loop: counts what is really there, and so gives back what is gone.

A count that is lower than what admission charged may only mean that a write is on its way: it is
believed when the quota has not been charged for `SETTLE` seconds.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from edgekube.api import quantity, quota
from edgekube.api.kinds import core_v1 as core
from edgekube.api.quotapods import ENDED
from edgekube.api.resource import AnyResource, Key, Object, key_of
from edgekube.api.types import core_v1, meta_v1
from edgekube.control.index import Index
from edgekube.control.informer import Informer
from edgekube.control.reconcile import Controller
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context

SETTLE = 0.5
RESYNC = 300.0
"""Seconds between two counts when nothing seems to happen."""
SERVER_LAG = 5.0
TYPED: Mapping[str, AnyResource] = {
    "pods": core.PODS, "services": core.SERVICES, "persistentvolumeclaims": core.PERSISTENT_VOLUME_CLAIMS,
}  # fmt: skip


class Bare(msgspec.Struct, frozen=True, kw_only=True):
    """Any object, metadata only: enough to count it."""

    api_version: str = msgspec.field(default="", name="apiVersion")
    kind: str = ""
    metadata: meta_v1.ObjectMeta = meta_v1.ObjectMeta()


class Quotas:
    """Keys are quotas."""

    name = "resourcequota"

    def __init__(self, context: Context) -> None:
        self.quotas = context.informers.of(core.RESOURCE_QUOTAS)
        self._context = context
        self._by_namespace = Index(self.quotas, lambda found: [found.metadata.namespace])
        self._writer = Writer(context.client, self.quotas)
        self._loop = Controller[Key](self.name, self)
        self._loop.watch(self.quotas, lambda found: [key_of(found)])
        self._objects: dict[str, Index[Any, str]] = {}
        self._synced: dict[str, asyncio.Event] = {}
        self._group: asyncio.TaskGroup | None = None
        self._seen: dict[Key, tuple[str, float]] = {}
        for resource, row in TYPED.items():
            self._follow(resource, context.informers.of(row))

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await self._loop.run()
            finally:
                self._group = None

    async def reconcile(self, key: Key) -> float | None:
        """Count for one quota, and write what differs."""
        found = self.quotas.get(key)
        if found is None or found.metadata.deletion_timestamp:
            self._seen.pop(key, None)
            return None
        names = found.spec.hard
        for resource in quota.resources_of(names):
            if not await self._ready(resource):
                return SERVER_LAG
        used = self._count(found)
        # The cache may have moved while we waited.
        if self.quotas.get(key) is not found:
            return 0.0
        status = core_v1.ResourceQuotaStatus(hard=dict(names), used=used)
        if _same(status, found.status):
            return RESYNC
        if _lower(used, found.status.used) and (wait := self._settling(key, found)) > 0:
            return wait
        await self._writer.update(msgspec.structs.replace(found, status=status), subresource="status")
        # Until now nobody was charged for what it newly limits: look again.
        return RESYNC if found.status.hard.keys() >= names.keys() else 2 * SETTLE

    def _settling(self, key: Key, found: core_v1.ResourceQuota) -> float:
        """Return how many seconds the quota must still be left alone."""
        version, now = found.metadata.resource_version, asyncio.get_running_loop().time()
        known, since = self._seen.get(key, ("", now))
        if known != version:
            known, since = self._seen[key] = (version, now)
        return since + SETTLE - now

    def _count(self, found: core_v1.ResourceQuota) -> dict[str, str]:
        tree = msgspec.to_builtins(found)
        namespace, now = found.metadata.namespace, self._context.clock()
        usages: list[Mapping[str, str]] = []
        for resource in quota.resources_of(found.spec.hard):
            evaluator = quota.evaluator_of(resource)
            for obj in self._objects[resource].of(namespace) if resource in self._objects else ():
                one = msgspec.to_builtins(obj)
                if quota.concerns(tree, evaluator, one, found.spec.hard):
                    usages.append(evaluator.usage(one, now))
        return quota.total(usages, found.spec.hard)

    async def _ready(self, resource: str) -> bool:
        """Follow a resource from now on; False while its cache is being filled."""
        if resource not in self._objects:
            row = self._row(resource)
            if row is None or self._group is None:
                # No such resource: none is used.
                return True
            informer = Informer(self._context.client, replace(row, type=Bare))
            self._follow(resource, informer)
            self._group.create_task(informer.run(), name=f"quota-{resource}")
        try:
            async with asyncio.timeout(SERVER_LAG):
                await self._synced[resource].wait()
        except TimeoutError:
            return False
        return True

    def _row(self, resource: str) -> AnyResource | None:
        plural, _, group = resource.partition(".")
        rows = (row for row in self._context.options.scheme if (row.plural, row.group) == (plural, group))
        return next((row for row in rows if row.namespaced), None)

    def _follow(self, resource: str, informer: Informer[Any]) -> None:
        self._objects[resource] = Index(informer, lambda obj: [obj.metadata.namespace])
        self._synced[resource] = informer.synced

        def changed(old: Object | None, new: Object | None) -> None:
            if _frees(old, new):
                self._requeue(resource, (new or old).metadata.namespace)  # type: ignore[union-attr]

        informer.subscribe(changed)

    def _requeue(self, resource: str, namespace: str) -> None:
        for found in self._by_namespace.of(namespace):
            if resource in quota.resources_of(found.spec.hard):
                self._loop.queue.add(key_of(found))


def _frees(old: Object | None, new: Object | None) -> bool:
    """Whether a change may have freed something, or changed what admission does not see."""
    if old is None or new is None:
        return new is None
    if isinstance(old, core_v1.Pod) and isinstance(new, core_v1.Pod):
        ended = new.status.phase in ENDED and old.status.phase not in ENDED
        return ended or old.spec.containers != new.spec.containers
    if isinstance(new, Bare):
        return False
    return bool(old.metadata.resource_version != new.metadata.resource_version)


def _same(new: core_v1.ResourceQuotaStatus, old: core_v1.ResourceQuotaStatus) -> bool:
    return _equal(new.hard, old.hard) and _equal(new.used, old.used)


def _equal(new: Mapping[str, str], old: Mapping[str, str]) -> bool:
    return new.keys() == old.keys() and all(
        quantity.parse(new[name]) == quantity.parse(old[name]) for name in new
    )


def _lower(new: Mapping[str, str], old: Mapping[str, str]) -> bool:
    names: Iterable[str] = new.keys() & old.keys()
    return any(quantity.parse(new[name]) < quantity.parse(old[name]) for name in names)


def build(context: Context) -> Quotas:
    """Return the loop."""
    return Quotas(context)
