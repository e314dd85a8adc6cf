"""
The first process of a machine's cluster: starts server and agent, starts them again when they die.

In a sandbox it is PID 1 of its own PID, mount, network, UTS and IPC namespaces (namespaces(7)), so
it also reaps orphans, and its death ends everything below it: the kernel takes processes, mounts,
network namespaces and rules away with it. It holds the API's listening socket, so a killed server
loses no connection attempt. Kept small: no asyncio, nothing imported that a supervisor need not have.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

FIRST_DELAY = 0.2
"""Seconds before a dead child is started again, doubled up to LAST_DELAY while it dies young."""
LAST_DELAY = 30.0
YOUNG = 10.0
PATIENCE = 20.0
"""Seconds the children get to end when we are told to end."""


@dataclass(slots=True)
class Child:
    """One supervised program; `process` is None while it is not running."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    delay: float = FIRST_DELAY
    due: float = 0.0

    def start(self, now: float, log: Path, descriptors: Sequence[int]) -> None:
        """Run it, its output appended to `log`."""
        with log.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603 - our own program
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=tuple(descriptors),
                start_new_session=True,
            )
        self.started = now

    def ended(self, now: float) -> None:
        """Plan the next start: soon, later if it keeps dying young."""
        self.delay = min(self.delay * 2, LAST_DELAY) if now - self.started < YOUNG else FIRST_DELAY
        self.due = now + self.delay
        self.process = None


@dataclass(slots=True)
class Supervisor:
    """Keeps `children` alive until SIGTERM or SIGINT, then ends them in reverse order."""

    children: Sequence[Child]
    log_dir: Path
    descriptors: Sequence[int] = ()
    stopping: bool = field(default=False, init=False)

    def run(self) -> None:
        """Supervise until told to stop."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # Every signal writes a byte here, so none can fall between looking and sleeping.
        wake, written = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(written, False)
        signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        while not self.stopping:
            now = time.monotonic()
            self._reap(now)
            for child in self.children:
                if child.process is None and child.due <= now:
                    child.start(now, self.log_dir / f"{child.name}.log", self.descriptors)
            self._nap(now, wake)
        self._end()

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def _reap(self, now: float) -> None:
        """Collect every dead child; as PID 1 also the orphans of podman and conmon."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for child in self.children:
                if child.process is not None and child.process.pid == pid:
                    child.process.returncode = os.waitstatus_to_exitcode(status)
                    child.ended(now)

    def _nap(self, now: float, wake: int) -> None:
        """Sleep until a signal comes or the next start is due."""
        due = [child.due - now for child in self.children if child.process is None]
        ready, _, _ = select.select([wake], [], [], max(0.01, min(due)) if due else None)
        if ready:
            os.read(wake, 4096)

    def _end(self) -> None:
        for child in reversed(self.children):
            if child.process is not None:
                child.process.terminate()
                try:
                    child.process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    child.process.kill()


def prepare_namespaces() -> None:
    """Make the new namespaces a fresh machine: loopback up, volatile directories empty."""
    unified = Path("/sys/fs/cgroup/unified")
    if os.path.ismount(unified):
        # crun takes a hybrid tree for cgroup v2 and then misses the controllers.
        _run("umount", str(unified))
    for folder in ("/run/netns", "/run/crun", "/run/runc", "/run/edgekube-node"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", "mode=755", "edgekube", folder)
    _run("mount", "--make-rshared", "/run/netns")
    _run("ip", "link", "set", "lo", "up")


def add_node_interface(address: str, prefix: int) -> None:
    """Give the namespace the one interface a machine would have; it leads nowhere (a bridge without ports)."""
    _run("ip", "link", "add", "eth0", "type", "bridge")
    _run("ip", "address", "add", f"{address}/{prefix}", "dev", "eth0")
    _run("ip", "link", "set", "eth0", "up")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)  # noqa: S603 - fixed commands


def main() -> None:
    """Run what the JSON on the command line says (see `app.sandbox`)."""
    plan = json.loads(sys.argv[1])
    if plan["isolated"]:
        prepare_namespaces()
        if plan["hostname"]:
            Path("/proc/sys/kernel/hostname").write_text(plan["hostname"])
        if plan["address"]:
            add_node_interface(plan["address"], plan["prefix"])
    log_dir = Path(plan["log_dir"])
    log_dir.mkdir(parents=True, exist_ok=True)
    children = [Child(name, command) for name, command in plan["children"]]
    Supervisor(children, log_dir, plan["descriptors"]).run()


if __name__ == "__main__":
    main()
