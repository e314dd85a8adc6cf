"""
Who was killed for want of memory: podman up to 4.x does not know (its monitor notes it in the wrong folder).

cgroup v1: an eventfd on the container's memory.oom_control, armed between init and start, so that
no container is too quick for it (kernel: cgroup-v1/memory.rst §10). The kernel also signals it when the
cgroup goes. cgroup v2: memory.events counts below a cgroup too, so the parent's oom_kill tells
after the container's own cgroup has gone (cgroup-v2.rst).
What was found is kept in `folder` (on a tmpfs: nothing here outlives a boot), for an agent's restart.
"""

import asyncio
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from edgekube.runtime.cgroups import Cgroups

KILLED = ".oom"
BASELINE = ".before"
SIGKILLED = 137
REMOVAL_SIGNAL = 0.1
"""Seconds the kernel may take to signal that a cgroup has gone."""


@dataclass(slots=True)
class Watch:
    """An armed eventfd. `signals` counts out-of-memory events plus, at last, the cgroup's removal."""

    folder: Path
    descriptor: int
    signals: int = 0
    seen: bool = False
    """A signal came while the cgroup was there: it was not the removal's."""

    def read(self) -> None:
        """Take in what the kernel signalled; harmless once closed."""
        if self.descriptor < 0:
            return
        with contextlib.suppress(BlockingIOError):
            self.signals += os.eventfd_read(self.descriptor)
            self.seen = self.seen or self.folder.exists()

    def close(self) -> None:
        """Let go of the descriptor, whose number may then be another file's."""
        if self.descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self.descriptor)
            os.close(self.descriptor)
            self.descriptor = -1

    @property
    def killed(self) -> bool:
        """Whether an out-of-memory event is certain."""
        return self.seen or self.signals >= 2


class OomTracker:
    """Remembers, by container id, who was killed."""

    def __init__(self, folder: Path, cgroups: Cgroups) -> None:
        self._folder = folder
        self._cgroups = cgroups
        self._watches: dict[str, Watch] = {}
        self._killed = {file.stem for file in folder.glob(f"*{KILLED}")} if folder.is_dir() else set()
        self._stopped: set[str] = set()

    @property
    def needs_init(self) -> bool:
        """Whether the cgroup must exist before the start (v1)."""
        return self._cgroups.version == 1

    def watches(self, container: str) -> bool:
        """Tell whether the container is being watched."""
        return container in self._watches or (self._folder / f"{container}{BASELINE}").exists()

    def arm(self, container: str, path: str) -> None:
        """Watch a container about to start (or found running) in the cgroup `path`."""
        self.disarm(container)
        self._killed.discard(container)
        self._stopped.discard(container)
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / f"{container}{KILLED}").unlink(missing_ok=True)
        if self.needs_init:
            # No memory controller, or gone already: then there is nothing to watch.
            with contextlib.suppress(OSError):
                self._watches[container] = self._register(container, path)
        else:
            parent = path.rpartition("/")[0]
            text = f"{self._cgroups.oom_kills(parent)} {parent}"
            (self._folder / f"{container}{BASELINE}").write_text(text)

    def stopping(self, container: str) -> None:
        """Note that we end it ourselves: its SIGKILL will be ours."""
        self._stopped.add(container)

    async def killed(self, container: str, exit_code: int) -> bool:
        """Tell whether a container that ended with `exit_code` was killed for want of memory."""
        if exit_code == 0:
            return False
        if container in self._killed:
            return True
        watch = self._watches.get(container)
        if watch is not None:
            watch.read()
            if watch.signals == 1 and not watch.killed:
                await asyncio.sleep(REMOVAL_SIGNAL)
                watch.read()
            found = watch.killed or container in self._killed
        else:
            found = exit_code == SIGKILLED and container not in self._stopped and self._grew(container)
        self.disarm(container)
        if found:
            self._remember(container)
        return found

    def forget(self, container: str) -> None:
        """Drop all about a removed container."""
        self.disarm(container)
        self._stopped.discard(container)
        if container in self._killed:
            self._killed.discard(container)
            (self._folder / f"{container}{KILLED}").unlink(missing_ok=True)

    def disarm(self, container: str) -> None:
        """Stop watching."""
        watch = self._watches.pop(container, None)
        if watch is not None:
            watch.close()
        (self._folder / f"{container}{BASELINE}").unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the descriptors; what is on disk stays."""
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()

    def _register(self, container: str, path: str) -> Watch:
        folder = self._cgroups.folder("memory", path)
        control = os.open(folder / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            try:
                (folder / "cgroup.event_control").write_text(f"{descriptor} {control}")
            except OSError:
                os.close(descriptor)
                raise
        finally:
            os.close(control)
        watch = Watch(folder, descriptor)
        asyncio.get_running_loop().add_reader(descriptor, self._signalled, container)
        return watch

    def _signalled(self, container: str) -> None:
        watch = self._watches[container]
        watch.read()
        if watch.seen:
            self._remember(container)

    def _remember(self, container: str) -> None:
        self._killed.add(container)
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / f"{container}{KILLED}").touch()

    def _grew(self, container: str) -> bool:
        try:
            text = (self._folder / f"{container}{BASELINE}").read_text()
        except FileNotFoundError:
            return False
        before, _, parent = text.partition(" ")
        return self._cgroups.oom_kills(parent) > int(before)
