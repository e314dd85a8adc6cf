"""Keeps the scheduler's picture and its queue up to date, and tells the queue what may help whom."""

import asyncio
from collections.abc import Callable

from edgekube.api.kinds import core_v1 as core
from edgekube.api.kinds import storage_v1 as storage
from edgekube.api.resource import key_of
from edgekube.api.types import core_v1, storage_v1
from edgekube.control.informer import Informers
from edgekube.scheduler.cache import ENDED, Cache
from edgekube.scheduler.infos import pod_info
from edgekube.scheduler.plugins import Change
from edgekube.scheduler.queue import SchedulingQueue
from edgekube.scheduler.resized import gave_back


class Follower:
    """Subscribes to everything a decision depends on."""

    def __init__(
        self, informers: Informers, cache: Cache, queue: SchedulingQueue, ours: Callable[[core_v1.Pod], bool]
    ) -> None:
        self._cache, self._queue, self._ours = cache, queue, ours
        self.stirred = asyncio.Event()
        """Set when a claim or pod changed, for those who wait for volumes."""
        self._readers = (
            (informers.of(core.NAMESPACES), self._namespace),
            (informers.of(core.NODES), self._node),
            (informers.of(core.PERSISTENT_VOLUME_CLAIMS), self._claim),
            (informers.of(core.PERSISTENT_VOLUMES), self._volume),
            (informers.of(storage.STORAGE_CLASSES), self._class),
            (informers.of(core.PODS), self._pod),
        )

    async def start(self) -> None:
        """Subscribe, and wait until all is there."""
        for reader, follow in self._readers:
            reader.subscribe(follow)  # type: ignore[arg-type] # each function follows its own reader's type
        for reader, _ in self._readers:
            await reader.synced.wait()

    def _namespace(self, old: core_v1.Namespace | None, new: core_v1.Namespace | None) -> None:
        if new is not None:
            self._cache.namespaces[new.metadata.name] = new.metadata.labels
        elif old is not None:
            self._cache.namespaces.pop(old.metadata.name, None)

    def _node(self, old: core_v1.Node | None, new: core_v1.Node | None) -> None:
        if new is None:
            if old is not None:
                self._cache.drop_node(old.metadata.name)
            return
        self._cache.set_node(new)
        if old is None:
            self._queue.happened(Change.NODE_ADDED)
            return
        if old.metadata.labels != new.metadata.labels:
            self._queue.happened(Change.NODE_LABELS)
        if (old.spec.taints, old.spec.unschedulable) != (new.spec.taints, new.spec.unschedulable):
            self._queue.happened(Change.NODE_TAINTS)
        if old.status.allocatable != new.status.allocatable:
            self._queue.happened(Change.NODE_RESOURCES)

    def _claim(
        self, old: core_v1.PersistentVolumeClaim | None, new: core_v1.PersistentVolumeClaim | None
    ) -> None:
        if new is not None:
            self._cache.claims[key_of(new)] = new
        elif old is not None:
            self._cache.claims.pop(key_of(old), None)
        self._storage()

    def _volume(self, old: core_v1.PersistentVolume | None, new: core_v1.PersistentVolume | None) -> None:
        if new is not None:
            self._cache.volumes[new.metadata.name] = new
        elif old is not None:
            self._cache.volumes.pop(old.metadata.name, None)
        self._storage()

    def _class(self, old: storage_v1.StorageClass | None, new: storage_v1.StorageClass | None) -> None:
        if new is not None:
            self._cache.classes[new.metadata.name] = new
        elif old is not None:
            self._cache.classes.pop(old.metadata.name, None)
        self._storage()

    def _storage(self) -> None:
        self.stirred.set()
        self._queue.happened(Change.STORAGE)

    def _pod(self, old: core_v1.Pod | None, new: core_v1.Pod | None) -> None:
        if old is not None and (new is None or old.metadata.uid != new.metadata.uid):
            self._gone(old)
        if new is None:
            return
        if new.status.phase in ENDED:
            if old is None or old.status.phase not in ENDED:
                self._gone(new)
            return
        self._cache.set_pod(new)
        if new.spec.node_name:
            self._placed(old, new)
        elif self._ours(new):
            self._queue.set(new)
            self._nominated(old, new)
        else:
            self._queue.drop(new.metadata.uid)

    def _placed(self, old: core_v1.Pod | None, new: core_v1.Pod) -> None:
        self._queue.drop(new.metadata.uid)
        if old is None or not old.spec.node_name:
            self._nominated(old, new)
            self._queue.happened(Change.POD_ADDED)
        elif old.metadata.labels != new.metadata.labels:
            self._queue.happened(Change.POD_LABELS)
        elif gave_back(old, new):
            self.stirred.set()
            self._queue.happened(Change.POD_GONE)

    def _nominated(self, old: core_v1.Pod | None, new: core_v1.Pod) -> None:
        name = "" if new.spec.node_name else new.status.nominated_node_name
        if name or (old is not None and old.status.nominated_node_name):
            self._cache.nominate(pod_info(new), name)

    def _gone(self, pod: core_v1.Pod) -> None:
        self._cache.drop_pod(pod.metadata.uid)
        self._queue.drop(pod.metadata.uid)
        if pod.status.nominated_node_name:
            self._cache.nominate(pod_info(pod), "")
        self.stirred.set()
        if pod.spec.node_name:
            self._queue.happened(Change.POD_GONE)
