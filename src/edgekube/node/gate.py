"""Who may begin on this node: asks once for each pod that has not begun."""

import asyncio
from collections.abc import Callable, Iterator, Mapping

from edgekube.api.types import core_v1
from edgekube.node.admission import AFFINITY, Place, Requests, refusal, taken
from edgekube.node.host import Host
from edgekube.node.pod.allocation import granted
from edgekube.node.pod.plan import TERMINAL_PHASES
from edgekube.node.pod.state import Doom
from edgekube.node.pod.worker import PodWorker
from edgekube.node.status import NodeStatusLoop

LABELS_LATE, LABELS_LOOK = 5.0, 0.5
"""Seconds a label may come later than the pod that wants it, and between two looks."""


class Gate:
    """Admission. `pressure(pod)` tells why a pod may not begin for want of memory or disk."""

    def __init__(
        self, host: Host, status: NodeStatusLoop, workers: Mapping[str, PodWorker],
        pressure: Callable[[core_v1.Pod], Doom | None],
    ) -> None:  # fmt: skip
        self._host, self._status, self._workers, self._pressure = host, status, workers, pressure
        self._requests = Requests()
        self.closed: Doom | None = None
        """Why nobody at all may begin any more."""

    def admit(self, worker: PodWorker) -> bool:
        """Refuse a pod that has not begun if it may not begin here; False when it is too early to say."""
        pod = worker.pod
        begun = worker.memory.status is not None or bool(self._host.containers.of_pod(pod.metadata.uid))
        if begun or pod.metadata.deletion_timestamp or pod.status.phase in TERMINAL_PHASES:
            return True
        doom = self.closed or self._pressure(pod) or self._refusal(pod)
        if doom is not None and doom.reason == AFFINITY:
            return False
        if doom is not None:
            self._refuse(worker, doom)
        return True

    async def admit_late(self, worker: PodWorker) -> None:
        """Give the node's own new labels a moment: they come another way than the pod that wants them."""
        doom: Doom | None = None
        for _ in range(int(LABELS_LATE / LABELS_LOOK)):
            await asyncio.sleep(LABELS_LOOK)
            doom = self._refusal(worker.pod)
            if doom is None or not worker.active or worker.pod.metadata.deletion_timestamp:
                return
        if doom is not None:
            self._refuse(worker, doom)

    def forget(self, uid: str) -> None:
        """Drop a pod that is gone."""
        self._requests.forget(uid)

    def _refusal(self, pod: core_v1.Pod) -> Doom | None:
        status = self._status
        place = Place(
            name=self._host.config.node_name, labels=status.labels(), taints=status.taints(),
            allocatable=status.allocatable(), pods=taken(self._begun(), pod.metadata.uid), requests=self._requests,
        )  # fmt: skip
        return refusal(pod, place)

    def _begun(self) -> Iterator[core_v1.Pod]:
        """Yield the pods that have room here: admitted, or running since before we were started."""
        for worker in self._workers.values():
            if worker.active and worker.memory.doom is None:
                yield granted(worker.pod, worker.memory.granted)
        for pod in self._host.mirror.pods:
            if pod.metadata.uid not in self._workers and self._host.containers.of_pod(pod.metadata.uid):
                yield pod

    def _refuse(self, worker: PodWorker, doom: Doom) -> None:
        words = doom.message.removeprefix("Pod was rejected: ")
        self._host.event(worker.pod, doom.reason, words, warning=True)
        worker.doom(doom)
