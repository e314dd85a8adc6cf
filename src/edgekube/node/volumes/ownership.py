"""Giving a volume to the pod's fsGroup (pkg/volume/volume_linux.go): its files, and what it may do with them."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

READ_WRITE, READ_ONLY, ENTER = 0o660, 0o440, 0o110
ON_ROOT_MISMATCH = "OnRootMismatch"


def give(folder: Path, group: int, *, policy: str, read_only: bool = False) -> bool:
    """
    Let `group` own everything in `folder`; tell whether anything was looked at.

    With the policy OnRootMismatch nothing is done when the folder itself is as it should be already.
    Raises OSError.
    """
    if policy == ON_ROOT_MISMATCH and _is_right(folder, group, read_only=read_only):
        return False
    bits = READ_ONLY if read_only else READ_WRITE
    # The folder itself last: as long as it is not right, the work is not done.
    for path in (*_below(folder), folder):
        about = path.lstat()
        if stat.S_ISLNK(about.st_mode):
            continue
        if about.st_gid != group:
            os.chown(path, -1, group)
        wanted = stat.S_IMODE(about.st_mode) | bits
        if stat.S_ISDIR(about.st_mode):
            wanted |= stat.S_ISGID | ENTER
        if wanted != stat.S_IMODE(path.lstat().st_mode):
            path.chmod(wanted)
    return True


def _is_right(folder: Path, group: int, *, read_only: bool) -> bool:
    about = folder.stat()
    wanted = (READ_ONLY if read_only else READ_WRITE) | ENTER | stat.S_ISGID
    return about.st_gid == group and stat.S_IMODE(about.st_mode) & wanted == wanted


def _below(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder, topdown=False):
        for name in (*files, *folders):
            yield Path(root, name)
