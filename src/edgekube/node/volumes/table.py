"""The kinds of volumes: by the field of `Volume` that is set."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from edgekube.api.types import core_v1
from edgekube.node.mounts import mount_tmpfs
from edgekube.node.volumes import claim, config_map, downward, empty_dir, host_path, image, projected, secret
from edgekube.node.volumes.atomic import write_files
from edgekube.node.volumes.base import Filled, Made, VolumeContext, VolumeError

Make = Callable[[VolumeContext, core_v1.Volume, Path], Awaitable[Made]]
Fill = Callable[[VolumeContext, core_v1.Volume], Awaitable[Filled]]


def _filled(fill: Fill, *, memory: bool) -> Make:
    """Return the maker of a volume whose files are ours to write; in `memory` nothing secret reaches flash."""

    async def make(context: VolumeContext, volume: core_v1.Volume, folder: Path) -> Made:
        filled = await fill(context, volume)
        try:
            if memory and context.tmpfs:
                mount_tmpfs(folder)
            write_files(folder, filled.files, group=context.fs_group)
        except OSError as error:
            raise VolumeError(str(error)) from error
        return Made(folder, filled.refresh_at)

    return make


KINDS: dict[str, Make] = {
    "config_map": _filled(config_map.fill, memory=False),
    "secret": _filled(secret.fill, memory=True),
    "downward_api": _filled(downward.fill, memory=False),
    "projected": _filled(projected.fill, memory=True),
    "empty_dir": empty_dir.make,
    "host_path": host_path.make,
    "image": image.make,
    "persistent_volume_claim": claim.make,
    "ephemeral": claim.make,
}
READ_ONLY = frozenset(("config_map", "secret", "downward_api", "projected", "image"))


def kind_of(volume: core_v1.Volume) -> str:
    """Return the name of the field that is set; raises VolumeError for a kind this node has not."""
    for name in KINDS:
        if getattr(volume, name) is not None:
            return name
    others = [
        name for name in volume.__struct_fields__ if name != "name" and getattr(volume, name) is not None
    ]
    raise VolumeError(f'volume "{volume.name}": no volume plugin matched {", ".join(others) or "it"}')
