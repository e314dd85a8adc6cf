"""The board port: what this machine is and how it feels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardFacts:
    """What does not change while running. Memory in bytes."""

    hostname: str
    architecture: str
    """GOARCH words: arm64, arm, amd64."""
    operating_system: str
    os_image: str
    kernel_version: str
    machine_id: str
    boot_id: str
    system_uuid: str
    model: str
    cpus: int
    memory: int
    page_size: int
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels found by itself, e.g. edgekube.io/storage=ssd, edgekube.io/gpu=v3d."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardUsage:
    """How it feels now. CPU in ns since boot, the rest in bytes, temperature in °C (None: no sensor)."""

    time: float
    cpu_ns: int
    memory_used: int
    memory_working_set: int
    memory_available: int
    disk_capacity: int
    disk_available: int
    inodes: int
    inodes_free: int
    received_bytes: int
    sent_bytes: int
    image_disk_capacity: int = 0
    """Of the file system with the images; 0: it is the same."""
    image_disk_available: int = 0
    image_inodes: int = 0
    image_inodes_free: int = 0
    processes: int = 0
    """Processes and threads; 0: not known."""
    processes_limit: int = 0
    load: tuple[float, float, float] = (0.0, 0.0, 0.0)
    temperature: float | None = None
    throttled: bool = False
    undervoltage: bool = False


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why this machine cannot be a node (or not a good one), and the line that mends it."""

    what: str
    fix: str
    fatal: bool


class Board(Protocol):
    """One machine."""

    def facts(self) -> BoardFacts:
        """Return what the machine is."""
        ...

    def usage(self) -> BoardUsage:
        """Return how it feels now."""
        ...

    def obstacles(self) -> Sequence[Obstacle]:
        """Return what is missing: cgroup controllers, kernel features, system packages, a sane clock."""
        ...
