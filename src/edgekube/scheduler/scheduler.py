"""The scheduler's loop: take a pod, decide, bind; several bindings are in flight at once."""

import asyncio
import logging
import time
from collections.abc import Mapping

from edgekube.api.errors import Conflict, NotFound, StatusError
from edgekube.api.kinds import core_v1 as core
from edgekube.api.types import core_v1, meta_v1
from edgekube.client.base import Unreachable
from edgekube.client.typed import STRATEGIC, Client
from edgekube.control.clock import Clock, stamp
from edgekube.control.events import EventSink
from edgekube.control.informer import Informers
from edgekube.scheduler.binder import Unbound, VolumeBinder
from edgekube.scheduler.cache import Cache
from edgekube.scheduler.decide import Placement, Unfit, decide
from edgekube.scheduler.follow import Follower
from edgekube.scheduler.infos import PodInfo
from edgekube.scheduler.memory import Memory
from edgekube.scheduler.plugins import Plugins, installed
from edgekube.scheduler.preemptor import Preemptor
from edgekube.scheduler.queue import SchedulingQueue
from edgekube.scheduler.volumes import Bindings, needed

log = logging.getLogger(__name__)

NAME = "default-scheduler"
IN_FLIGHT = 16


class Scheduler:
    """
    Gives every pod a node whose `schedulerName` is one of `profiles`. Run `run` while `informers` run.

    `profiles` are the plug-ins by scheduler name; without any, the installed ones as default-scheduler.
    """

    name = "scheduler"

    def __init__(
        self, client: Client, informers: Informers, clock: Clock = time.time, *,
        profiles: Mapping[str, Plugins] | None = None,
    ) -> None:  # fmt: skip
        self._client, self._clock = client, clock
        self._profiles = profiles or {NAME: installed()}
        self.queue = SchedulingQueue(self._profiles.values())
        self.cache = Cache()
        self._sink = EventSink(client, clock)
        self._events = {name: self._sink.recorder(name) for name in self._profiles}
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._start = 0
        self._memory = Memory()
        self._follower = Follower(informers, self.cache, self.queue, self._ours)
        self._binder = VolumeBinder(client, self.cache, self.queue, self._follower.stirred)
        self._preemptors = {
            name: Preemptor(client, informers, self.cache, clock=clock, events=events)
            for name, events in self._events.items()
        }

    async def run(self) -> None:
        """Work until cancelled."""
        await self._follower.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sink.run(), name="scheduler-events")
            while True:
                pod = await self.queue.get()
                await self._slots.acquire()
                group.create_task(self._place(pod, group), name=f"schedule-{pod.key}")
                # A decision takes no await of its own: let the bindings and watches breathe.
                await asyncio.sleep(0)

    async def _place(self, pod: PodInfo, group: asyncio.TaskGroup) -> None:
        try:
            found = decide(
                pod,
                self.cache.snapshot(),
                self._profiles[_profile(pod)],
                start=self._start,
                memory=self._memory,
            )
            if isinstance(found, Unfit):
                await self._refuse(pod, found)
                return
            self._start = (self._start + found.looked) % max(len(self.cache), 1)
            node = self.cache.node(found.node)
            wanted = needed(pod, node, self.cache.storage) if node and pod.pod.spec.volumes else Bindings()
            self.cache.assume(pod, found.node)
            if wanted:
                # Making a volume may take minutes, which must not hold up the others.
                group.create_task(self._bind_volumes(pod, found, wanted), name=f"volumes-{pod.key}")
            else:
                await self._bind(pod, found)
        except (StatusError, Unreachable) as error:
            log.warning("%s: %s", pod.key, error)
        except Exception:
            # The loop's one catch-all: a pod that breaks a plug-in must not stop the others.
            log.exception("%s", pod.key)
            self._failed(pod)
        finally:
            self._slots.release()

    async def _bind_volumes(self, pod: PodInfo, found: Placement, wanted: Bindings) -> None:
        try:
            await self._binder.bind(pod, wanted, found.node)
            await self._bind(pod, found)
        except (Unbound, StatusError, Unreachable) as error:
            self._failed(pod)
            self._events[_profile(pod)].warning(pod.pod, "FailedScheduling", str(error))

    async def _bind(self, pod: PodInfo, found: Placement) -> None:
        binding = core_v1.Binding(
            metadata=meta_v1.ObjectMeta(name=pod.key.name, namespace=pod.key.namespace, uid=pod.uid),
            target=core_v1.ObjectReference(kind="Node", name=found.node),
        )
        events = self._events[_profile(pod)]
        try:
            await self._client.post(core.PODS, pod.key, "binding", binding)
        except (NotFound, Conflict):
            # Gone, or bound by somebody else: the watch will say which.
            self._failed(pod)
        except (StatusError, Unreachable) as error:
            self._failed(pod)
            events.warning(pod.pod, "FailedScheduling", f"binding rejected: {error}")
        else:
            self.queue.bound(pod.uid)
            events.normal(pod.pod, "Scheduled", f"Successfully assigned {pod.key} to {found.node}")

    def _failed(self, pod: PodInfo) -> None:
        self.cache.forget(pod.uid)
        self.queue.failed(pod.uid)

    async def _refuse(self, pod: PodInfo, why: Unfit) -> None:
        name = _profile(pod)
        preemptor = self._preemptors[name]
        message, preemption = preemptor.look(pod, why, self._profiles[name])
        # First asleep, then the victims go: their going must wake it.
        self.queue.refused(pod.uid, why.plugins)
        if preemption is not None:
            await preemptor.run(pod, preemption)
        self._events[name].warning(pod.pod, "FailedScheduling", message)
        await self._tell(pod, message, nominated=preemption.node if preemption else "")

    async def _tell(self, pod: PodInfo, message: str, *, nominated: str) -> None:
        """Write why it waits, and the node others leave for it, into the pod's status."""
        status: dict[str, object] = {}
        known = next((c for c in pod.pod.status.conditions if c.type == "PodScheduled"), None)
        wish = ("False", "Unschedulable", message)
        if known is None or (known.status, known.reason, known.message) != wish:
            since = stamp(self._clock())
            if known is not None and known.status == "False":
                since = known.last_transition_time
            told = {
                "type": "PodScheduled", "status": "False", "reason": wish[1], "message": message,
                "lastTransitionTime": since,
            }  # fmt: skip
            status["conditions"] = [told]
        if nominated and nominated != pod.pod.status.nominated_node_name:
            status["nominatedNodeName"] = nominated
        if status:
            patch = {"metadata": {"uid": pod.uid}, "status": status}
            await self._client.patch(core.PODS, pod.key, patch, kind=STRATEGIC, subresource="status")

    def _ours(self, pod: core_v1.Pod) -> bool:
        """Tell whether to place this pod: our name, no gates, not going away."""
        return (
            (pod.spec.scheduler_name or NAME) in self._profiles
            and not pod.spec.scheduling_gates
            and not pod.metadata.deletion_timestamp
        )


def _profile(pod: PodInfo) -> str:
    return pod.pod.spec.scheduler_name or NAME
