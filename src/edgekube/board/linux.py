"""The board we run on, from /proc and /sys; or one whose files lie below another root."""

import os
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekube.board import facts as fact_finding
from edgekube.board import obstacles as obstacle_finding
from edgekube.board import usage as usage_reading
from edgekube.board.base import BoardFacts, BoardUsage, Obstacle
from edgekube.board.files import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What the files do not tell: how programs see the machine. None: as this process does."""

    machine: str | None = None
    """`uname -m`."""
    pointer_bits: int = struct.calcsize("P") * 8
    page_size: int | None = None
    user: int | None = None


class LinuxBoard:
    """
    A Linux machine.

    `disk` is a path on the file system to report (the agent's data), `images` one on that of the
    images; `not_before` when the clock must at least be (the start of the CA's validity, epoch
    seconds); `server` whether it is to be a master, too, and so needs a broker.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        *,
        disk: Path | None = None,
        images: Path | None = None,
        not_before: float = 0.0,
        server: bool = True,
        process: Process = Process(),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._tree = Tree(root)
        self._disk, self._images = disk or root, images
        self._not_before = not_before
        self._server = server
        self._process = process
        self._now = now

    def facts(self) -> BoardFacts:
        """Return what the machine is."""
        process = self._process
        return fact_finding.facts(
            self._tree,
            machine=process.machine or os.uname().machine,
            pointer_bits=process.pointer_bits,
            page_size=self._page_size(),
        )

    def usage(self) -> BoardUsage:
        """Return how it feels now."""
        return usage_reading.usage(self._tree, disk=self._disk, now=self._now(), images=self._images)

    def obstacles(self) -> Sequence[Obstacle]:
        """Return what is missing or wrong."""
        return obstacle_finding.obstacles(
            self._tree,
            now=self._now(),
            not_before=self._not_before,
            user=os.geteuid() if self._process.user is None else self._process.user,
            page_size=self._page_size(),
            server=self._server,
        )

    def _page_size(self) -> int:
        return self._process.page_size or os.sysconf("SC_PAGE_SIZE")
