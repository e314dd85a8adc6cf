"""A podman of its own for tests: own namespaces, storage and cgroups; nothing of it is left."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

from edgekube.runtime.archive import Entry, write_archive
from edgekube.runtime.podman.service import PodmanService, ServicePaths, configuration

IMAGE = "localhost/edgekube-test:1"
APPLETS = (
    "sh", "cat", "date", "echo", "env", "false", "head", "hostname", "id", "kill", "ls", "printenv",
    "ps", "seq", "sleep", "stty", "tail", "touch", "true", "tty", "wc", "yes", "pwd", "mkdir", "readlink",
)  # fmt: skip
# As the sandbox prepares a node: crun takes a hybrid tree for cgroup v2 while `unified` is mounted.
INIT = """
set -e
umount /sys/fs/cgroup/unified 2>/dev/null || true
for folder in /run/netns /run/crun /run/runc; do mkdir -p $folder; mount -t tmpfs -o mode=755 test $folder; done
ip link set lo up
echo ready
while :; do sleep 1000 & wait $! || true; done
"""


def make_image(folder: Path) -> Path:
    """Write the image every test uses."""
    path = folder / "image.tar"
    write_archive(
        path,
        IMAGE,
        binary=Path("/bin/busybox"),
        applets=APPLETS,
        command=("sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"),
        files={"image-file": Entry(b"from the image\n")},
    )
    return path


class PodmanMachine:
    """Namespaces with a podman service in them; `kill` and `start` as often as wanted."""

    def __init__(self) -> None:
        # Not pytest's folder: a unix socket's path has room for 107 characters only.
        self.root = Path(tempfile.mkdtemp(prefix="ekrt-"))
        self.cgroup = f"/ekrt-{uuid.uuid4().hex[:8]}"
        self.paths = ServicePaths(self.root / "data", self.root / "run")
        self._init = subprocess.Popen(
            [
                *("unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL"),
                *("--mount-proc", "--propagation", "private", "sh", "-c", INIT),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._init.stdout is not None
        assert self._init.stdout.readline() == b"ready\n"
        self.pid1 = int(Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text())
        # Entering a mount namespace changes the working directory to /, where an agent's service never is.
        work = self.paths.run / "work"
        work.mkdir(parents=True)
        self.enter = ("nsenter", "-t", str(self.pid1), "-m", "-n", "-p", "-u", "-i", f"--wd={work}", "--")
        self.service = PodmanService(self.paths, enter=self.enter)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the service; returns when it listens."""
        settings = self.paths.run / "containers.conf"
        settings.write_text(configuration())
        self.paths.socket.unlink(missing_ok=True)
        with (self.root / "podman.log").open("ab") as output:
            self._process = subprocess.Popen(
                self.service.command(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
                env=os.environ | {"CONTAINERS_CONF": str(settings)},
                start_new_session=True,
            )
        while not self.paths.socket.exists():
            assert self._process.poll() is None, (self.root / "podman.log").read_text()
            time.sleep(0.01)

    def pid(self) -> int:
        """The service's pid, as the host sees it."""
        assert self._process is not None
        return service_pid(self._process.pid)

    def suspend(self) -> None:
        """Make the service hang."""
        os.kill(self.pid(), signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on; nsenter stops with its child, but does not go on with it."""
        assert self._process is not None
        os.kill(self.pid(), signal.SIGCONT)
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL the service."""
        if self._process is not None:
            os.kill(self.pid(), signal.SIGKILL)
            self._process.wait()
            self._process = None

    def podman(self, *arguments: str) -> str:
        """Run podman's own command line on the same storage: an independent witness."""
        command = self.service.command()
        base = command[: command.index("system")]
        base = [word for word in base if word not in {"setpriv", "--pdeathsig", "KILL"}]
        environment = os.environ | {"CONTAINERS_CONF": str(self.paths.run / "containers.conf")}
        return subprocess.run(
            [*base, *arguments], check=True, capture_output=True, text=True, env=environment
        ).stdout

    def close(self) -> None:
        """End all and remove all."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid1, signal.SIGKILL)
        self._init.wait()
        if self._init.stdout is not None:
            self._init.stdout.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        remove_cgroups(self.cgroup)
        shutil.rmtree(self.root, ignore_errors=True)


def service_pid(launcher: int) -> int:
    """Return the pid of what nsenter forked (it forks to enter a PID namespace)."""
    children: list[str] = []
    while not children:
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        time.sleep(0.005)
    return int(children[0])


def remove_cgroups(parent: str) -> None:
    """Remove an emptied cgroup from every hierarchy; the kernel may need a moment to empty it."""
    root = Path("/sys/fs/cgroup")
    for tree in [folder / parent.lstrip("/") for folder in (root, *root.iterdir()) if folder.is_dir()]:
        for _ in range(200):
            folders = sorted((Path(base) for base, _, _ in os.walk(tree)), key=lambda p: -len(p.parts))
            for folder in folders:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            if not tree.exists():
                break
            time.sleep(0.01)
