"""PersistentVolumeClaims: the path of the volume that a claim is bound to."""

import asyncio
from pathlib import Path

from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.control.mirror import Mirror
from edgekube.control.volumes import LOCAL
from edgekube.node.volumes import host_path
from edgekube.node.volumes.base import Made, VolumeContext, VolumeError
from edgekube.node.volumes.ownership import give

OPEN = 0o777
"""Mode of a new volume: whatever user a container runs as may write (as local-path-provisioner has it)."""


def key_of_claim(pod: core_v1.Pod, volume: core_v1.Volume) -> Key:
    """Return the claim that a volume of the pod names, or that was made for it (generic ephemeral volumes)."""
    meta = pod.metadata
    if volume.persistent_volume_claim is not None:
        return Key(meta.namespace, volume.persistent_volume_claim.claim_name)
    return Key(meta.namespace, f"{meta.name}-{volume.name}")


def source_of(mirror: Mirror, pod: core_v1.Pod, volume: core_v1.Volume) -> core_v1.PersistentVolume:
    """Return the PersistentVolume behind a claim; raises VolumeError."""
    key = key_of_claim(pod, volume)
    claim = mirror.claims.get(key)
    if claim is None:
        raise VolumeError(f'persistentvolumeclaim "{key.name}" not found')
    found = mirror.volumes.get(Key("", claim.spec.volume_name)) if claim.spec.volume_name else None
    ref = found.spec.claim_ref if found is not None else None
    if found is None or ref is None or ref.uid != claim.metadata.uid:
        raise VolumeError(f'persistentvolumeclaim "{key.name}" is not bound')
    return found


def path_of(mirror: Mirror, pod: core_v1.Pod, volume: core_v1.Volume) -> Path:
    """Return where the data are; raises VolumeError."""
    spec = source_of(mirror, pod, volume).spec
    if spec.host_path is not None:
        return Path(spec.host_path.path)
    if spec.local is not None:
        return Path(spec.local.path)
    raise VolumeError(
        f'volume "{volume.name}": no volume plugin matched: only hostPath and local volumes are served'
    )


async def make(context: VolumeContext, volume: core_v1.Volume, folder: Path) -> Made:
    """Check that the data are there; a new directory of ours is made. Raises VolumeError."""
    found = source_of(context.mirror, context.pod, volume)
    path = path_of(context.mirror, context.pod, volume)
    if found.spec.local is not None:
        if not path.exists():
            raise VolumeError(f'path "{path}" does not exist')
        if context.fs_group is not None and path.is_dir():
            await _give(context, volume, path, context.fs_group)
        return Made(path)
    fresh = LOCAL in found.metadata.finalizers and not path.exists()
    shown = core_v1.Volume(name=volume.name, host_path=found.spec.host_path)
    made = await host_path.make(context, shown, folder)
    if fresh:
        path.chmod(OPEN)
    return made


async def _give(context: VolumeContext, volume: core_v1.Volume, path: Path, group: int) -> None:
    """Give a local volume to the pod's group: once, before its first container, for that may take long."""
    if context.resumed:
        return
    claim = volume.persistent_volume_claim
    read_only = claim is not None and bool(claim.read_only)
    policy = context.fs_group_policy
    try:
        await asyncio.to_thread(give, path, group, policy=policy, read_only=read_only)
    except OSError as error:
        raise VolumeError(f"applyFSGroup failed for vol {volume.name}: {error}") from error
