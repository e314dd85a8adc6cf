"""The file of an embedded store: its name, and that only one process has it."""

import fcntl
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from edgekube.store.base import StoreUnavailable


def path_of(url: str) -> Path:
    """Return the file that `sqlite:///path` names. Raises StoreUnavailable."""
    parts = urlsplit(url)
    if parts.netloc or not parts.path.strip("/"):
        raise StoreUnavailable(f"{url}: say sqlite:///path/of/the/file")
    return Path(unquote(parts.path))


def lock(path: Path) -> int:
    """Make sure that no other process has the store open; return the lock's handle. Raises StoreUnavailable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path.with_name(path.name + "-lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise StoreUnavailable(f"{path} is in use by another process") from error
    return handle
