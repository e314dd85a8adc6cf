"""mount(2) and umount2(2) through libc: two calls need no subprocess."""

import ctypes
import os
from pathlib import Path

MS_NOSUID, MS_NODEV = 2, 4
MNT_DETACH = 2


def mount_tmpfs(folder: Path, *, size: int = 0) -> None:
    """Mount a tmpfs of `size` bytes (0: the kernel's default, half the memory); harmless when one is there."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.is_mount():
        return
    options = f"mode=0777{f',size={size}' if size else ''}"
    _check(
        _libc().mount(b"tmpfs", os.fsencode(folder), b"tmpfs", MS_NOSUID | MS_NODEV, options.encode()), folder
    )


def unmount(folder: Path) -> None:
    """Unmount, even while in use; harmless when nothing is mounted."""
    if folder.is_mount():
        _check(_libc().umount2(os.fsencode(folder), MNT_DETACH), folder)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(answer: int, folder: Path) -> None:
    if answer != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(folder))
