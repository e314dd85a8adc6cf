"""The fake runtime's client: the port over a FakeMachine."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgekube.runtime.archive import read_names
from edgekube.runtime.base import (
    ContainerEvent,
    ContainerInfo,
    ContainerSpec,
    Credentials,
    ImageInfo,
    InvalidSpec,
    Limits,
    NoSuchContainer,
    NoSuchImage,
    Phase,
    PullFailed,
    RuntimeFailure,
    RuntimeInfo,
    RuntimeUnavailable,
    Usage,
)
from edgekube.runtime.fake.machine import Container, FakeMachine, surroundings
from edgekube.runtime.fake.process import Process
from edgekube.runtime.fake.shell import run

POD_LABEL = "edgekube.io/pod-uid"
BACKLOG = 65536
"""Pieces of output a session may hold unread; what comes after is dropped."""

HANDLERS = ("", "fake")
LIMITS = ("memory", "cpu_shares", "cpu_quota", "cpu_period", "pids")

SETTLE = 4
"""Turns of the loop a new process gets before start returns, so that its traps are set."""


class FakeSession:
    """Streams of one make-believe process. An attached one is not its owner: `wait` is 0."""

    def __init__(self, process: Process, *, stdin: bool, owner: bool, close_stdin: bool = True) -> None:
        self._process = process
        self._stdin = stdin
        self._owner = owner
        self._close_stdin = close_stdin
        self._output: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        process.sinks.append(self._take)
        process.ended.add_done_callback(lambda _: self._output.put_nowait(None))

    async def write(self, data: bytes) -> None:
        """Feed stdin."""
        if self._stdin and (data or self._close_stdin):
            self._process.feed(data)

    async def read(self) -> tuple[int, bytes] | None:
        """Return the next output."""
        item = await self._output.get()
        if item is None:
            self._output.put_nowait(None)
        return item

    async def resize(self, width: int, height: int) -> None:
        """Set the terminal's size."""
        self._process.size = (width, height)

    async def wait(self) -> int:
        """Return the exit code."""
        code = await asyncio.shield(self._process.ended)
        return code if self._owner else 0

    async def close(self) -> None:
        """Let go."""
        if self._take in self._process.sinks:
            self._process.sinks.remove(self._take)
        self._output.put_nowait(None)

    def _take(self, channel: int, data: bytes) -> None:
        if self._output.qsize() < BACKLOG:
            self._output.put_nowait((channel, data))


class FakeContainers:
    """The life of containers."""

    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine

    async def create(self, spec: ContainerSpec) -> str:
        """Create; a name in use is refused unless its container never ran."""
        machine = self._machine
        machine.check("create")
        if spec.handler not in HANDLERS:
            raise InvalidSpec(f'no runtime for "{spec.handler}" is configured')
        image = machine.image(spec.image)
        self._make_way(spec.name)
        for mount in spec.mounts:
            if mount.image:
                machine.image(mount.source)
        binds = (m.source for m in spec.mounts if not m.image)
        missing = next((source for source in binds if not Path(source).exists()), None)  # noqa: ASYNC240 - a fake
        if missing is not None:
            raise InvalidSpec(f"statfs {missing}: no such file or directory")
        info = ContainerInfo(
            id=machine.next_id(),
            name=spec.name,
            image=spec.image,
            image_id=image.info.id,
            phase=Phase.CREATED,
            labels=dict(spec.labels),
            created_at=machine.now(),
        )
        machine.containers[info.id] = Container(spec, info)
        machine.say(machine.containers[info.id], "created")
        return info.id

    async def start(self, container: str) -> None:
        """Start."""
        self._machine.check("start")
        found = self._machine.container(container)
        if found.info.phase is not Phase.RUNNING:
            self._machine.start(found)
            for _ in range(SETTLE):
                await asyncio.sleep(0)

    async def stop(self, container: str, *, grace: float) -> None:
        """Signal, wait, kill."""
        self._machine.check("stop")
        found = self._machine.container(container)
        process = found.process
        if process is None or found.info.phase is not Phase.RUNNING:
            return
        process.signal(found.spec.stop_signal or "SIGTERM")
        await asyncio.wait((process.ended,), timeout=grace)
        process.signal("SIGKILL")
        await asyncio.sleep(0)

    async def remove(self, container: str) -> None:
        """Remove."""
        self._machine.check("remove")
        try:
            found = self._machine.container(container)
        except NoSuchContainer:
            return
        if found.process is not None:
            found.process.signal("SIGKILL")
            await asyncio.sleep(0)
        if self._machine.containers.pop(found.info.id, None) is not None:
            self._machine.say(found, "removed")

    async def update(self, container: str, limits: Limits) -> None:
        """Change the limits that it was made with."""
        self._machine.check("update")
        found = self._machine.container(container)
        if found.info.phase is not Phase.RUNNING:
            raise RuntimeFailure(f"container {container} is not running")
        changes = {name: value for name in LIMITS if (value := getattr(limits, name)) is not None}
        found.spec = replace(found.spec, limits=replace(found.spec.limits, **changes))
        if found.process is not None and limits.memory is not None:
            found.process.surroundings = replace(found.process.surroundings, memory=limits.memory)

    async def list(self) -> Sequence[ContainerInfo]:
        """Return those with a pod's label."""
        self._machine.check("list")
        return [c.info for c in self._machine.containers.values() if POD_LABEL in c.info.labels]

    async def inspect(self, container: str) -> ContainerInfo:
        """Return one."""
        self._machine.check("inspect")
        return self._machine.container(container).info

    async def events(self) -> AsyncIterator[ContainerEvent]:
        """Yield events."""
        self._machine.check("events")
        queue = self._machine.subscribe()
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._machine.unsubscribe(queue)
        raise RuntimeUnavailable("the event stream broke")

    async def usage(self) -> Sequence[Usage]:
        """Return made-up numbers that grow with time."""
        self._machine.check("usage")
        now = self._machine.now()
        return [
            Usage(
                id=c.info.id,
                cpu_ns=int((now - c.info.started_at) * 10_000_000),
                memory_bytes=c.working_set + (1 << 20),
                working_set_bytes=c.working_set,
                pids=1,
            )
            for c in self._machine.containers.values()
            if c.info.phase is Phase.RUNNING
        ]

    async def sizes(self) -> Mapping[str, int]:
        """Return what the machine was told."""
        self._machine.check("sizes")
        return {c.info.id: c.layer for c in self._machine.containers.values()}

    def _make_way(self, name: str) -> None:
        try:
            other = self._machine.container(name)
        except NoSuchContainer:
            return
        if other.info.phase is not Phase.CREATED:
            raise InvalidSpec(f"the container name {name} is in use by {other.info.id}")
        del self._machine.containers[other.info.id]


class FakeSessions:
    """Processes and their streams."""

    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine

    async def exec(self, container: str, command: Sequence[str], *, stdin: bool, tty: bool) -> FakeSession:
        """Run a further process."""
        self._machine.check("exec")
        found = self._running(container)
        image = self._machine.image(found.spec.image).info
        process = Process(tuple(command), surroundings(found.spec, image), tty=tty, stdin=stdin)
        session = FakeSession(process, stdin=stdin, owner=True)
        process.start(lambda started: run(started, self._machine.programs))
        if found.process is not None:
            found.process.ended.add_done_callback(lambda _: process.signal("SIGKILL"))
        return session

    async def attach(self, container: str, *, stdin: bool, tty: bool) -> FakeSession:  # noqa: ARG002 - the container's own
        """Join the container's streams."""
        self._machine.check("attach")
        found = self._running(container)
        if found.process is None:
            raise RuntimeFailure(f"container {container} has no process")
        return FakeSession(found.process, stdin=stdin, owner=False, close_stdin=found.spec.stdin_once)

    async def reopen_log(self, container: str) -> None:
        """Open the log anew."""
        self._machine.check("reopen_log")
        found = self._running(container)
        if found.log is not None:
            found.log.reopen()

    def _running(self, container: str) -> Container:
        found = self._machine.container(container)
        if found.info.phase is not Phase.RUNNING:
            raise RuntimeFailure(f"container {container} is not running")
        return found


class FakeImages:
    """Images on the machine."""

    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine

    async def inspect(self, image: str) -> ImageInfo:
        """Return one."""
        self._machine.check("inspect_image")
        return self._machine.image(image).info

    async def pull(self, image: str, credentials: Credentials | None = None) -> str:  # noqa: ARG002 - any login will do
        """Pull, unless it was made to fail."""
        self._machine.check("pull")
        self._machine.pulls.append(image)
        for broken in (image, image.partition("/")[0]):
            if broken in self._machine.pull_errors:
                raise PullFailed(f"{image}: {self._machine.pull_errors[broken]}")
        return self._machine.add_image(image)

    async def list(self) -> Sequence[ImageInfo]:
        """Return all."""
        self._machine.check("list_images")
        return [image.info for image in self._machine.images.values()]

    async def remove(self, image: str) -> None:
        """Remove; one in use is refused."""
        self._machine.check("remove_image")
        try:
            found = self._machine.image(image)
        except NoSuchImage:
            return
        if any(c.info.image_id == found.info.id for c in self._machine.containers.values()):
            raise RuntimeFailure(f"image {image} is in use by a container")
        del self._machine.images[found.info.id]

    async def load(self, archive: Path) -> Sequence[str]:
        """Load; only the names are read."""
        self._machine.check("load")
        try:
            names = await asyncio.to_thread(read_names, archive)
        except (OSError, ValueError) as error:
            raise RuntimeFailure(str(error)) from error
        for name in names:
            self._machine.add_image(name)
        return names


class FakeRuntime:
    """The port over a machine; several may share one, as agents before and after a restart do."""

    def __init__(self, machine: FakeMachine | None = None) -> None:
        self.machine = machine or FakeMachine()
        self.containers = FakeContainers(self.machine)
        self.sessions = FakeSessions(self.machine)
        self.images = FakeImages(self.machine)

    async def info(self) -> RuntimeInfo:
        """Return name and version."""
        self.machine.check("info")
        return RuntimeInfo("fake", "1.0", 2)

    async def close(self) -> None:
        """Let go."""


def open_runtime(_url: str) -> FakeRuntime:
    """Open `fake://`: a machine of its own."""
    return FakeRuntime()
