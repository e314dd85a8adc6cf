"""configMap volumes."""

from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.node.env.environment import config_map_data
from edgekube.node.volumes.base import Filled, VolumeContext, VolumeError, pick


async def fill(context: VolumeContext, volume: core_v1.Volume) -> Filled:
    """Return the files; raises VolumeError while the ConfigMap is not there."""
    source = volume.config_map
    assert source is not None
    return config_map_files(
        context, source.name, source.items, mode=source.default_mode, optional=bool(source.optional)
    )


def config_map_files(
    context: VolumeContext, name: str, items: tuple[core_v1.KeyToPath, ...], *, mode: int | None, optional: bool
) -> Filled:  # fmt: skip
    """Return some or all entries of a ConfigMap as files."""
    found = context.config_map(Key(context.namespace, name))
    if found is None:
        if optional:
            return Filled({})
        raise VolumeError(f'configmap "{name}" not found')
    return Filled(pick(config_map_data(found), items, mode, what="configmap", optional=optional))
