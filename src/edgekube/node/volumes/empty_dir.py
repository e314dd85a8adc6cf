"""emptyDir volumes: a folder, or a tmpfs."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edgekube.api import quantity
from edgekube.api.podresources import of_pod
from edgekube.api.types import core_v1
from edgekube.node.mounts import mount_tmpfs
from edgekube.node.pod.spec import all_containers
from edgekube.node.volumes.base import Made, VolumeContext, VolumeError


async def make(context: VolumeContext, volume: core_v1.Volume, folder: Path) -> Made:
    """Make it once; what is in it stays for the pod's life."""
    source = volume.empty_dir
    assert source is not None
    if source.medium not in ("", "Memory"):
        raise VolumeError(f'storage medium "{source.medium}" is not supported')
    memory = source.medium == "Memory"
    size = memory_size(context.pod, source, context.place.allocatable) if memory else 0
    try:
        _make(folder, context, source.mode or 0o777, size=size, memory=memory)
    except OSError as error:
        raise VolumeError(str(error)) from error
    return Made(folder)


def memory_size(
    pod: core_v1.Pod, source: core_v1.EmptyDirVolumeSource, allocatable: Mapping[str, str]
) -> int:
    """Return the bytes a memory-backed volume may hold: what the volume says, the pod may have, the node has."""
    found = [quantity.value(text) for text in (source.size_limit, allocatable.get("memory", "")) if text]
    limits = [
        (c.resources or core_v1.ResourceRequirements()).limits.get("memory") for c in all_containers(pod)
    ]
    if all(limits):
        found.append(int(of_pod(msgspec.to_builtins(pod.spec), "limits")["memory"]))
    return min((amount for amount in found if amount > 0), default=0)


def _make(folder: Path, context: VolumeContext, mode: int, *, size: int, memory: bool) -> None:
    fresh = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if memory and context.tmpfs and not folder.is_mount():
        mount_tmpfs(folder, size=size)
        fresh = True
    if not fresh:
        return
    folder.chmod(mode)
    if context.fs_group is not None:
        os.chown(folder, -1, context.fs_group)
        folder.chmod(mode | 0o2070)
