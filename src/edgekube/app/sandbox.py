"""
A machine of its own on this machine: namespaces around a supervisor.

Nothing is mounted, no interface made and no rule set in the host's namespaces, and none of the
namespaces has a name there: when the supervisor's process ends, all of it is gone. Only cgroups
and files outlive it; `remove_cgroups` and the data directory's owner see to those.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgekube.lib.errors import EdgekubeError
from edgekube.lib.files import write_atomic

CGROUPS = Path("/sys/fs/cgroup")
STARTUP = 10.0
"""Seconds the namespaces may take to appear."""

RELEASE = 5.0
"""Seconds the kernel may take to let go of a cgroup."""


class SandboxError(EdgekubeError):
    """The sandbox cannot be made or entered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What to run and where. `address` is the machine's own IPv4 address; "": whoever wires it gives it one."""

    name: str
    run_dir: Path
    log_dir: Path
    children: Sequence[tuple[str, Sequence[str]]]
    address: str = ""
    prefix: int = 24
    isolated: bool = True
    hostname: str = ""
    """Of the machine; "": this machine's."""


class Handle(msgspec.Struct, frozen=True):
    """How to find a running machine again: the supervisor as the host sees it."""

    pid: int
    start_time: int
    """Field 22 of /proc/<pid>/stat, so that a reused pid is not mistaken for ours (proc(5))."""
    launcher: int
    isolated: bool


def start(machine: Machine, descriptors: Sequence[int] = ()) -> Handle:
    """Start the supervisor with the file `descriptors` inherited; return when it runs and `find` finds it."""
    handle = launch(machine, descriptors)
    write_atomic(_file(machine.run_dir, machine.name), msgspec.json.encode(handle))
    return handle


def launch(machine: Machine, descriptors: Sequence[int] = ()) -> Handle:
    """Start the supervisor as `start` does; remembering the handle is the caller's business."""
    plan = {
        "isolated": machine.isolated,
        "address": machine.address,
        "prefix": machine.prefix,
        "log_dir": str(machine.log_dir),
        "children": [[name, list(command)] for name, command in machine.children],
        "descriptors": list(descriptors),
        "hostname": machine.hostname,
    }
    command = [sys.executable, "-m", "edgekube.app.supervisor", json.dumps(plan)]
    if machine.isolated:
        command = [*_unshare(), *command]
    machine.log_dir.mkdir(parents=True, exist_ok=True)
    with (machine.log_dir / "supervisor.log").open("ab") as log:
        launcher = subprocess.Popen(  # noqa: S603 - our own program
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=tuple(descriptors),
            start_new_session=True,
            cwd="/",
        )
    pid = first_child(launcher) if machine.isolated else launcher.pid
    # It is to outlive us: the Popen object must not complain when it goes.
    launcher.returncode = 0
    return Handle(pid, _start_time(pid) or 0, launcher.pid, machine.isolated)


def find(run_dir: Path, name: str) -> Handle | None:
    """Return the running machine of that name, or None."""
    try:
        handle = msgspec.json.decode(_file(run_dir, name).read_bytes(), type=Handle)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return handle if alive(handle) else None


def alive(handle: Handle) -> bool:
    """Tell whether that very machine runs."""
    return _start_time(handle.pid) == handle.start_time


def stop(run_dir: Path, name: str, *, patience: float = 30.0) -> None:
    """End the machine in order, SIGKILL after `patience` seconds; harmless when it does not run."""
    handle = find(run_dir, name)
    if handle is not None:
        for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
            _signal(handle.pid, number)
            if _gone(handle, seconds):
                break
        else:
            raise SandboxError(f"process {handle.pid} does not end")
    _file(run_dir, name).unlink(missing_ok=True)


def cut_power(run_dir: Path, name: str) -> None:
    """End the machine as a power cut does: at once, without a word to anything in it."""
    handle = find(run_dir, name)
    if handle is not None:
        kill(handle)


def kill(handle: Handle) -> None:
    """End the machine at once; returns when all of it is gone. Raises SandboxError when it does not go."""
    if not alive(handle):
        return
    _signal(handle.pid, signal.SIGKILL)
    if not _gone(handle, 10.0):
        raise SandboxError(f"process {handle.pid} does not end")


def kill_strays(logs: Path) -> int:
    """End every machine that logs below the folder `logs`, known by its command line; return how many processes."""
    found = {pid: _start_time(pid) for pid in _supervisors(logs)}
    for pid in found:
        _signal(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10.0
    while any(began is not None and _start_time(pid) == began for pid, began in found.items()):
        if time.monotonic() > deadline:
            raise SandboxError(f"of processes {sorted(found)} some do not end")
        time.sleep(0.02)
    return len(found)


def enter(handle: Handle, command: Sequence[str]) -> list[str]:
    """Return the command line that runs `command` inside the machine (nsenter(1))."""
    if not handle.isolated:
        return list(command)
    return ["nsenter", "-t", str(handle.pid), "-m", "-n", "-p", "-u", "-i", *command]


def remove_cgroups(parent: str) -> None:
    """Remove the (empty) cgroup tree `parent` from every hierarchy, v1 or v2."""
    roots = [CGROUPS, *(path for path in CGROUPS.iterdir() if path.is_dir())]
    trees = [tree for root in roots if (tree := root / parent.lstrip("/")).is_dir()]
    deadline = time.monotonic() + RELEASE
    # The kernel may be busy with a cgroup for a moment after its last process (rmdir(2): EBUSY).
    while (trees := [tree for tree in trees if not _removed(tree)]) and time.monotonic() < deadline:
        time.sleep(0.05)


def _removed(tree: Path) -> bool:
    for folder in sorted(_folders(tree), key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()
    return not tree.is_dir()


def _folders(tree: Path) -> Iterable[Path]:
    yield tree
    yield from (Path(base) / name for base, names, _ in os.walk(tree) for name in names)


def _unshare() -> list[str]:
    # --propagation private: no mount made inside is seen outside.
    return [
        "unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL", "--mount-proc",
        "--propagation", "private",
    ]  # fmt: skip


def _supervisors(logs: Path) -> Iterable[int]:
    """Yield supervisors, and the unshare(1) processes that wait for them, in this order of /proc."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        except OSError:
            continue
        if "edgekube.app.supervisor" not in words:
            continue
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if Path(json.loads(words[-1])["log_dir"]).is_relative_to(logs):
                yield int(folder.name)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def first_child(launcher: subprocess.Popen[bytes]) -> int:
    """Wait for the process that `launcher` forks into new namespaces and return its pid; raises SandboxError."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    deadline = time.monotonic() + STARTUP
    while time.monotonic() < deadline:
        if launcher.poll() is not None:
            raise SandboxError(f"unshare ended with {launcher.returncode}; see supervisor.log")
        pids = children.read_text().split()
        if pids:
            return int(pids[0])
        time.sleep(0.01)
    raise SandboxError("no process appeared in the new namespaces")


def _gone(handle: Handle, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(handle.launcher, os.WNOHANG)
        # The launcher holds the listening socket too, until it has seen its child end.
        if _start_time(handle.pid) != handle.start_time and _start_time(handle.launcher) is None:
            return True
        time.sleep(0.02)
    return False


def _start_time(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _file(run_dir: Path, name: str) -> Path:
    return run_dir / f"{name}.json"
