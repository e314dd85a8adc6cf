"""The CRI log format: `<RFC3339Nano> stdout|stderr F|P <text>` per line (Kubernetes' CRI logging KEP)."""

import os
import time
import weakref
from collections.abc import Callable
from pathlib import Path

STREAMS = {1: b"stdout", 2: b"stderr"}


def timestamp(seconds: float) -> bytes:
    """Return seconds since the epoch as RFC 3339 with nine decimals, UTC."""
    whole = int(seconds)
    nanoseconds = int((seconds - whole) * 1e9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)).encode() + b".%09dZ" % nanoseconds


class LogWriter:
    """Appends records to a file that may be renamed meanwhile; `reopen` then starts a new one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor, self._close = _open(path, self)

    def write(self, channel: int, data: bytes, now: float) -> None:
        """Write output of channel 1 or 2: whole lines as F, an unfinished one as P."""
        records = bytearray()
        *whole, rest = data.split(b"\n")
        for tag, line in [*((b"F", line) for line in whole), *([(b"P", rest)] if rest else [])]:
            records += b"%s %s %s %s\n" % (timestamp(now), STREAMS[channel], tag, line)
        os.write(self._descriptor, records)

    def reopen(self) -> None:
        """Open the path anew."""
        self._close()
        self._descriptor, self._close = _open(self._path, self)

    def close(self) -> None:
        """Close the file; harmless again. A writer that is forgotten closes by itself."""
        self._close()


def _open(path: Path, owner: LogWriter) -> tuple[int, Callable[[], object]]:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return descriptor, weakref.finalize(owner, os.close, descriptor)
