"""The fake runtime's machine: what outlives a client, as containers outlive an agent."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgekube.runtime.base import (
    ContainerEvent,
    ContainerInfo,
    ContainerSpec,
    ImageInfo,
    NoSuchContainer,
    NoSuchImage,
    Phase,
    RuntimeFailure,
    RuntimeUnavailable,
)
from edgekube.runtime.crilog import LogWriter
from edgekube.runtime.fake.process import Process, Surroundings
from edgekube.runtime.fake.shell import Builtin, run

FIRST_PID = 5_000_000
"""Above the kernel's largest pid, so that nobody signals a real process by mistake."""
EVENTS = 10_000
"""Most events a subscriber may lag behind before its stream breaks."""

SCRIPTS = {
    "fake/sleep": ("sh", "-c", "trap 'exit 0' TERM; sleep infinity"),
    "fake/stubborn": ("sleep", "infinity"),
}


def script_of(image: str) -> tuple[str, ...]:
    """Return what an image runs by itself: `fake/exit:N` ends with N at once; all others sleep until SIGTERM."""
    name, _, tag = image.rpartition(":") if ":" in image.rpartition("/")[2] else (image, "", "")
    if name == "fake/exit":
        return ("sh", "-c", f"exit {tag or 0}")
    return SCRIPTS.get(name, SCRIPTS["fake/sleep"])


@dataclass(slots=True)
class Container:
    """A container: what was wished and what is."""

    spec: ContainerSpec
    info: ContainerInfo
    process: Process | None = None
    log: LogWriter | None = None
    layer: int = 0
    """Bytes it has written into its own layer."""
    working_set: int = 3 << 20


@dataclass(frozen=True, slots=True)
class Image:
    """An image and the command it runs by itself."""

    info: ImageInfo
    command: tuple[str, ...]


@dataclass(slots=True)
class FakeMachine:
    """
    Containers, images and the ways to break them.

    `down` makes every call raise RuntimeUnavailable; `failures["create"].append(InvalidSpec("…"))`
    makes the next create fail (also start, stop, remove, exec, pull …); images in `pull_errors`
    (by name, or host[:port] of the registry) cannot be pulled; `programs` adds commands to the shell.
    """

    now: Callable[[], float] = time.time
    programs: dict[str, Builtin] = field(default_factory=dict)
    pull_errors: dict[str, str] = field(default_factory=lambda: {"127.0.0.1:1": "connection refused"})
    pulls: list[str] = field(default_factory=list)
    failures: dict[str, deque[RuntimeFailure]] = field(default_factory=dict)
    containers: dict[str, Container] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)
    """By id."""
    _down: bool = False
    _subscribers: list[asyncio.Queue[ContainerEvent | None]] = field(default_factory=list)
    _ids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    @property
    def down(self) -> bool:
        """Whether the service does not answer."""
        return self._down

    @down.setter
    def down(self, value: bool) -> None:
        self._down = value
        if value:
            for queue in self._subscribers:
                _put(queue, None)

    def fail(self, verb: str, error: RuntimeFailure) -> None:
        """Make the next call of `verb` raise `error`."""
        self.failures.setdefault(verb, deque()).append(error)

    def check(self, verb: str) -> None:
        """Raise what was planned for `verb`."""
        if self._down:
            raise RuntimeUnavailable("the runtime's service does not answer")
        planned = self.failures.get(verb)
        if planned:
            raise planned.popleft()

    def next_id(self) -> str:
        """Return a new id, as long as a real one."""
        return f"{next(self._ids):064x}"

    def container(self, key: str) -> Container:
        """Find by id or name; raises NoSuchContainer."""
        found = self.containers.get(key)
        if found is None:
            found = next((c for c in self.containers.values() if c.spec.name == key), None)
        if found is None:
            raise NoSuchContainer(f"no container {key}")
        return found

    def image(self, key: str) -> Image:
        """Find by id or name; raises NoSuchImage."""
        named = key if ":" in key.rpartition("/")[2] or "@" in key else f"{key}:latest"
        for image in self.images.values():
            if image.info.id == key.removeprefix("sha256:") or named in (
                *image.info.names,
                *image.info.digests,
            ):
                return image
        raise NoSuchImage(f"{key}: image not known")

    def add_image(
        self, name: str, *, command: tuple[str, ...] = (), user: str = "", size: int = 1 << 20
    ) -> str:
        """Put an image on the machine; return its id. Again is harmless."""
        named = name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}:latest"
        try:
            return self.image(named).info.id
        except NoSuchImage:
            identity = self.next_id()
            digest = f"{named.rpartition(':')[0]}@sha256:{identity}"
            info = ImageInfo(id=identity, names=(named,), digests=(digest,), size=size, user=user)
            self.images[identity] = Image(info, command or script_of(name))
            return identity

    def start(self, container: Container) -> None:
        """Run the container's process."""
        spec = container.spec
        image = self.image(spec.image)
        argv = (spec.command + (spec.args or ())) if spec.command else (spec.args or image.command)
        process = Process(argv, surroundings(spec, image.info), tty=spec.tty, stdin=spec.stdin)
        container.process = process
        spec.log_path.parent.mkdir(parents=True, exist_ok=True)
        log = container.log = LogWriter(spec.log_path)
        process.sinks.append(lambda channel, data: log.write(channel, data, self.now()))
        container.info = replace(
            container.info,
            phase=Phase.RUNNING,
            started_at=self.now(),
            pid=FIRST_PID + int(container.info.id, 16),
            exit_code=0,
            oom_killed=False,
        )
        self.say(container, "started")
        process.ended.add_done_callback(lambda _: self._died(container))
        process.start(lambda started: run(started, self.programs))

    def oom_kill(self, key: str) -> None:
        """Kill a running container for want of memory."""
        process = self.container(key).process
        if process is not None:
            process.oom = True
            process.signal("SIGKILL")

    def end(self, key: str, code: int) -> None:
        """Make a running container's process end by itself with `code`."""
        process = self.container(key).process
        if process is not None:
            process.finish(code)

    def power_off(self) -> None:
        """End every process without a word, as a power cut does."""
        for container in self.containers.values():
            if container.process is not None and not container.process.ended.done():
                container.process.finish(137)

    def say(self, container: Container, action: str) -> None:
        """Tell every subscriber."""
        for queue in self._subscribers:
            _put(queue, ContainerEvent(container.info.id, action, container.info.labels))

    def subscribe(self) -> "asyncio.Queue[ContainerEvent | None]":
        """Return a queue of the events from now on; None means the stream broke."""
        queue: asyncio.Queue[ContainerEvent | None] = asyncio.Queue(maxsize=EVENTS)
        self._subscribers.append(queue)
        return queue

    def unsubscribe(self, queue: "asyncio.Queue[ContainerEvent | None]") -> None:
        """Forget a subscriber."""
        self._subscribers.remove(queue)

    def _died(self, container: Container) -> None:
        process = container.process
        if process is None:
            return
        container.info = replace(
            container.info,
            phase=Phase.EXITED,
            pid=0,
            finished_at=self.now(),
            exit_code=process.ended.result(),
            oom_killed=process.oom,
        )
        if container.log is not None:
            container.log.close()
            container.log = None
        if process.oom:
            self.say(container, "oom")
        self.say(container, "died")


def surroundings(spec: ContainerSpec, image: ImageInfo) -> Surroundings:
    """Return what a process in a container of `spec` finds."""
    mounts: Mapping[str, tuple[Path, bool]] = {m.target: (Path(m.source), m.read_only) for m in spec.mounts}
    return Surroundings(
        env=spec.env,
        user=spec.security.user or image.user,
        hostname=spec.hostname or spec.name,
        read_only_root=spec.security.read_only_root,
        mounts=mounts,
        memory=spec.limits.memory,
    )


def _put(queue: "asyncio.Queue[ContainerEvent | None]", event: ContainerEvent | None) -> None:
    """Add; a subscriber that lags too far behind loses its stream and must list again."""
    if queue.full():
        while not queue.empty():
            queue.get_nowait()
        event = None
    queue.put_nowait(event)
