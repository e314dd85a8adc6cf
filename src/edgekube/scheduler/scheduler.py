"""The scheduler's loop: take a pod, decide, bind; several bindings are in flight at once."""

import asyncio
import logging
import time

from edgekube.api.errors import Conflict, NotFound, StatusError
from edgekube.api.kinds import core_v1 as core
from edgekube.api.types import core_v1, meta_v1
from edgekube.client.base import Unreachable
from edgekube.client.typed import STRATEGIC, Client
from edgekube.control.clock import Clock, stamp
from edgekube.control.events import EventSink
from edgekube.control.informer import Informers
from edgekube.scheduler.cache import ENDED, Cache
from edgekube.scheduler.decide import Placement, Unfit, decide
from edgekube.scheduler.infos import PodInfo
from edgekube.scheduler.plugins import Change, Plugins, installed
from edgekube.scheduler.queue import SchedulingQueue

log = logging.getLogger(__name__)

NAME = "default-scheduler"
IN_FLIGHT = 16


class Scheduler:
    """Gives every pod of `scheduler_name` a node. Run `run` while `informers` run."""

    name = "scheduler"

    def __init__(
        self, client: Client, informers: Informers, clock: Clock = time.time, *, plugins: Plugins | None = None,
        scheduler_name: str = NAME,
    ) -> None:  # fmt: skip
        self._client, self._clock, self._scheduler_name = client, clock, scheduler_name
        self._plugins = plugins or installed()
        self.queue = SchedulingQueue(self._plugins)
        self.cache = Cache()
        self._sink = EventSink(client, clock)
        self._events = self._sink.recorder(scheduler_name)
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._start = 0
        self._namespaces = informers.of(core.NAMESPACES)
        self._nodes = informers.of(core.NODES)
        self._pods = informers.of(core.PODS)

    async def run(self) -> None:
        """Work until cancelled."""
        self._namespaces.subscribe(self._namespace_changed)
        self._nodes.subscribe(self._node_changed)
        self._pods.subscribe(self._pod_changed)
        for reader in (self._namespaces, self._nodes, self._pods):
            await reader.synced.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sink.run(), name="scheduler-events")
            while True:
                pod = await self.queue.get()
                await self._slots.acquire()
                group.create_task(self._place(pod), name=f"schedule-{pod.key}")
                # A decision takes no await of its own: let the bindings and watches breathe.
                await asyncio.sleep(0)

    async def _place(self, pod: PodInfo) -> None:
        try:
            found = decide(pod, self.cache.snapshot(), self._plugins, start=self._start)
            if isinstance(found, Unfit):
                self.queue.refused(pod.uid, found.plugins)
                await self._tell_unfit(pod, found)
            else:
                self._start = (self._start + found.looked) % max(len(self.cache), 1)
                self.cache.assume(pod, found.node)
                await self._bind(pod, found)
        except (StatusError, Unreachable) as error:
            log.warning("%s: %s", pod.key, error)
        except Exception:
            # The loop's one catch-all: a pod that breaks a plug-in must not stop the others.
            log.exception("%s", pod.key)
            self.cache.forget(pod.uid)
            self.queue.failed(pod.uid)
        finally:
            self._slots.release()

    async def _bind(self, pod: PodInfo, found: Placement) -> None:
        binding = core_v1.Binding(
            metadata=meta_v1.ObjectMeta(name=pod.key.name, namespace=pod.key.namespace, uid=pod.uid),
            target=core_v1.ObjectReference(kind="Node", name=found.node),
        )
        try:
            await self._client.post(core.PODS, pod.key, "binding", binding)
        except (NotFound, Conflict):
            # Gone, or bound by somebody else: the watch will say which.
            self.cache.forget(pod.uid)
            self.queue.failed(pod.uid)
        except (StatusError, Unreachable) as error:
            self.cache.forget(pod.uid)
            self.queue.failed(pod.uid)
            self._events.warning(pod.pod, "FailedScheduling", f"binding rejected: {error}")
        else:
            self.queue.bound(pod.uid)
            self._events.normal(pod.pod, "Scheduled", f"Successfully assigned {pod.key} to {found.node}")

    async def _tell_unfit(self, pod: PodInfo, why: Unfit) -> None:
        self._events.warning(pod.pod, "FailedScheduling", why.message)
        wish = ("False", "Unschedulable", why.message)
        for condition in pod.pod.status.conditions:
            if condition.type == "PodScheduled" and wish == (
                condition.status,
                condition.reason,
                condition.message,
            ):
                return
        told = {
            "type": "PodScheduled", "status": wish[0], "reason": wish[1], "message": wish[2],
            "lastTransitionTime": stamp(self._clock()),
        }  # fmt: skip
        patch = {"metadata": {"uid": pod.uid}, "status": {"conditions": [told]}}
        await self._client.patch(core.PODS, pod.key, patch, kind=STRATEGIC, subresource="status")

    def _namespace_changed(self, old: core_v1.Namespace | None, new: core_v1.Namespace | None) -> None:
        if new is not None:
            self.cache.namespaces[new.metadata.name] = new.metadata.labels
        elif old is not None:
            self.cache.namespaces.pop(old.metadata.name, None)

    def _node_changed(self, old: core_v1.Node | None, new: core_v1.Node | None) -> None:
        if new is None:
            if old is not None:
                self.cache.drop_node(old.metadata.name)
            return
        self.cache.set_node(new)
        if old is None:
            self.queue.happened(Change.NODE_ADDED)
            return
        if old.metadata.labels != new.metadata.labels:
            self.queue.happened(Change.NODE_LABELS)
        if (old.spec.taints, old.spec.unschedulable) != (new.spec.taints, new.spec.unschedulable):
            self.queue.happened(Change.NODE_TAINTS)
        if old.status.allocatable != new.status.allocatable:
            self.queue.happened(Change.NODE_RESOURCES)

    def _pod_changed(self, old: core_v1.Pod | None, new: core_v1.Pod | None) -> None:
        if new is None or (old is not None and old.metadata.uid != new.metadata.uid):
            assert old is not None
            self._pod_gone(old)
        if new is None:
            return
        uid = new.metadata.uid
        if new.status.phase in ENDED:
            if old is None or old.status.phase not in ENDED:
                self._pod_gone(new)
            return
        self.cache.set_pod(new)
        if new.spec.node_name:
            self.queue.drop(uid)
            if old is None or not old.spec.node_name:
                self.queue.happened(Change.POD_ADDED)
            elif old.metadata.labels != new.metadata.labels:
                self.queue.happened(Change.POD_LABELS)
        elif self._ours(new):
            self.queue.set(new)
        else:
            self.queue.drop(uid)

    def _pod_gone(self, pod: core_v1.Pod) -> None:
        self.cache.drop_pod(pod.metadata.uid)
        self.queue.drop(pod.metadata.uid)
        if pod.spec.node_name:
            self.queue.happened(Change.POD_GONE)

    def _ours(self, pod: core_v1.Pod) -> bool:
        """Tell whether to place this pod: our name, no gates, not going away."""
        return (
            (pod.spec.scheduler_name or NAME) == self._scheduler_name
            and not pod.spec.scheduling_gates
            and not pod.metadata.deletion_timestamp
        )
