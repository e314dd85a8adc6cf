"""What is left of memory, disks and processes, and what each pod takes of them."""

import asyncio
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekube.api.types import core_v1
from edgekube.board.base import BoardUsage
from edgekube.node import labels
from edgekube.node.eviction.plan import Observation
from edgekube.node.eviction.rank import ContainerUse, PodUse
from edgekube.node.folders import PodFolder
from edgekube.node.host import Host
from edgekube.node.log.files import generations, size_of
from edgekube.runtime.base import ContainerInfo, Usage

BLOCK = 512
"""Bytes of a block as stat(2) counts them."""


def observations(usage: BoardUsage, *, memory: int) -> dict[str, Observation]:
    """Return what there is of each signal; `memory` is the machine's, in bytes. What is not known is left out."""
    images = (
        usage.image_disk_available, usage.image_disk_capacity, usage.image_inodes_free, usage.image_inodes,
    ) if usage.image_disk_capacity else (
        usage.disk_available, usage.disk_capacity, usage.inodes_free, usage.inodes,
    )  # fmt: skip
    found = {
        "memory.available": Observation(usage.memory_available, memory),
        "nodefs.available": Observation(usage.disk_available, usage.disk_capacity),
        "nodefs.inodesFree": Observation(usage.inodes_free, usage.inodes),
        "imagefs.available": Observation(*images[:2]),
        "imagefs.inodesFree": Observation(*images[2:]),
    }
    if usage.processes_limit:
        left = usage.processes_limit - usage.processes
        found["pid.available"] = Observation(left, usage.processes_limit)
    return found


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes on disk and inodes."""

    size: int = 0
    inodes: int = 0


def space_of(folder: Path) -> Space:
    """Return what a tree takes on its file system, as du(1) counts; what vanishes meanwhile is not counted."""
    size = inodes = 0
    seen: set[int] = set()
    try:
        device = folder.lstat().st_dev
    except OSError:
        return Space()
    stack = [str(folder)]
    while stack:
        try:
            entries = list(os.scandir(stack.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                about = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if about.st_dev != device or about.st_ino in seen:
                continue
            if about.st_nlink > 1:
                seen.add(about.st_ino)
            size, inodes = size + about.st_blocks * BLOCK, inodes + 1
            if entry.is_dir(follow_symlinks=False):
                stack.append(entry.path)
    return Space(size, inodes)


class Meter:
    """Measures pods. Memory and processes cost one call of the runtime; disks are walked, so only when asked for."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def measure(
        self, pods: Iterable[core_v1.Pod], *, disk: bool, layers_too: bool = True
    ) -> list[PodUse]:
        """Return what each pod uses, `layers_too` what it wrote besides its volumes; raises RuntimeFailure."""
        host = self._host
        used = {item.id: item for item in await host.runtime.containers.usage()}
        layers = await host.runtime.containers.sizes() if disk and layers_too else {}
        found = []
        for pod in pods:
            infos = host.containers.of_pod(pod.metadata.uid)
            folder = PodFolder.of(host.config.pods_dir, pod)
            volumes = await asyncio.to_thread(_volumes, pod, folder) if disk else {}
            containers = await asyncio.to_thread(_containers, infos, used, layers)
            sizes = {name: space.size for name, space in volumes.items()}
            found.append(PodUse(pod, containers, sizes, sum(space.inodes for space in volumes.values())))
        return found


def _volumes(pod: core_v1.Pod, folder: PodFolder) -> dict[str, Space]:
    """Return the local volumes' use; one in memory is not on a disk."""
    local = [v.name for v in pod.spec.volumes if v.empty_dir is not None and v.empty_dir.medium != "Memory"]
    return {name: space_of(folder.volume(name)) for name in local}


def _containers(
    infos: Iterable[ContainerInfo], used: Mapping[str, Usage], layers: Mapping[str, int]
) -> dict[str, ContainerUse]:
    found: dict[str, ContainerUse] = {}
    for info in infos:
        name = info.labels.get(labels.CONTAINER_NAME, "")
        before, usage = found.get(name, ContainerUse()), used.get(info.id)
        logs = generations(Path(info.labels.get(labels.LOG_PATH, ""))) if layers else []
        found[name] = ContainerUse(
            memory=before.memory + (usage.working_set_bytes if usage else 0),
            disk=before.disk + layers.get(info.id, 0) + sum(size_of(path) for path in logs),
            inodes=before.inodes + len(logs),
            pids=before.pids + (usage.pids if usage else 0),
        )
    return found
