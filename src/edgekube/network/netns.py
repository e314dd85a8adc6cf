"""
Network namespaces by the kernel's own calls (unshare(2), setns(2), mount(2)), as `ip netns` names them.

A namespace is entered by threads that end afterwards, so no thread ever has to find its way back.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from edgekube.network.base import NetworkError

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 1 << 20
_MNT_DETACH = 2
_SELF = "/proc/thread-self/ns/net"


def make(path: Path) -> None:
    """Make a namespace known as `path`; one that is there already is kept."""
    if exists(path):
        return
    _share(path.parent)
    path.touch(mode=0o444)

    def born() -> None:
        _call("unshare", _CLONE_NEWNET)
        _call("mount", _SELF.encode(), bytes(path), b"none", _MS_BIND, None)

    in_thread(born)


def remove(path: Path) -> None:
    """Forget the name; the namespace goes when the last process in it has gone."""
    if exists(path):
        _call("umount2", bytes(path), _MNT_DETACH)
    path.unlink(missing_ok=True)


def exists(path: Path) -> bool:
    """Tell whether a namespace is mounted at `path` (and not only the empty file it is mounted on)."""
    try:
        return path.stat().st_dev == Path("/proc/self/ns/net").stat().st_dev
    except OSError:
        return False


def inside(path: Path, work: Callable[[], T]) -> T:
    """Run `work` in the namespace and return its answer; sockets it opens stay in that namespace."""

    def enter() -> T:
        join(path)
        return work()

    return in_thread(enter)


def join(path: Path) -> None:
    """Move the calling thread into the namespace."""
    with path.open("rb") as file:
        _call("setns", file.fileno(), _CLONE_NEWNET)


def in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own, which inherits the caller's namespace, and return or raise its outcome."""
    answers: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(work())
        except BaseException as error:  # noqa: BLE001 - carried over to the waiting thread and raised there
            failures.append(error)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return answers[0]


def _share(folder: Path) -> None:
    """Make `folder` a shared mount, so that unmounting reaches copies in other mount namespaces (as ip-netns(8))."""
    folder.mkdir(parents=True, exist_ok=True)
    name = bytes(folder)
    try:
        _call("mount", b"", name, b"none", _MS_SHARED | _MS_REC, None)
    except NetworkError:
        # EINVAL: not a mount point yet.
        _call("mount", name, name, b"none", _MS_BIND | _MS_REC, None)
        _call("mount", b"", name, b"none", _MS_SHARED | _MS_REC, None)


def _call(name: str, *arguments: bytes | int | None) -> None:
    # Flags are passed as unsigned long where the call wants that; int would do for the values used.
    libc = ctypes.CDLL(None, use_errno=True)
    values = [
        ctypes.c_ulong(item) if name == "mount" and isinstance(item, int) else item for item in arguments
    ]
    if getattr(libc, name)(*values) != 0:
        number = ctypes.get_errno()
        raise NetworkError(f"{name}: {os.strerror(number)}") from OSError(number, os.strerror(number))
