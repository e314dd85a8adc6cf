"""projected volumes: several sources in one folder, among them rotating ServiceAccount tokens."""

import math

from edgekube.api.types import core_v1
from edgekube.node.clock import parse_stamp
from edgekube.node.folders import PodFolder
from edgekube.node.volumes.base import DEFAULT_MODE, Content, Filled, VolumeContext, VolumeError
from edgekube.node.volumes.config_map import config_map_files
from edgekube.node.volumes.downward import downward_files
from edgekube.node.volumes.secret import secret_files
from edgekube.transport.base import Disconnected

DEFAULT_EXPIRATION = 3600
ROTATE_AT = 0.8
"""Part of a token's life after which it is replaced (kubelet's token manager)."""
OFFLINE_RETRY = 15.0
"""Seconds after which the master is asked again for a token."""


async def fill(context: VolumeContext, volume: core_v1.Volume) -> Filled:
    """Return the files of all sources; raises VolumeError."""
    assert volume.projected is not None
    mode = volume.projected.default_mode
    files: dict[str, Content] = {}
    refresh_at = math.inf
    for source in volume.projected.sources:
        filled = await _source(context, volume.name, source, mode=mode)
        files |= filled.files
        refresh_at = min(refresh_at, filled.refresh_at)
    return Filled(files, refresh_at)


async def _source(
    context: VolumeContext, volume: str, source: core_v1.VolumeProjection, *, mode: int | None
) -> Filled:
    if (config_map := source.config_map) is not None:
        return config_map_files(
            context, config_map.name, config_map.items, mode=mode, optional=bool(config_map.optional)
        )
    if (secret := source.secret) is not None:
        return secret_files(context, secret.name, secret.items, mode=mode, optional=bool(secret.optional))
    if source.downward_api is not None:
        return downward_files(context, source.downward_api.items, mode=mode)
    if source.service_account_token is not None:
        return await _token(context, volume, source.service_account_token, mode=mode)
    raise VolumeError("projected volume source is not supported")


async def _token(
    context: VolumeContext, volume: str, source: core_v1.ServiceAccountTokenProjection, *, mode: int | None
) -> Filled:
    seconds = source.expiration_seconds or DEFAULT_EXPIRATION
    # Read by a process that may not be root: with fsGroup the group reads it, else its user is unknown.
    bits = 0o600 if context.fs_group is not None else DEFAULT_MODE if mode is None else mode
    try:
        token, expiry = await context.token(source.audience, seconds)
    except Disconnected as error:
        if not context.resumed:
            raise VolumeError(f"failed to fetch token: {error}") from error
        # A node that starts without its master starts its pods; whom the token is for is away too.
        known = _known(context, volume, source.path)
        return Filled({source.path: Content(known, bits)} if known else {}, context.now + OFFLINE_RETRY)
    life = max(parse_stamp(expiry) - context.now, 0.0)
    return Filled({source.path: Content(token.encode(), bits)}, context.now + max(life * ROTATE_AT, 10.0))


def _known(context: VolumeContext, volume: str, path: str) -> bytes:
    """Return the token that is in the volume; empty when there is none."""
    try:
        return (PodFolder(context.folder).volume(volume) / path).read_bytes()
    except OSError:
        return b""
