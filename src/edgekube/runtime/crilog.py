"""The CRI log format: `<RFC3339Nano> stdout|stderr F|P <text>` per line (Kubernetes' CRI logging KEP)."""

import time
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
        self._file = path.open("ab", buffering=0)

    def write(self, channel: int, data: bytes, now: float) -> None:
        """Write output of channel 1 or 2: whole lines as F, an unfinished one as P."""
        records = bytearray()
        *whole, rest = data.split(b"\n")
        for tag, line in [*((b"F", line) for line in whole), *([(b"P", rest)] if rest else [])]:
            records += b"%s %s %s %s\n" % (timestamp(now), STREAMS[channel], tag, line)
        self._file.write(records)

    def reopen(self) -> None:
        """Open the path anew."""
        self._file.close()
        self._file = self._path.open("ab", buffering=0)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
