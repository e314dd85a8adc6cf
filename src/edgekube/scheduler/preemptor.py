"""Making room: what a preemption does to the cluster."""

from collections.abc import Iterable

from edgekube.api.errors import Conflict, NotFound
from edgekube.api.kinds import core_v1 as core
from edgekube.api.kinds import policy_v1 as policy
from edgekube.api.types import policy_v1
from edgekube.client.typed import MERGE, STRATEGIC, Client
from edgekube.control.clock import Clock, stamp
from edgekube.control.events import Recorder
from edgekube.control.informer import Informers
from edgekube.scheduler.cache import Cache
from edgekube.scheduler.decide import Unfit
from edgekube.scheduler.infos import PodInfo
from edgekube.scheduler.plugins import Plugins
from edgekube.scheduler.preempt import WAITING, Preemption, preempt, waits


class Preemptor:
    """Decides whether others go for a pod, and sends them away."""

    def __init__(
        self, client: Client, informers: Informers, cache: Cache, *, clock: Clock, events: Recorder
    ) -> None:
        self._client, self._cache, self._clock, self._events = client, cache, clock, events
        self._budgets: Iterable[policy_v1.PodDisruptionBudget] = informers.of(policy.POD_DISRUPTION_BUDGETS)

    def look(self, pod: PodInfo, why: Unfit, plugins: Plugins) -> tuple[str, Preemption | None]:
        """Return what to tell of the refusal, and who should go if anybody."""
        if not why.candidates or pod.pod.spec.preemption_policy == "Never":
            return str(why), None
        snapshot = self._cache.snapshot()
        if waits(pod, snapshot):
            return f"{why.message} preemption: {WAITING}", None
        found = preempt(pod, snapshot, plugins, candidates=why.candidates, budgets=self._budgets)
        return (str(why), None) if found is None else (why.message, found)

    async def run(self, pod: PodInfo, found: Preemption) -> None:
        """Send the victims away; pods that hoped for the same room, but matter less, hope no more."""
        for other in self._cache.nominated(found.node):
            if other.priority < pod.priority:
                self._cache.nominate(other, "")
                await self._patch(other, {"nominatedNodeName": None}, MERGE)
        self._cache.nominate(pod, found.node)
        for victim in found.victims:
            if not victim.pod.metadata.deletion_timestamp:
                await self._evict(victim, pod, found.node)

    async def _evict(self, victim: PodInfo, pod: PodInfo, node: str) -> None:
        name = pod.pod.spec.scheduler_name or "default-scheduler"
        condition = {
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
            "message": f"{name}: preempting to accommodate a higher priority pod",
            "lastTransitionTime": stamp(self._clock()),
        }  # fmt: skip
        await self._patch(victim, {"conditions": [condition]}, STRATEGIC)
        try:
            await self._client.delete(core.PODS, victim.key, uid=victim.uid)
        except (NotFound, Conflict):
            return
        self._events.normal(victim.pod, "Preempted", f"Preempted by pod {pod.uid} on node {node}")

    async def _patch(self, pod: PodInfo, status: dict[str, object], kind: str) -> None:
        patch = {"metadata": {"uid": pod.uid}, "status": status}
        try:
            await self._client.patch(core.PODS, pod.key, patch, kind=kind, subresource="status")
        except (NotFound, Conflict):
            return
