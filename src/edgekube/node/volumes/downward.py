"""downwardAPI volumes."""

from edgekube.api.types import core_v1
from edgekube.node.env.downward import UnknownField, field_value, resource_value
from edgekube.node.volumes.base import DEFAULT_MODE, Content, Filled, VolumeContext, VolumeError


async def fill(context: VolumeContext, volume: core_v1.Volume) -> Filled:
    """Return the files; raises VolumeError for a field that is not."""
    assert volume.downward_api is not None
    return downward_files(context, volume.downward_api.items, mode=volume.downward_api.default_mode)


def downward_files(
    context: VolumeContext, items: tuple[core_v1.DownwardAPIVolumeFile, ...], *, mode: int | None
) -> Filled:  # fmt: skip
    """Return a file for each item."""
    default = DEFAULT_MODE if mode is None else mode
    try:
        files = {
            item.path: Content(_text(context, item).encode(), default if item.mode is None else item.mode)
            for item in items
        }
    except UnknownField as error:
        raise VolumeError(str(error)) from error
    return Filled(files)


def _text(context: VolumeContext, item: core_v1.DownwardAPIVolumeFile) -> str:
    if item.field_ref is not None:
        return field_value(context.pod, item.field_ref.field_path, context.place)
    if item.resource_field_ref is not None:
        return resource_value(context.pod, item.resource_field_ref, context.place)
    raise VolumeError(f"{item.path} names neither a field nor a resource")
