"""What a kind of volume is given and what it gives back."""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.control.mirror import Mirror
from edgekube.lib.errors import EdgekubeError
from edgekube.node.env.downward import Place

DEFAULT_MODE = 0o644


class VolumeError(EdgekubeError):
    """A volume cannot be made (yet); the message is fit for a FailedMount event."""


@dataclass(frozen=True, slots=True)
class Content:
    """A file in a volume."""

    data: bytes
    mode: int = DEFAULT_MODE


Files = Mapping[str, Content]
"""By path relative to the volume."""

TokenSource = Callable[[str, int], Awaitable[tuple[str, str]]]
"""(audience, seconds) → token and expiry (RFC 3339)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeContext:
    """What volumes are made from. `folder` is the pod's own; `now` seconds since the epoch."""

    pod: core_v1.Pod
    folder: Path
    mirror: Mirror
    config_map: Callable[[Key], core_v1.ConfigMap | None]
    secret: Callable[[Key], core_v1.Secret | None]
    place: Place
    token: TokenSource
    now: float
    resumed: bool = False
    """The pod has run here before, so that it may go on without what only the master can give."""
    tmpfs: bool = True
    """Whether memory-backed volumes may be mounted."""

    @property
    def namespace(self) -> str:
        """The pod's namespace."""
        return self.pod.metadata.namespace

    @property
    def fs_group_policy(self) -> str:
        """Always or OnRootMismatch."""
        context = self.pod.spec.security_context
        return (context.fs_group_change_policy if context else "") or "Always"

    @property
    def fs_group(self) -> int | None:
        """The group that owns volumes; None: nobody asked."""
        context = self.pod.spec.security_context
        return context.fs_group if context else None


@dataclass(frozen=True, slots=True)
class Made:
    """A volume on the node; `refresh_at` says when it must be made again (token rotation)."""

    path: Path
    refresh_at: float = math.inf


@dataclass(frozen=True, slots=True)
class Filled:
    """The files a projection yields, and until when they are good."""

    files: Files
    refresh_at: float = math.inf


def pick(
    data: Mapping[str, bytes], items: tuple[core_v1.KeyToPath, ...], default_mode: int | None, *, what: str, optional: bool
) -> dict[str, Content]:  # fmt: skip
    """Return the files for `items` of `data` (all without items); raises VolumeError for a missing key."""
    mode = DEFAULT_MODE if default_mode is None else default_mode
    if not items:
        return {key: Content(value, mode) for key, value in data.items()}
    found: dict[str, Content] = {}
    for item in items:
        if item.key in data:
            found[item.path] = Content(data[item.key], mode if item.mode is None else item.mode)
        elif not optional:
            raise VolumeError(f"{what} references non-existent {what.partition(' ')[0]} key: {item.key}")
    return found
