"""Where events are written: a file of JSON lines, turned over by size, written in batches by a thread."""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

WAITING = 10_000
"""Events that may wait to be written; what comes then is lost, and counted."""
PAUSE = 0.2
"""Seconds in which events gather to be written together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """A file and its predecessors, `path.1` being the youngest."""

    path: Path
    size: int = 100 << 20
    """Bytes after which it is turned over."""
    kept: int = 10

    def append(self, data: bytes) -> None:
        """Write; raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size + len(data) > self.size:
            self._turn()
        with self.path.open("ab") as file:
            if file.tell() == 0:
                self.path.chmod(0o600)
            file.write(data)

    def _turn(self) -> None:
        for number in range(self.kept, 0, -1):
            younger = self._old(number - 1) if number > 1 else self.path
            if younger.exists():
                younger.replace(self._old(number))
        if self.kept == 0:
            self.path.unlink()

    def _old(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


class Sink:
    """Gathers lines and writes them off the event loop."""

    def __init__(self, file: LogFile) -> None:
        self._file = file
        self._lines: deque[bytes] = deque()
        self._some = asyncio.Event()
        self.lost = 0

    def put(self, line: bytes) -> None:
        """Note a line; never waits."""
        if len(self._lines) >= WAITING:
            self.lost += 1
            return
        self._lines.append(line)
        self._some.set()

    async def run(self) -> None:
        """Write until cancelled; what waits then is written first."""
        try:
            while True:
                await self._some.wait()
                await asyncio.sleep(PAUSE)
                await asyncio.to_thread(self._write)
        finally:
            self._write()

    def _write(self) -> None:
        """Write what waits; a full disk loses lines, never requests."""
        self._some.clear()
        lines = []
        while self._lines:
            lines.append(self._lines.popleft())
        if not lines:
            return
        try:
            self._file.append(b"\n".join(lines) + b"\n")
        except OSError as error:
            self.lost += len(lines)
            log.warning("audit log: %d events are lost: %s", len(lines), error)
