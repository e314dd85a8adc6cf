"""Removing pods nobody else will: of nodes that are gone, never bound but being deleted, ended and too many."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgekube.api.errors import Conflict, NotFound
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1
from edgekube.control.clock import stamp
from edgekube.control.reconcile import Controller
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context
from edgekube.controllers.pods import ENDED

QUARANTINE = 40.0
"""Seconds a node must be gone before its pods are (a node may be registered again)."""
ALL = "all"


@dataclass(frozen=True, slots=True)
class Plan:
    """`orphans` run on no node any more and are to be marked failed first; `surplus` only go."""

    orphans: tuple[core_v1.Pod, ...]
    surplus: tuple[core_v1.Pod, ...]
    again: float | None


def plan(
    pods: Sequence[core_v1.Pod],
    nodes: Collection[str],
    missing: Mapping[str, float],
    now: float,
    *,
    keep: int,
) -> Plan:
    """Decide; `missing` tells since when a node has not been there."""
    orphans, surplus, waits = [], [], []
    ended = []
    for pod in pods:
        name = pod.spec.node_name
        if name and name not in nodes:
            wait = missing.get(name, now) + QUARANTINE - now
            if wait <= 0:
                orphans.append(pod)
            else:
                waits.append(wait)
        elif not name and pod.metadata.deletion_timestamp:
            surplus.append(pod)
        elif pod.status.phase in ENDED and not pod.metadata.deletion_timestamp:
            ended.append(pod)
    ended.sort(key=lambda pod: (pod.metadata.creation_timestamp, pod.metadata.name))
    if keep > 0:
        surplus += ended[: max(len(ended) - keep, 0)]
    return Plan(tuple(orphans), tuple(surplus), min(waits, default=None))


class PodGc:
    """One key: all pods."""

    def __init__(self, context: Context) -> None:
        self.pods = context.informers.of(core.PODS)
        self.nodes = context.informers.of(core.NODES)
        self._client = context.client
        self._writer = Writer(context.client, self.pods)
        self._clock, self._keep = context.clock, context.options.terminated_pods
        self._missing: dict[str, float] = {}

    def keys_of_pod(self, pod: core_v1.Pod) -> Iterable[str]:
        """Say whether a pod may be one for us."""
        name = pod.spec.node_name
        stray = self.nodes.get(Key("", name)) is None if name else bool(pod.metadata.deletion_timestamp)
        return [ALL] if stray or pod.status.phase in ENDED else []

    async def reconcile(self, _key: str) -> float | None:
        """Remove what is to be removed."""
        now = self._clock()
        nodes = {node.metadata.name for node in self.nodes}
        strays = {pod.spec.node_name for pod in self.pods if pod.spec.node_name} - nodes
        self._missing = {name: self._missing.get(name, now) for name in strays}
        decided = plan(tuple(self.pods), nodes, self._missing, now, keep=self._keep)
        for pod in decided.orphans:
            await self._orphan(pod, now)
        for pod in decided.surplus:
            await self._writer.delete(pod, grace=0)
        return decided.again

    async def _orphan(self, pod: core_v1.Pod, now: float) -> None:
        try:
            await self._client.get(core.NODES, Key("", pod.spec.node_name))
        except NotFound:
            pass
        else:
            return
        if pod.status.phase not in ENDED:
            condition = {
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists", "lastTransitionTime": stamp(now),
            }  # fmt: skip
            patch = {
                "metadata": {"uid": pod.metadata.uid},
                "status": {"phase": "Failed", "conditions": [condition]},
            }
            try:
                pod = await self._writer.patch(
                    key_of(pod), patch, kind="application/strategic-merge-patch+json", subresource="status"
                )
            except (NotFound, Conflict):
                return
        await self._writer.delete(pod, grace=0)


def build(context: Context) -> Controller[str]:
    """Return the loop."""
    logic = PodGc(context)
    controller = Controller("pod-gc", logic)
    controller.watch(logic.pods, logic.keys_of_pod)
    controller.watch(logic.nodes, lambda _: [ALL])
    return controller
