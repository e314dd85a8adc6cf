"""A make-believe process: streams, signals, an exit code. Its program is a coroutine."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

STDOUT, STDERR = 1, 2
SIGKILL_CODE = 137

Program = Callable[["Process"], Awaitable[int]]
"""Runs until it is done and returns the exit code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a process finds: its environment, user, mounts and limits."""

    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    hostname: str = ""
    read_only_root: bool = False
    mounts: Mapping[str, tuple[Path, bool]] = field(default_factory=dict)
    """Target → (source on the node, read only)."""
    memory: int | None = None


class Process:
    """One process. Everything it writes goes to every sink, in order."""

    def __init__(self, argv: tuple[str, ...], surroundings: Surroundings, *, tty: bool, stdin: bool) -> None:
        self.argv = argv
        self.surroundings = surroundings
        self.tty = tty
        self.size = (80, 24)
        self.traps: dict[str, str] = {}
        self.oom = False
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.sinks: list[Callable[[int, bytes], None]] = []
        self._stdin = asyncio.StreamReader()
        self._signals: asyncio.Queue[str] = asyncio.Queue(maxsize=64)
        self._task: asyncio.Task[None] | None = None
        if not stdin:
            self._stdin.feed_eof()

    def start(self, program: Program) -> None:
        """Begin; `ended` gets the exit code."""
        self._task = asyncio.get_running_loop().create_task(self._run(program))

    def emit(self, channel: int, data: bytes) -> None:
        """Write to stdout or stderr; a terminal has only one output and ends lines with CR LF."""
        if self.tty:
            channel, data = STDOUT, data.replace(b"\n", b"\r\n")
        for sink in tuple(self.sinks):
            sink(channel, data)

    def feed(self, data: bytes) -> None:
        """Give to stdin; b"" closes it."""
        if self._stdin.at_eof() or self.ended.done():
            return
        if data:
            self._stdin.feed_data(data)
        else:
            self._stdin.feed_eof()

    async def read(self) -> bytes:
        """Return what stdin has, b"" at its end."""
        return await self._stdin.read(65536)

    async def readline(self) -> bytes:
        """Return one line of stdin."""
        return await self._stdin.readline()

    def signal(self, name: str) -> None:
        """Deliver a signal; as PID 1 it ignores what it has no trap for, except SIGKILL (pid_namespaces(7))."""
        if name == "SIGKILL":
            self.finish(SIGKILL_CODE)
        elif name in self.traps:
            self._signals.put_nowait(name)

    def finish(self, code: int) -> None:
        """End now with that exit code."""
        if not self.ended.done():
            self.ended.set_result(code)
        if self._task is not None and self._task is not _current():
            self._task.cancel()

    async def next_signal(self) -> str:
        """Return the trap to run for the next signal that comes."""
        return self.traps[await self._signals.get()]

    async def _run(self, program: Program) -> None:
        code = await program(self)
        self.finish(code)


def _current() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
