"""
The runtime port: containers and images on one node, in the words of the kubelet.

A container joins a network namespace that the network port made; there is no sandbox container.
Everything the kubelet must remember is in labels, so that a restarted agent adopts what runs.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from edgekube.lib.errors import EdgekubeError


class RuntimeFailure(EdgekubeError):
    """Root of the port's errors: the runtime said no; `str()` is fit for an event."""


class RuntimeUnavailable(RuntimeFailure):
    """The runtime's service does not answer (killed, hung); try again."""


class NoSuchContainer(RuntimeFailure):
    """It is not there (any more)."""


class HalfStarted(RuntimeFailure):
    """Its start was cut short when agent or service died, and cannot be taken up: remove it, make it anew."""


class NoSuchImage(RuntimeFailure):
    """The image is not on the node."""


class PullFailed(RuntimeFailure):
    """The registry refused, or could not be reached."""


class InvalidSpec(RuntimeFailure):
    """The container cannot be made like this (kubelet's CreateContainerError)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A bind mount; `propagation` is private, rslave or rshared. With `image`, `source` is a reference to one."""

    source: str
    target: str
    read_only: bool = False
    propagation: str = "private"
    image: bool = False
    """Mount an image's files, read only (KEP-4639)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device node given to a container."""

    source: str
    target: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Cgroup limits; None is unlimited. Memory in bytes, cpu quota in µs of each `cpu_period` µs."""

    memory: int | None = None
    cpu_shares: int | None = None
    cpu_quota: int | None = None
    cpu_period: int = 100_000
    pids: int | None = None
    oom_score_adj: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """Who the process is and what it may do. `user` is "uid[:gid]" or a name, "" the image's own."""

    user: str = ""
    groups: tuple[int, ...] = ()
    privileged: bool = False
    read_only_root: bool = False
    no_new_privileges: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    seccomp: str = ""
    """"" the runtime's default, "unconfined", or a profile's path."""
    apparmor: str = ""
    """"" the runtime's default, "unconfined", or the name of a loaded profile."""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    mask_proc: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """A container to make. `command` replaces the image's entrypoint, `args` its cmd; None keeps them."""

    name: str
    image: str
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    limits: Limits = Limits()
    security: Security = Security()
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    netns: str = ""
    """Path of the network namespace to join; "" is the host's (the node's) own."""
    pid_of: str = ""
    """Container id whose PID namespace to share; "host" for the node's; "" an own one."""
    ipc_of: str = ""
    hostname: str = ""
    cgroup_parent: str = ""
    log_path: Path
    """Where stdout and stderr go, in CRI log format (`<RFC3339Nano> stdout|stderr F|P <line>`)."""
    stop_signal: str = ""
    handler: str = ""
    """Name of the OCI runtime that is to run it; "" whichever there is, and any other is refused."""


class Phase(Enum):
    """Where a container is in its life."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    EXITED = "exited"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerInfo:
    """A container as it is. Times are seconds since the epoch, 0 when not yet."""

    id: str
    name: str
    image: str
    image_id: str
    phase: Phase
    labels: Mapping[str, str]
    pid: int = 0
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class ContainerEvent:
    """Something happened to a container: `action` is created, started, died, oom or removed."""

    id: str
    action: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a container has used. CPU in ns since start, memory in bytes."""

    id: str
    cpu_ns: int
    memory_bytes: int
    working_set_bytes: int
    pids: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInfo:
    """An image on the node; `names` are tags, `digests` repo digests, `user` the config's USER."""

    id: str
    names: tuple[str, ...]
    digests: tuple[str, ...] = ()
    size: int = 0
    user: str = ""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A registry login."""

    username: str
    password: str


class Session(Protocol):
    """A process's streams: exec or attach. stdout/stderr come as (channel, data), channels as in transport.base."""

    async def write(self, data: bytes) -> None:
        """Write to stdin; b"" closes it."""
        ...

    async def read(self) -> tuple[int, bytes] | None:
        """Return the next (1 stdout | 2 stderr, data); None at the end. With a TTY all is stdout."""
        ...

    async def resize(self, width: int, height: int) -> None:
        """Set the terminal's size in characters."""
        ...

    async def wait(self) -> int:
        """Return the exit code (exec; 0 for attach) after the output has ended."""
        ...

    async def close(self) -> None:
        """Let go of the streams; an exec'd process that still runs is left alone."""
        ...


class Containers(Protocol):
    """The life of containers. All raise RuntimeFailure subclasses."""

    async def create(self, spec: ContainerSpec) -> str:
        """Create and return the id; an existing container of that name is replaced if it never ran."""
        ...

    async def start(self, container: str) -> None:
        """Start; harmless when it runs."""
        ...

    async def stop(self, container: str, *, grace: float) -> None:
        """Send the stop signal, SIGKILL after `grace` seconds; returns when it has ended. Harmless when it has."""
        ...

    async def remove(self, container: str) -> None:
        """Remove, killing if needed; harmless when it is gone."""
        ...

    async def update(self, container: str, limits: Limits) -> None:
        """
        Change a running container's cgroup limits; None leaves as it is, the OOM score stays.

        Who lowers memory looks first at what is in use: below that, cgroup v1 refuses and v2 kills.
        """
        ...

    async def list(self) -> Sequence[ContainerInfo]:
        """Return all containers that carry the label `edgekube.io/pod-uid`, running or not."""
        ...

    async def inspect(self, container: str) -> ContainerInfo:
        """Return one container; raises NoSuchContainer."""
        ...

    def events(self) -> AsyncIterator[ContainerEvent]:
        """Yield events from now on; raises RuntimeUnavailable when the stream breaks (then list again)."""
        ...

    async def usage(self) -> Sequence[Usage]:
        """Return what each running container has used."""
        ...

    async def sizes(self) -> Mapping[str, int]:
        """Return the bytes each container has written into its own layer, by id; costs a walk over them."""
        ...


class Sessions(Protocol):
    """Processes and their streams."""

    async def exec(self, container: str, command: Sequence[str], *, stdin: bool, tty: bool) -> Session:
        """Run a further process in a running container; raises NoSuchContainer, RuntimeFailure."""
        ...

    async def attach(self, container: str, *, stdin: bool, tty: bool) -> Session:
        """Join the streams of the container's own process."""
        ...

    async def reopen_log(self, container: str) -> None:
        """Make the log writer open `log_path` anew (after a rotation renamed it)."""
        ...


class Images(Protocol):
    """Images on the node."""

    async def inspect(self, image: str) -> ImageInfo:
        """Return the image of that reference; raises NoSuchImage."""
        ...

    async def pull(self, image: str, credentials: Credentials | None = None) -> str:
        """Pull and return the image id; raises PullFailed."""
        ...

    async def list(self) -> Sequence[ImageInfo]:
        """Return all images."""
        ...

    async def remove(self, image: str) -> None:
        """Remove an unused image; harmless when it is gone."""
        ...

    async def load(self, archive: Path) -> Sequence[str]:
        """Load a docker or OCI archive; return the names in it."""
        ...


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """What `nodeInfo` wants to know."""

    name: str
    version: str
    cgroup_version: int


class ContainerRuntime(Protocol):
    """A runtime: its three faces, its version, its end."""

    @property
    def containers(self) -> Containers:
        """The life of containers."""
        ...

    @property
    def sessions(self) -> Sessions:
        """Processes and their streams."""
        ...

    @property
    def images(self) -> Images:
        """Images on the node."""
        ...

    async def info(self) -> RuntimeInfo:
        """Return name and version; raises RuntimeUnavailable."""
        ...

    async def close(self) -> None:
        """Let go; containers run on."""
        ...
