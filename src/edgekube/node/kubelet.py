"""
The kubelet part of the agent: a worker for each pod in the mirror, and what they share.

`Kubelet(...).run()` works until cancelled; containers run on, and the next agent takes them up.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

from edgekube.api.resource import Key, Object
from edgekube.api.types import core_v1
from edgekube.board.base import Board
from edgekube.control.mirror import Mirror, NodeEvent, Reporter
from edgekube.network.base import NetworkError, PodNetwork
from edgekube.node import shutdown
from edgekube.node.clock import Clock
from edgekube.node.config import KubeletConfig
from edgekube.node.containers import ContainerCopy
from edgekube.node.deadcontainers import DeadContainers
from edgekube.node.eviction.loop import Evictor
from edgekube.node.gate import Gate
from edgekube.node.host import Host
from edgekube.node.imagegc import ImageCollector, PulledImages
from edgekube.node.images import ImageKeeper
from edgekube.node.log.files import Rotation
from edgekube.node.manifest import from_master
from edgekube.node.orphans import Orphans
from edgekube.node.pod.allocation import Allocations
from edgekube.node.pod.recall import Recall
from edgekube.node.pod.references import config_maps_of, secrets_of
from edgekube.node.pod.worker import PodWorker
from edgekube.node.podcgroups import PodCgroups
from edgekube.node.probes.check import Answer, Target, check
from edgekube.node.probes.prober import Prober
from edgekube.node.staticpods import MirrorReporter, StaticPods
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

        pulled = PulledImages(config.pulled_images, clock)
        self._reporter = MirrorReporter(reporter, mirror)
        self._host = Host(
            config=config, mirror=mirror, reporter=self._reporter, runtime=runtime, facts=board.facts(), clock=clock,
            containers=ContainerCopy(runtime.containers, self._containers_changed, period=config.relist_period),
            images=ImageKeeper(runtime.images, pulled=pulled.add),
            volumes=Volumes(config, mirror, clock=clock, tmpfs=os.geteuid() == 0 if tmpfs is None else tmpfs),
            prober=Prober(checker, clock=clock), recall=Recall(config.status_dir),
            allocations=Allocations(config.pods_dir), cgroups=PodCgroups(config),
        )  # fmt: skip
        self._dead = DeadContainers(self._host, self._is_over)
        self._collector = ImageCollector(self._host, board, self._pods, pulled)
        self._evictor = Evictor(
            self._host, board, self._workers.values, changed=self._pressures_changed,
            reclaim=(self._dead.delete_unused, self._collector.delete_unused),
        )  # fmt: skip
        self._static = StaticPods(
            config.manifests_dir, config.node_name, self._reporter, mirror, clock=clock,
            changed=self._static_changed, alive=self._is_alive,
        )  # fmt: skip
        self._host.static_pod = self._static.get
        self._node_status = NodeStatusLoop(self._host, board, true=lambda: self._evictor.conditions)
        self._host.allocatable = self._node_status.allocatable
        self._gate = Gate(self._host, self._node_status, self._workers, self._evictor.refuses)
        self._stats = StatsLoop(self._host, board)
        self._orphans = Orphans(self._host, self._known)
        self._streams = Streams(self._host)

    @property
    def stream_handler(self) -> StreamHandler:
        """Serves exec, attach, logs and portforward."""
        return self._streams.serve

    def set_node_ip(self, address: str, address6: str) -> None:
        """Go by other addresses (IPv6: "" for none) from now on; the pods' hostIP follows."""
        self._host.config = replace(self._host.config, node_ip=address, node_ip6=address6)
        self._node_status.look()
        for worker in self._workers.values():
            worker.wake()

    def set_network_problem(self, problem: str) -> None:
        """Say in the node's conditions and in an event why others do not reach its pods; "": they do."""
        self._host.network_problem = problem
        self._node_status.look()
        if problem:
            name = self._config.node_name
            self._host.reporter.event(
                NodeEvent(
                    path="v1/nodes", key=Key("", name), uid=name, type="Warning", reason="PodCIDRConflict",
                    message=problem,
                )
            )  # fmt: skip

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
            group.create_task(self._sweep(), name="orphans")
            group.create_task(Reclaimer(self._mirror, host.reporter).run(), name="volumes")
            group.create_task(self._evictor.run(), name="eviction")
            group.create_task(self._collector.run(), name="image-gc")
            group.create_task(self._dead.run(), name="dead-containers")
            # What runs must be known before anything is decided, or it would be started twice.
            await host.containers.synced.wait()
            self._group = group
            group.create_task(self._static.run(), name="static-pods")
            self._mirror.pods.subscribe(self._bound_changed)
            self._mirror.config_maps.subscribe(self._config_map_changed)
            self._mirror.secrets.subscribe(self._secret_changed)
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None

    async def shut_down(self, *, grace: float, critical: float) -> None:
        """End the pods, for the machine is being shut down; seconds as in `shutdown.end`."""
        self._gate.closed = shutdown.REFUSED
        self._node_status.trouble = shutdown.READY
        self._node_status.look()
        workers = tuple(self._workers.values())
        await shutdown.end(workers, grace=grace, critical=critical)
        for pod in self._static:
            # They come back with the machine.
            self._host.recall.forget(pod.metadata.uid)

    # --- pods ---

    def _bound_changed(self, old: core_v1.Pod | None, new: core_v1.Pod | None) -> None:
        """Take a change of the pods that the master has for us; mirrors of our own are none."""
        self._pod_changed(from_master(old), from_master(new))

    def _static_changed(self, old: core_v1.Pod | None, new: core_v1.Pod | None) -> None:
        if new is not None:
            self._reporter.adopt(new)
        self._pod_changed(old, new)

    async def _sweep(self) -> None:
        # Before that, what belongs to static pods seems to belong to nobody.
        await self._static.loaded.wait()
        await self._orphans.run()

    def _is_alive(self, uid: str) -> bool:
        worker = self._workers.get(uid)
        return worker is not None and not worker.finished

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
            work = self._work(worker, late=not self._gate.admit(worker))
            self._group.create_task(work, name=f"pod-{new.metadata.name}")

    async def _work(self, worker: PodWorker, *, late: bool) -> None:
        if late:
            await self._gate.admit_late(worker)
        await worker.run()
        meta = worker.pod.metadata
        # A finished worker stays while the mirror still has its pod, lest the pod begin anew.
        current = next((pod for pod in self._mirror.pods if pod.metadata.uid == meta.uid), None)
        if current is None:
            self._workers.pop(meta.uid, None)
        self._reporter.forget(meta.uid)
        self._gate.forget(meta.uid)
        self._static.look()
        self._orphans.look()

    def _pods(self) -> Iterator[core_v1.Pod]:
        """Yield all pods that are to be here, begun or not; what has ended needs no image any more."""
        yield from self._static
        yield from (pod for pod in self._mirror.pods if not self._is_over(pod.metadata.uid))
        yield from (worker.pod for worker in self._workers.values() if worker.active)

    def _is_over(self, uid: str) -> bool:
        worker = self._workers.get(uid)
        return worker is not None and worker.memory.final

    def _pressures_changed(self) -> None:
        self._node_status.look()

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
