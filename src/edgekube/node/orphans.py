"""What belongs to no pod we know: containers, network namespaces, folders, cgroups. Only once the mirror is complete."""

import asyncio
import logging
from collections.abc import Callable

from edgekube.lib.backoff import Backoff
from edgekube.lib.errors import EdgekubeError
from edgekube.node import labels
from edgekube.node.cgroups import pod_cgroups, remove_cgroup
from edgekube.node.folders import PodFolder
from edgekube.node.host import Host
from edgekube.runtime.base import ContainerInfo, Phase

log = logging.getLogger(__name__)

GRACE = 10.0
RETRY = 30.0
CGROUP_RETRY = 6.0
"""Seconds; the runtime's monitors stay for 5 s after an exec."""


class Orphans:
    """Removes leftovers. `known(uid)` tells which pods are somebody's business."""

    def __init__(self, host: Host, known: Callable[[str], bool]) -> None:
        self._host, self._known = host, known
        self._wake = asyncio.Event()
        self._wake.set()
        self._backoff = Backoff[str](first=CGROUP_RETRY, limit=600.0)

    def look(self) -> None:
        """Look again soon."""
        self._wake.set()

    async def run(self) -> None:
        """Look whenever asked, until cancelled."""
        await self._host.mirror.pods.synced.wait()
        await self._host.containers.synced.wait()
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._sweep()
            except (EdgekubeError, OSError) as error:
                log.warning("orphans: %s", error)
                asyncio.get_running_loop().call_later(RETRY, self.look)

    async def _sweep(self) -> None:
        strays = [i for i in self._host.containers.all() if not self._known(i.labels.get(labels.POD_UID, ""))]
        if strays:
            await asyncio.gather(*(self._end(info) for info in strays))
        network = self._host.network
        if network is not None:
            for attachment in await network.list():
                if not self._known(attachment.uid):
                    log.info("network of unknown pod %s", attachment.uid)
                    await network.detach(attachment.uid)
        for folder in await asyncio.to_thread(self._folders):
            if not self._known(folder.uid):
                await self._host.volumes.remove(folder, everything=True)

        for uid in self._host.recall.uids():
            if not self._known(uid):
                self._host.recall.forget(uid)
        if self._remove_cgroups():
            self._backoff.forget("cgroups")
        else:
            asyncio.get_running_loop().call_later(self._backoff.next("cgroups"), self.look)

    def _remove_cgroups(self) -> bool:
        config = self._host.config
        found = pod_cgroups(config.cgroup_mount, config.cgroup_root)
        strays = [path for path, uid in found.items() if not self._known(uid)]
        removed = [remove_cgroup(config.cgroup_mount, path) for path in strays]
        return all(removed)

    async def _end(self, info: ContainerInfo) -> None:
        log.info("container %s of unknown pod", info.name)
        containers = self._host.runtime.containers
        if info.phase is Phase.RUNNING:
            await containers.stop(info.id, grace=GRACE)
        await containers.remove(info.id)
        await self._host.containers.refresh(info.id)

    def _folders(self) -> list[PodFolder]:
        root = self._host.config.pods_dir
        return [PodFolder(path) for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
