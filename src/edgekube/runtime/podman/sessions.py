"""Processes and their streams, over hijacked connections."""

import asyncio
import errno
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekube.runtime.base import NoSuchContainer, RuntimeFailure, RuntimeUnavailable
from edgekube.runtime.podman.rest import Call, Hijacked, Refused, Rest

STDOUT = 1
PIECE = 32768
HEADER = 8
REOPEN = b"2 0 0\n"
"""conmon's control message "reopen the log" (conmon, src/ctrl.c)."""
POLL = 0.02
PATIENCE = 5.0
SLOW_READER = 1.0
"""Seconds between two reads after which podman might forget an ended exec before we ask (exit_command_delay is 5)."""


class PodmanSession:
    """One hijacked connection; `execution` is the exec's id, "" for an attachment to `container`."""

    def __init__(
        self, rest: Rest, connection: Hijacked, *, target: str, tty: bool, close_stdin: bool
    ) -> None:
        self._rest = rest
        self._reader = connection.reader
        self._writer = connection.writer
        self._target = target
        self._tty = tty
        self._close_stdin = close_stdin
        self._channel = STDOUT
        self._left = 0
        self._ended = False
        self._code: int | None = None if target.startswith("/exec/") else 0
        self._asked = time.monotonic()

    async def write(self, data: bytes) -> None:
        """Write; a process that no longer reads is not an error."""
        try:
            if data:
                self._writer.write(data)
                await self._writer.drain()
            elif self._close_stdin and self._writer.can_write_eof():
                self._writer.write_eof()
        except OSError:
            return

    async def read(self) -> tuple[int, bytes] | None:
        """Read; without a terminal the output comes in frames of 8 + n bytes (Docker's attach format)."""
        if self._ended:
            return None
        if time.monotonic() - self._asked > SLOW_READER:
            await self._ask()
        try:
            piece = await self._piece()
        except (asyncio.IncompleteReadError, OSError):
            piece = None
        if piece is None:
            self._ended = True
            await self._ask()
        return piece

    async def resize(self, width: int, height: int) -> None:
        """Resize; a process that has not quite begun gets a moment."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                call = Call("POST", f"{self._target}/resize", {"w": width, "h": height})
                await self._rest.send(call)
            except Refused as error:
                if time.monotonic() > deadline or error.status == 404 or self._ended:
                    raise RuntimeFailure(str(error)) from error
                await asyncio.sleep(POLL)
            else:
                return

    async def wait(self) -> int:
        """Return the exit code; output nobody read is dropped."""
        while await self.read() is not None:
            pass
        deadline = time.monotonic() + PATIENCE
        while self._code is None:
            await self._ask()
            if self._code is None and time.monotonic() > deadline:
                raise RuntimeUnavailable("podman does not tell the exit code")
            await asyncio.sleep(0 if self._code is not None else POLL)
        return self._code

    async def close(self) -> None:
        """Hang up."""
        self._ended = True
        self._writer.close()

    async def _piece(self) -> tuple[int, bytes] | None:
        if self._tty:
            data = await self._reader.read(PIECE)
            return (STDOUT, data) if data else None
        while not self._left:
            header = await self._reader.readexactly(HEADER)
            self._channel, self._left = header[0], int.from_bytes(header[4:], "big")
        data = await self._reader.read(min(self._left, PIECE))
        self._left -= len(data)
        return (self._channel, data) if data else None

    async def _ask(self) -> None:
        """Learn the exit code if there is one; podman forgets an exec seconds after its end."""
        self._asked = time.monotonic()
        if self._code is not None:
            return
        try:
            answer: dict[str, Any] = await self._rest.json(Call("GET", f"{self._target}/json"))
        except Refused as error:
            raise RuntimeFailure(f"the exit code is lost: {error}") from error
        if not answer["Running"] and answer.get("Pid", 0) == 0 and (self._ended or answer["CanRemove"]):
            self._code = answer["ExitCode"]


class PodmanSessions:
    """Exec and attach."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    async def exec(self, container: str, command: Sequence[str], *, stdin: bool, tty: bool) -> PodmanSession:
        """Make an exec session and start it attached."""
        body = {
            "AttachStdin": stdin,
            "AttachStdout": True,
            "AttachStderr": not tty,
            "Tty": tty,
            "Cmd": list(command),
        }
        try:
            answer = await self._rest.json(Call("POST", f"/containers/{container}/exec", body=body))
            target = f"/exec/{answer['Id']}"
            call = Call("POST", f"{target}/start", body={"Detach": False, "Tty": tty})
            connection = await self._rest.hijack(call)
        except Refused as error:
            raise _translated(error, container) from error
        return PodmanSession(self._rest, connection, target=target, tty=tty, close_stdin=not tty)

    async def attach(self, container: str, *, stdin: bool, tty: bool) -> PodmanSession:
        """Attach; closing stdin reaches the process only if its container was made with stdin_once."""
        query = {
            "stdin": str(stdin).lower(),
            "stdout": "true",
            "stderr": "true",
            "stream": "true",
            "logs": "false",
        }
        try:
            details = await self._details(container)
            if not details["State"]["Running"]:
                raise RuntimeFailure(f"container {container} is not running")
            connection = await self._rest.hijack(Call("POST", f"/containers/{container}/attach", query))
        except Refused as error:
            raise _translated(error, container) from error
        return PodmanSession(
            self._rest, connection, target=f"/containers/{container}", tty=tty, close_stdin=not tty
        )

    async def reopen_log(self, container: str) -> None:
        """Tell the container's monitor through its control fifo; returns when the new file is there."""
        try:
            details = await self._details(container)
        except Refused as error:
            raise _translated(error, container) from error
        log = Path(details["HostConfig"]["LogConfig"]["Path"])
        before = _inode(log)
        try:
            _tell(Path(details["StaticDir"]) / "ctl")
        except OSError as error:
            if error.errno in {errno.ENXIO, errno.ENOENT}:
                raise RuntimeFailure(f"container {container} is not running") from error
            raise RuntimeFailure(f"{container}: the log cannot be reopened: {error}") from error
        deadline = time.monotonic() + PATIENCE
        while _inode(log) in {before, None}:
            if time.monotonic() > deadline:
                raise RuntimeFailure(f"{container}: the log was not reopened")
            await asyncio.sleep(POLL)

    async def _details(self, container: str) -> dict[str, Any]:
        answer: dict[str, Any] = await self._rest.json(Call("GET", f"/containers/{container}/json"))
        return answer


def _tell(fifo: Path) -> None:
    descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(descriptor, REOPEN)
    finally:
        os.close(descriptor)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _translated(error: Refused, container: str) -> RuntimeFailure:
    text = f"{error} {error.cause}"
    if "no such container" in text or "no container with" in text:
        return NoSuchContainer(f"no container {container}")
    return RuntimeFailure(str(error))
