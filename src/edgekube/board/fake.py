"""A make-believe board: what it is told to be."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edgekube.board.base import BoardFacts, BoardUsage, Obstacle

FACTS = BoardFacts(
    hostname="board",
    architecture="arm64",
    operating_system="linux",
    os_image="Debian GNU/Linux 12 (bookworm)",
    kernel_version="6.12.25+rpt-rpi-v8",
    machine_id="0123456789abcdef0123456789abcdef",
    boot_id="01234567-89ab-cdef-0123-456789abcdef",
    system_uuid="10000000deadbeef",
    model="Raspberry Pi 4 Model B Rev 1.5",
    cpus=4,
    memory=4 << 30,
    page_size=4096,
    labels={
        "edgekube.io/model": "raspberry-pi-4-model-b-rev-1.5",
        "edgekube.io/storage": "sd",
        "edgekube.io/gpu": "v3d",
        "edgekube.io/rtc": "false",
    },
)
USAGE = BoardUsage(
    time=1_800_000_000.0,
    cpu_ns=60_000_000_000,
    memory_used=2 << 30,
    memory_working_set=1 << 30,
    memory_available=3 << 30,
    disk_capacity=32 << 30,
    disk_available=20 << 30,
    inodes=2_000_000,
    inodes_free=1_500_000,
    received_bytes=1_000_000,
    sent_bytes=500_000,
    load=(0.5, 0.4, 0.3),
    temperature=48.3,
)


class FakeBoard:
    """Answers with the values it has; change them with `set_…`."""

    def __init__(
        self, facts: BoardFacts = FACTS, usage: BoardUsage = USAGE, obstacles: Sequence[Obstacle] = ()
    ) -> None:
        self._facts = facts
        self._usage = usage
        self._obstacles = tuple(obstacles)

    def facts(self) -> BoardFacts:
        """Return the given facts."""
        return self._facts

    def usage(self) -> BoardUsage:
        """Return the given usage."""
        return self._usage

    def obstacles(self) -> Sequence[Obstacle]:
        """Return the given obstacles."""
        return self._obstacles

    def set_facts(self, **changes: Any) -> None:
        """Replace some facts, e.g. `boot_id` for a reboot."""
        self._facts = replace(self._facts, **changes)

    def set_usage(self, **changes: Any) -> None:
        """Replace some of the usage, e.g. `temperature`."""
        self._usage = replace(self._usage, **changes)

    def set_obstacles(self, obstacles: Sequence[Obstacle]) -> None:
        """Replace the obstacles."""
        self._obstacles = tuple(obstacles)
