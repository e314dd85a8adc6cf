"""secret volumes."""

from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.node.env.environment import secret_data
from edgekube.node.volumes.base import Filled, VolumeContext, VolumeError, pick


async def fill(context: VolumeContext, volume: core_v1.Volume) -> Filled:
    """Return the files; raises VolumeError while the Secret is not there."""
    source = volume.secret
    assert source is not None
    return secret_files(
        context, source.secret_name, source.items, mode=source.default_mode, optional=bool(source.optional)
    )


def secret_files(
    context: VolumeContext, name: str, items: tuple[core_v1.KeyToPath, ...], *, mode: int | None, optional: bool
) -> Filled:  # fmt: skip
    """Return some or all entries of a Secret as files."""
    found = context.secret(Key(context.namespace, name))
    if found is None:
        if optional:
            return Filled({})
        raise VolumeError(f'secret "{name}" not found')
    return Filled(pick(secret_data(found), items, mode, what="secret", optional=optional))
