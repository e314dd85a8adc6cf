"""image volumes: the files of an image, read only (KEP-4639). The runtime mounts them; here is nothing to make."""

from pathlib import Path

from edgekube.api.types import core_v1
from edgekube.node.volumes.base import Made, VolumeContext


async def make(_context: VolumeContext, _volume: core_v1.Volume, folder: Path) -> Made:
    """Do nothing: the image is pulled with the container's own."""
    return Made(folder)


def images_of(pod: core_v1.Pod, container: core_v1.Container) -> list[core_v1.Container]:
    """Return what to pull for the container's image volumes, in the shape of containers."""
    mounted = {mount.name for mount in container.volume_mounts}
    return [
        core_v1.Container(
            name=container.name, image=volume.image.reference, image_pull_policy=volume.image.pull_policy
        )
        for volume in pod.spec.volumes
        if volume.image is not None and volume.name in mounted and volume.image.reference
    ]
