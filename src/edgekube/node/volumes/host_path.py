"""hostPath volumes, checked by type."""

import stat
from collections.abc import Callable
from pathlib import Path

from edgekube.api.types import core_v1
from edgekube.node.volumes.base import Made, VolumeContext, VolumeError

_CHECKS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


async def make(_context: VolumeContext, volume: core_v1.Volume, _folder: Path) -> Made:
    """Check (and for the …OrCreate types make) the path; raises VolumeError."""
    source = volume.host_path
    assert source is not None
    try:
        return Made(_checked(Path(source.path), source.type))
    except OSError as error:
        raise VolumeError(f"hostPath {source.path}: {error.strerror}") from error


def _checked(path: Path, kind: str) -> Path:
    if not path.exists():
        if kind in ("DirectoryOrCreate", ""):
            # Without a type the runtime of old made a folder; podman refuses, so it is made here.
            path.mkdir(parents=True, mode=0o755)
        elif kind == "FileOrCreate":
            path.touch(mode=0o644)
    check = _CHECKS.get(kind)
    if check is not None and not (path.exists() and check[0](path.stat().st_mode)):
        raise VolumeError(f"hostPath type check failed: {path} is not {check[1]}")
    return path
