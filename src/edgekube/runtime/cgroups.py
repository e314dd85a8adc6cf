"""Reading cgroups, v1 and v2 alike: what a container uses, and whether it was killed for want of memory."""

from pathlib import Path

from edgekube.runtime.base import Usage

ROOT = Path("/sys/fs/cgroup")


class Cgroups:
    """The cgroup file system at `root` (cgroups(7)); paths below are as podman tells them, e.g. /pods/libpod-1."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root

    @property
    def version(self) -> int:
        """2 where the unified hierarchy has the controllers, else 1."""
        return 2 if (self.root / "cgroup.controllers").exists() else 1

    def folder(self, controller: str, path: str) -> Path:
        """Return where `controller`'s files of the cgroup are."""
        base = self.root if self.version == 2 else self.root / controller
        return base / path.lstrip("/")

    def usage(self, container: str, path: str) -> Usage | None:
        """Return what the cgroup has used; None when it is gone."""
        try:
            memory, inactive, cpu = self._v2(path) if self.version == 2 else self._v1(path)
        except OSError:
            return None
        return Usage(
            id=container,
            cpu_ns=cpu,
            memory_bytes=memory,
            # What the kernel could drop at once does not count (as in cadvisor).
            working_set_bytes=max(0, memory - inactive),
            pids=_number(self.folder("pids", path) / "pids.current"),
        )

    def processes(self, path: str) -> tuple[int, ...]:
        """Return the pids in the cgroup; none when it is gone."""
        try:
            return tuple(map(int, (self.folder("memory", path) / "cgroup.procs").read_text().split()))
        except OSError:
            return ()

    def oom_kills(self, path: str) -> int:
        """Return how many processes in the cgroup (v2: and below) were killed for want of memory; 0 if it is gone."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        try:
            return _fields(self.folder("memory", path) / name).get("oom_kill", 0)
        except OSError:
            return 0

    def _v2(self, path: str) -> tuple[int, int, int]:
        folder = self.folder("", path)
        cpu = _fields(folder / "cpu.stat")["usage_usec"] * 1000
        try:
            memory = int((folder / "memory.current").read_text())
            inactive = _fields(folder / "memory.stat").get("inactive_file", 0)
        except FileNotFoundError:  # the memory controller is not enabled
            memory = inactive = 0
        return memory, inactive, cpu

    def _v1(self, path: str) -> tuple[int, int, int]:
        memory = self.folder("memory", path)
        return (
            int((memory / "memory.usage_in_bytes").read_text()),
            _fields(memory / "memory.stat").get("total_inactive_file", 0),
            int((self.folder("cpuacct", path) / "cpuacct.usage").read_text()),
        )


def _fields(file: Path) -> dict[str, int]:
    pairs = (line.split() for line in file.read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def _number(file: Path) -> int:
    try:
        return int(file.read_text())
    except OSError:
        return 0
