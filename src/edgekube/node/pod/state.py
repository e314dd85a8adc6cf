"""What a pod's worker sees, remembers, and may do next: values only."""

import math
from dataclasses import dataclass, field

from edgekube.api.types import core_v1
from edgekube.network.base import Attachment
from edgekube.node.pod.allocation import Room
from edgekube.node.probes.state import Health
from edgekube.runtime.base import ContainerInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a container (or the pod's sandbox) could not be made; times in seconds since the epoch."""

    reason: str
    message: str
    at: float
    retry_at: float
    count: int = 1


@dataclass(frozen=True, slots=True)
class Restart:
    """A container's crash back-off: wait `delay` seconds after an exit; set at time `since`."""

    delay: float
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Doom:
    """Why the node itself ends a pod, or will not take it: it fails so, and is not run again."""

    reason: str
    message: str
    grace: float | None = None
    """Seconds its containers have at most; None: as many as the pod says."""
    disrupted: bool = False
    """Whether this is a disruption that controllers should not hold against the pod (KEP-3329)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What is there: the pod's containers in any phase, and where we are."""

    containers: tuple[ContainerInfo, ...] = ()
    node_ip: str = ""
    node_ip6: str = ""
    boot_id: str = ""
    network_ready: bool = True
    room: Room | None = None
    """What the node has, when a resize is wished."""


@dataclass(slots=True)
class Memory:
    """What a worker knows besides; lost with the agent, and nothing in it is needed for safety."""

    removed: bool = False
    """The pod is not in the mirror any more."""
    doom: Doom | None = None
    attachment: Attachment | None = None
    detached: bool = False
    volumes_ready: bool = False
    volumes_stale: bool = False
    """A ConfigMap, Secret or the pod itself changed."""
    volumes_refresh_at: float = math.inf
    volumes_removed: bool = False
    sandbox: Failure | None = None
    """Why network or volumes could not be made."""
    failures: dict[str, Failure] = field(default_factory=dict)
    """By container name: why it could not be made."""
    start_errors: dict[str, Failure] = field(default_factory=dict)
    """By container id: why it could not be started."""
    restarts: dict[str, Restart] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    """By container name: the highest attempt known to have been made."""
    replace: set[str] = field(default_factory=set)
    """Container ids stopped in order to be started anew, whatever they exited with."""
    health: dict[str, Health] = field(default_factory=dict)
    """By container id: what the probes found."""
    messages: dict[str, str] = field(default_factory=dict)
    """By container id: the termination message."""
    granted: dict[str, core_v1.ResourceRequirements] = field(default_factory=dict)
    """By container name: what it may have, whatever the spec asks for by now."""
    applied: dict[str, core_v1.ResourceRequirements] = field(default_factory=dict)
    """By container id: what a resize gave it; what it was made with otherwise."""
    resize: Failure | None = None
    """Why a granted resize could not be done."""
    status: core_v1.PodStatus | None = None
    """As last computed."""
    final: bool = False
    """`status` will not change any more: everything has ended."""


@dataclass(frozen=True, slots=True)
class AttachNetwork:
    """Make the pod's network namespace."""


@dataclass(frozen=True, slots=True)
class MakeVolumes:
    """Make or refresh volumes and the files every pod gets."""


@dataclass(frozen=True, slots=True)
class EnsureImage:
    """Have the container's image on the node."""

    container: str


@dataclass(frozen=True, slots=True)
class CreateContainer:
    """Create attempt number `attempt`."""

    container: str
    attempt: int


@dataclass(frozen=True, slots=True)
class RunContainer:
    """Start a created container and run its postStart hook."""

    container: str
    id: str


@dataclass(frozen=True, slots=True)
class Stopping:
    """One container to stop within `grace` seconds; `message` is the Killing event's."""

    container: str
    id: str
    grace: float
    message: str
    replace: bool = False
    turn: int = 0
    """Its stop signal waits until those of lower turns have ended, as long as its own grace lasts."""


@dataclass(frozen=True, slots=True)
class StopContainers:
    """Stop several at once: preStop hook, stop signal in turns, SIGKILL."""

    targets: tuple[Stopping, ...]


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    """Remove a dead container; `log` says that its log goes too."""

    id: str
    log: bool = False


@dataclass(frozen=True, slots=True)
class GrantResources:
    """Give the pod what it asks for now: from here on that is what it has."""


@dataclass(frozen=True, slots=True)
class ResizeContainer:
    """Change a running container's cgroup to what was granted."""

    container: str
    id: str


@dataclass(frozen=True, slots=True)
class DetachNetwork:
    """Take the network namespace away."""


@dataclass(frozen=True, slots=True)
class RemoveVolumes:
    """Unmount and delete volumes; `everything` deletes logs and the pod's folder and cgroup too."""

    everything: bool


@dataclass(frozen=True, slots=True)
class Finish:
    """Tell that the pod is gone and end the worker."""


Step = (
    AttachNetwork | MakeVolumes | EnsureImage | CreateContainer | RunContainer
    | StopContainers | RemoveContainer | GrantResources | ResizeContainer | DetachNetwork | RemoveVolumes | Finish
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Notice:
    """An event to report once for each `once` value."""

    type: str
    reason: str
    message: str
    container: str
    once: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now, one after another; then plan anew, at the latest after `again` seconds."""

    steps: tuple[Step, ...] = ()
    status: core_v1.PodStatus
    again: float | None = None
    notices: tuple[Notice, ...] = ()
    final: bool = False
    """`status` is the last word."""
