"""Kernel settings of the calling thread's network namespace (sysctl(8), /proc/sys/net)."""

import re
from collections.abc import Sequence
from pathlib import Path

from edgekube.network.base import NetworkError

_NAME = re.compile(r"net[./][A-Za-z0-9._/-]+")
_PROC = Path("/proc/sys")


def is_network(name: str) -> bool:
    """Tell whether a setting belongs to the network namespace."""
    return name.startswith(("net.", "net/"))


def path_of(name: str) -> str:
    """Return the file of a setting: the separator is whichever of "." and "/" comes first (sysctl.d(5))."""
    if not _NAME.fullmatch(name) or ".." in name or "//" in name:
        raise NetworkError(f"bad sysctl name {name!r}")
    return name if name[3] == "/" else name.translate(str.maketrans("./", "/."))


def write(path: str, value: str, *, missing_ok: bool = False) -> None:
    """Set what is at `path` below /proc/sys; NetworkError if it cannot be, or is not there."""
    file = _PROC / path
    try:
        # What is so already need not be writable (/proc/sys is read-only in many containers).
        if file.read_text().split() != value.split():
            file.write_text(value)
    except OSError as error:
        if missing_ok and not file.exists():
            return
        raise NetworkError(
            f"cannot set sysctl {path.replace('/', '.')} to {value!r}: {error.strerror}"
        ) from error


def read(path: str) -> str:
    """Return what is at `path` below /proc/sys, "" if there is no such thing."""
    try:
        return (_PROC / path).read_text().strip()
    except OSError:
        return ""


def has_ipv6() -> bool:
    """Tell whether the kernel can do IPv6."""
    return (_PROC / "net/ipv6/conf").is_dir()


def children(path: str) -> Sequence[str]:
    """Return the names below a folder of settings."""
    return [item.name for item in (_PROC / path).iterdir()]
