"""
The kubelet part of the agent: a worker for each pod in the mirror, and what they share.

`Kubelet(...).run()` works until cancelled; containers run on, and the next agent takes them up.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable

from edgekube.api.resource import Object
from edgekube.api.types import core_v1
from edgekube.board.base import Board
from edgekube.control.mirror import Mirror, Reporter
from edgekube.network.base import NetworkError, PodNetwork
from edgekube.node.clock import Clock
from edgekube.node.config import KubeletConfig
from edgekube.node.containers import ContainerCopy
from edgekube.node.host import Host
from edgekube.node.images import ImageKeeper
from edgekube.node.log.files import Rotation
from edgekube.node.orphans import Orphans
from edgekube.node.pod.recall import Recall
from edgekube.node.pod.references import config_maps_of, secrets_of
from edgekube.node.pod.worker import PodWorker
from edgekube.node.probes.check import Answer, Target, check
from edgekube.node.probes.prober import Prober
from edgekube.node.stats import StatsLoop
from edgekube.node.status import NodeStatusLoop
from edgekube.node.streams import Streams
from edgekube.node.volumes.manager import Volumes
from edgekube.node.volumes.reclaim import Reclaimer
from edgekube.runtime.base import ContainerRuntime
from edgekube.transport.base import StreamHandler

log = logging.getLogger(__name__)

OpenNetwork = Callable[[], Awaitable[PodNetwork]]
"""Waits until the node's pod CIDR is known and returns the network; raises NetworkError to be asked again."""
RETRY_NETWORK = 5.0


class Kubelet:
    """All pods of this node. `clock` and `tmpfs` are for tests: virtual time, no mounts."""

    def __init__(
        self, *, mirror: Mirror, reporter: Reporter, runtime: ContainerRuntime, network: OpenNetwork, board: Board,
        config: KubeletConfig, clock: Clock = time.time, tmpfs: bool | None = None,
    ) -> None:  # fmt: skip
        self._mirror, self._runtime, self._config, self._clock = mirror, runtime, config, clock
        self._open_network = network
        self._workers: dict[str, PodWorker] = {}
        self._group: asyncio.TaskGroup | None = None

        async def checker(probe: core_v1.Probe, target: Target) -> Answer:
            return await check(probe, target, runtime.sessions)

        self._host = Host(
            config=config, mirror=mirror, reporter=reporter, runtime=runtime, facts=board.facts(), clock=clock,
            containers=ContainerCopy(runtime.containers, self._containers_changed, period=config.relist_period),
            images=ImageKeeper(runtime.images),
            volumes=Volumes(config, mirror, clock=clock, tmpfs=os.geteuid() == 0 if tmpfs is None else tmpfs),
            prober=Prober(checker, clock=clock), recall=Recall(config.status_dir),
        )  # fmt: skip
        self._node_status = NodeStatusLoop(self._host, board)
        self._host.allocatable = self._node_status.allocatable
        self._stats = StatsLoop(self._host, board)
        self._orphans = Orphans(self._host, self._known)
        self._streams = Streams(self._host)

    @property
    def stream_handler(self) -> StreamHandler:
        """Serves exec, attach, logs and portforward."""
        return self._streams.serve

    async def run(self) -> None:
        """Work until cancelled."""
        host, config = self._host, self._config
        async with asyncio.TaskGroup() as group:
            group.create_task(host.containers.run(), name="containers")
            group.create_task(host.prober.run(), name="prober")
            group.create_task(
                host.images.watch_archives(config.images_dir, self._images_loaded), name="images"
            )
            group.create_task(self._bring_up_network(), name="network")
            group.create_task(self._rotate_logs(), name="logs")
            group.create_task(self._node_status.run(), name="node-status")
            group.create_task(self._stats.run(), name="stats")
            group.create_task(self._orphans.run(), name="orphans")
            group.create_task(Reclaimer(self._mirror, host.reporter).run(), name="volumes")
            # What runs must be known before anything is decided, or it would be started twice.
            await host.containers.synced.wait()
            self._group = group
            self._mirror.pods.subscribe(self._pod_changed)
            self._mirror.config_maps.subscribe(self._config_map_changed)
            self._mirror.secrets.subscribe(self._secret_changed)
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None

    # --- pods ---

    def _pod_changed(self, old: core_v1.Pod | None, new: core_v1.Pod | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            worker = self._workers.get(old.metadata.uid)
            if worker is not None and worker.finished:
                del self._workers[old.metadata.uid]
            elif worker is not None:
                worker.remove()
        if new is None:
            return
        worker = self._workers.get(new.metadata.uid)
        if worker is not None:
            worker.update(new)
        elif self._group is not None:
            worker = self._workers[new.metadata.uid] = PodWorker(self._host, new)
            self._group.create_task(self._work(worker), name=f"pod-{new.metadata.name}")

    async def _work(self, worker: PodWorker) -> None:
        await worker.run()
        meta = worker.pod.metadata
        # A finished worker stays while the mirror still has its pod, lest the pod begin anew.
        current = next((pod for pod in self._mirror.pods if pod.metadata.uid == meta.uid), None)
        if current is None:
            self._workers.pop(meta.uid, None)
        self._orphans.look()

    def _known(self, uid: str) -> bool:
        """Tell whether a pod's things are somebody's business; a finished worker has none left."""
        worker = self._workers.get(uid)
        if worker is not None:
            return not worker.finished
        return any(pod.metadata.uid == uid for pod in self._mirror.pods)

    def _containers_changed(self, uid: str) -> None:
        worker = self._workers.get(uid)
        if worker is not None and not worker.finished:
            worker.wake()
        else:
            self._orphans.look()

    # --- what pods use ---

    def _config_map_changed(self, old: core_v1.ConfigMap | None, new: core_v1.ConfigMap | None) -> None:
        self._source_changed(new or old, config_maps_of)

    def _secret_changed(self, old: core_v1.Secret | None, new: core_v1.Secret | None) -> None:
        self._source_changed(new or old, secrets_of)

    def _source_changed(self, source: Object | None, used: Callable[[core_v1.Pod], set[str]]) -> None:
        if source is None:
            return
        for worker in self._workers.values():
            near = worker.pod.metadata.namespace == source.metadata.namespace
            if near and source.metadata.name in used(worker.pod):
                worker.sources_changed()

    def _images_loaded(self) -> None:
        for worker in self._workers.values():
            worker.retry_images()
        self._node_status.look()

    async def _bring_up_network(self) -> None:
        while self._host.network is None:
            try:
                self._host.network = await self._open_network()
            except NetworkError as error:
                log.warning("network: %s", error)
                await asyncio.sleep(RETRY_NETWORK)
        for worker in self._workers.values():
            worker.wake()
        self._node_status.look()
        self._orphans.look()

    async def _rotate_logs(self) -> None:
        config = self._config
        rotation = Rotation(
            self._runtime.sessions, max_bytes=config.log_max_bytes, max_files=config.log_max_files
        )
        while True:
            await asyncio.sleep(config.log_period)
            await rotation.sweep(self._host.containers.all(), self._clock())
