"""emptyDir volumes: a folder, or a tmpfs."""

import os
from pathlib import Path

from edgekube.api import quantity
from edgekube.api.types import core_v1
from edgekube.node.mounts import mount_tmpfs
from edgekube.node.volumes.base import Made, VolumeContext, VolumeError


async def make(context: VolumeContext, volume: core_v1.Volume, folder: Path) -> Made:
    """Make it once; what is in it stays for the pod's life."""
    source = volume.empty_dir
    assert source is not None
    size = quantity.value(source.size_limit) if source.size_limit else 0
    try:
        _make(folder, context, source.mode or 0o777, size=size, memory=source.medium == "Memory")
    except OSError as error:
        raise VolumeError(str(error)) from error
    return Made(folder)


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
