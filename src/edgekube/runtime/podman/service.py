"""
Podman's API service as the agent's child: started, watched, started again.

Containers do not depend on it: each has a monitor (conmon) of its own that outlives service and
agent. The service itself never outlives the agent.
"""

import asyncio
import contextlib
import logging
import os
import resource
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekube.lib.backoff import Backoff
from edgekube.lib.files import write_atomic
from edgekube.runtime.base import RuntimeUnavailable
from edgekube.runtime.podman.rest import Call, Rest

log = logging.getLogger(__name__)

_CONFIGURATION = """\
# Written at every start.
[containers]
# Soft and hard alike: podman 4.3 swaps the two for containers made over its API.
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
default_sysctls = []
# What containers may do everywhere else in Kubernetes (containerd's and CRI's list); podman's own is shorter.
default_capabilities = [
  "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
  "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
]
http_proxy = false
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
# Otherwise two processes linger for five minutes after every exec.
exit_command_delay = 5
[network]
network_backend = "netavark"
"""
OPEN_FILES = 65536
PROCESSES = 32768
"""Limits of a container's processes, unless we ourselves have less."""
RUNTIMES = ("crun", "runc")
HEALTHY = 10.0
"""Seconds of life after which a death is no longer counted as one of a series."""
PING = 5.0
WATCH = 10.0
"""Seconds between two looks at whether the service answers."""
HUNG = 3
"""Looks without an answer, one after another, after which it is killed."""


def configuration() -> str:
    """Return podman's containers.conf(5)."""
    return _CONFIGURATION.format(
        files=_limit(resource.RLIMIT_NOFILE, OPEN_FILES), processes=_limit(resource.RLIMIT_NPROC, PROCESSES)
    )


@dataclass(frozen=True, slots=True)
class ServicePaths:
    """Where podman keeps what: `data` survives a boot (images), `run` must not (a tmpfs)."""

    data: Path
    run: Path

    @property
    def socket(self) -> Path:
        """The API's socket."""
        return self.run / "podman.sock"

    @property
    def url(self) -> str:
        """What `open_runtime` takes."""
        return f"podman://{self.socket}?state={self.run / 'oom'}"


class PodmanService:
    """
    Keeps `podman system service` alive, and kills one that does not answer any more.

    `enter` is put before its command line (e.g. nsenter); `every` is the pause between two looks.
    """

    def __init__(
        self, paths: ServicePaths, *, oci_runtime: str = "", enter: Sequence[str] = (), every: float = WATCH
    ) -> None:
        self.paths = paths
        self.pid = 0
        """Of the child while it runs, else 0."""
        self._oci_runtime = oci_runtime
        self._enter = tuple(enter)
        self._every = every
        self._rest = Rest(paths.socket, timeout=PING)

    @property
    def url(self) -> str:
        """What `open_runtime` takes."""
        return self.paths.url

    async def run(self) -> None:
        """Start, and start again with back-off when it ends; until cancelled, which ends the child."""
        backoff: Backoff[str] = Backoff(first=0.1, limit=30.0)
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            code = await self._once()
            if loop.time() - began > HEALTHY:
                backoff.forget("")
            delay = backoff.next("")
            log.warning("podman's service ended with %s; starting it again in %.1f s", code, delay)
            await asyncio.sleep(delay)

    async def ready(self, *, patience: float = 20.0) -> None:
        """Return when it answers; raises RuntimeUnavailable after `patience` seconds."""
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            try:
                await self._rest.send(Call("GET", "/_ping"))
            except RuntimeUnavailable:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.02)
            else:
                return

    def command(self) -> list[str]:
        """Return the command line."""
        paths = self.paths
        return [
            *self._enter,
            # The kernel kills it when we die, however we die (PR_SET_PDEATHSIG, prctl(2)).
            "setpriv", "--pdeathsig", "KILL",
            "podman", "--root", str(paths.data / "storage"), "--runroot", str(paths.run / "storage"),
            "--tmpdir", str(paths.run / "tmp"), "--network-config-dir", str(paths.run / "networks"),
            "--runtime", self._oci_runtime or _installed_runtime(), "--log-level", "warn",
            "system", "service", "--time=0", f"unix://{paths.socket}",
        ]  # fmt: skip

    async def _once(self) -> int | None:
        paths = self.paths
        settings = paths.run / "containers.conf"
        # conmon writes a file "oom" into the working directory when a container runs out of memory.
        work = paths.run / "work"
        try:
            write_atomic(settings, configuration().encode(), mode=0o644)
            for folder in (paths.data, work, paths.run / "networks"):
                folder.mkdir(parents=True, exist_ok=True)
            paths.socket.unlink(missing_ok=True)
            with (paths.run / "podman.log").open("wb") as output:
                process = await asyncio.create_subprocess_exec(
                    *self.command(),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=work,
                    env=os.environ | {"CONTAINERS_CONF": str(settings)},
                )
        except OSError as error:
            log.warning("podman cannot be started: %s", error)
            return None
        self.pid = process.pid
        _modest(process.pid)
        watch = asyncio.create_task(self._watch(process), name="podman-watch")
        try:
            return await process.wait()
        finally:
            self.pid = 0
            watch.cancel()
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await _reap(process)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Kill the service when it hangs: containers have their own monitors, and a new one takes over."""
        silent = 0
        # An SD card that stalls makes it slow, and killing it would spoil what it is doing.
        rest = Rest(self.paths.socket, timeout=self._every)
        while silent < HUNG:
            await asyncio.sleep(self._every)
            try:
                await rest.send(Call("GET", "/_ping"))
                silent = 0
            except RuntimeUnavailable as error:
                silent += 1
                log.warning("podman's service is silent (%d of %d): %s", silent, HUNG, error)
        log.error("podman's service hangs; killing it")
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def _modest(pid: int) -> None:
    """Take an agent's own protection from the out-of-memory killer off its child: what is exec'd inherits it."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("0")


async def _reap(process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(5.0):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _installed_runtime() -> str:
    return next((name for name in RUNTIMES if shutil.which(name)), RUNTIMES[0])


def _limit(what: int, wanted: int) -> int:
    """Return `wanted`, or the hard limit we may not raise if that is lower."""
    hard = resource.getrlimit(what)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
