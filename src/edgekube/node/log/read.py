"""Reading logs in CRI format: `<RFC 3339 time> stdout|stderr P|F <text>`; P lines are parts of a longer one."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgekube.node.clock import parse_stamp
from edgekube.node.log.files import generations
from edgekube.transport.base import STDERR, STDOUT

POLL = 0.2
"""Seconds between looks at a log that somebody follows."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One piece of a log; `text` ends with a newline unless it is a part."""

    time: str
    channel: int
    partial: bool
    text: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """What to read, as PodLogOptions says; `since` in seconds since the epoch."""

    follow: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since: float = 0.0
    limit_bytes: int | None = None


def parse_line(raw: bytes) -> LogLine | None:
    """Return what a line of the file says; None for what is no CRI line."""
    parts = raw.rstrip(b"\n").split(b" ", 3)
    if len(parts) < 3:
        return None
    partial = parts[2].split(b":", 1)[0] == b"P"
    text = parts[3] if len(parts) == 4 else b""
    channel = STDERR if parts[1] == b"stderr" else STDOUT
    return LogLine(parts[0].decode(errors="replace"), channel, partial, text if partial else text + b"\n")


async def read_log(
    path: Path, options: LogOptions, ended: Callable[[], bool]
) -> AsyncIterator[tuple[int, bytes]]:
    """Yield (channel, bytes) of a log across its rotated files; a followed one until `ended()`."""
    left = options.limit_bytes
    joining: dict[int, bool] = {}
    async for line in _lines(path, options, ended):
        # A part's timestamp is shown once, at the beginning of the whole line.
        prefix = line.time.encode() + b" " if options.timestamps and not joining.get(line.channel) else b""
        joining[line.channel] = line.partial
        data = prefix + line.text
        if left is not None:
            data = data[:left]
            left -= len(data)
        if data:
            yield line.channel, data
        if left == 0:
            return


async def _lines(path: Path, options: LogOptions, ended: Callable[[], bool]) -> AsyncIterator[LogLine]:
    tail = options.tail_lines
    files = _Files(path)
    history = _since(files.lines(), options.since)
    if tail is not None:
        history = iter(_last(history, tail))
    for count, line in enumerate(history, 1):
        yield line
        if count % 256 == 0:
            await asyncio.sleep(0)
    while options.follow:
        over = ended()
        fresh = [line for line in files.lines() if not _older(line, options.since)]
        for line in fresh:
            yield line
        if over and not fresh:
            return
        if not fresh:
            await asyncio.sleep(POLL)


class _Files:
    """The files of a log and how far they were read, by inode: a rename does not disturb."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offsets: dict[int, int] = {}

    def lines(self) -> Iterator[LogLine]:
        """Yield the whole lines written since the last call."""
        for file in generations(self._path):
            try:
                about = file.stat()
                offset = self._offsets.get(about.st_ino, 0)
                if about.st_size <= offset:
                    continue
                with file.open("rb") as source:
                    source.seek(offset)
                    for raw in source:
                        if not raw.endswith(b"\n"):
                            break
                        self._offsets[about.st_ino] = self._offsets.get(about.st_ino, 0) + len(raw)
                        if (line := parse_line(raw)) is not None:
                            yield line
            except FileNotFoundError:
                continue


def _older(line: LogLine, since: float) -> bool:
    return bool(since) and parse_stamp(_micro(line.time)) < since


def _micro(time: str) -> str:
    """Cut nanoseconds to what datetime reads."""
    head, dot, rest = time.partition(".")
    if not dot:
        return time
    digits = rest.rstrip("Z")
    for sign in "+-":
        digits = digits.partition(sign)[0]
    return f"{head}.{digits[:6]:0<6}{rest[len(digits) :]}"


def _since(lines: Iterator[LogLine], since: float) -> Iterator[LogLine]:
    return (line for line in lines if not _older(line, since))


def _last(lines: Iterator[LogLine], count: int) -> list[LogLine]:
    """Return the last `count` lines with all their parts."""
    if count <= 0:
        deque(lines, maxlen=0)
        return []
    whole: deque[list[LogLine]] = deque(maxlen=count)
    part: list[LogLine] = []
    for line in lines:
        part.append(line)
        if not line.partial:
            whole.append(part)
            part = []
    if part:
        whole.append(part)
    return [line for group in whole for line in group]


def tail_text(path: Path, *, lines: int, limit: int) -> str:
    """Return the end of a log as text: at most `lines` lines and `limit` bytes."""
    text = b"".join(line.text for line in _last(_Files(path).lines(), lines))
    return text[-limit:].decode(errors="replace")
