"""Whole clusters, of one machine or a lab, started as a person would, and the real kubectl to drive them."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgekube.app import demo, sandbox
from edgekube.app.lab import Lab, LabOptions
from edgekube.app.options import UpOptions
from edgekube.app.paths import ServerPaths
from edgekube.app.up import Api, UpError, up
from edgekube.client import kubeconfig

IMAGE = demo.IMAGE
BIN = Path(sys.executable).parent


def eventually(check, what, seconds=60.0):
    """Return the first true answer of `check`; fails naming `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(0.1)


class Tools:
    """The tools to drive a running cluster and to look at it."""

    @property
    def paths(self) -> ServerPaths:
        raise NotImplementedError

    @property
    def log_files(self) -> Sequence[Path]:
        raise NotImplementedError

    @property
    def api(self) -> Api:
        return Api(kubeconfig.load((self.paths.kubeconfig,)))

    @property
    def env(self) -> dict[str, str]:
        return {
            **os.environ,
            "KUBECONFIG": str(self.paths.kubeconfig),
            "KUBECACHEDIR": str(self.paths.root.parent / "kubectl-cache"),
        }

    def kubectl(self, *words: str, stdin: str = "", check: bool = True, timeout: float = 60) -> str:
        result = self.run([str(BIN / "kubectl"), *words], stdin=stdin, timeout=timeout)
        if check and result.returncode:
            pytest.fail(
                f"kubectl {' '.join(words)}: {result.returncode}\n{result.stdout}{result.stderr}\n{self.logs()}"
            )
        return result.stdout if check else result.stdout + result.stderr

    def edgekube(self, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return self.run([str(BIN / "edgekube"), *words], stdin=stdin)

    def run(
        self, command: Sequence[str], *, stdin: str = "", timeout: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, env=self.env, timeout=timeout, check=False
        )

    def popen(self, *words: str, **kwargs: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([str(BIN / "kubectl"), *words], env=self.env, **kwargs)

    def json(self, *words: str) -> Any:
        return json.loads(self.kubectl(*words, "-o", "json"))

    def logs(self) -> str:
        text = ""
        for file in self.log_files:
            text += f"--- {file}\n" + "\n".join(file.read_text(errors="replace").splitlines()[-40:]) + "\n"
        return text

    def namespace(self, name: str) -> Iterator[str]:
        self.kubectl("create", "namespace", name)
        eventually(
            lambda: "default" in self.kubectl("-n", name, "get", "sa", "-o", "name"),
            f"{name} has its account",
        )
        yield name
        self.kubectl("delete", "namespace", name, "--wait=true", timeout=120)


@dataclass(frozen=True)
class Cluster(Tools):
    """A running one-machine cluster."""

    options: UpOptions

    @property
    def paths(self) -> ServerPaths:
        return ServerPaths(self.options.data_dir / "server")

    @property
    def log_files(self) -> Sequence[Path]:
        return sorted((self.options.data_dir / "logs").glob("*.log"))

    def inside(self, *command: str, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
        """Run a command on the node: in the sandbox's namespaces."""
        handle = sandbox.find(self.options.run_dir, self.options.name)
        assert handle is not None
        return subprocess.run(
            sandbox.enter(handle, command), capture_output=True, text=True, timeout=timeout, check=False
        )

    def pid_of(self, words: str) -> int:
        """Return the host's pid of the sandbox's process whose command line holds `words`."""
        handle = sandbox.find(self.options.run_dir, self.options.name)
        assert handle is not None
        namespace = os.readlink(f"/proc/{handle.pid}/ns/pid")
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == handle.pid:
                continue
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if words in line and os.readlink(entry / "ns/pid") == namespace:
                    return int(entry.name)
            except OSError:
                continue
        return 0


@dataclass(frozen=True)
class LabCluster(Tools):
    """A running lab."""

    lab: Lab

    @property
    def paths(self) -> ServerPaths:
        return self.lab.server_paths

    @property
    def log_files(self) -> Sequence[Path]:
        return sorted(self.lab.options.directory.glob("*/logs/*.log"))


def free_port() -> int:
    """Return a port of 127.0.0.1 nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_lab(directory: Path, *, name: str, **options: Any) -> Iterator[LabCluster]:
    """A lab with the image on every node, for as long as it is needed; its logs stay."""
    demo.place_image(directory / "images")
    images = tuple((directory / "images").iterdir())
    lab = Lab(
        LabOptions(
            directory=directory, name=f"{name}-{os.getpid()}", port=free_port(), images=images, **options
        )
    )
    made = LabCluster(lab)
    try:
        lab.up()
        yield made
    except UpError as error:
        pytest.fail(f"{error}\n{made.logs()}")
    finally:
        lab.down()


def start(directory: Path, *, name: str, port: int, agent_flags: tuple[str, ...] = ()) -> Cluster:
    options = UpOptions(
        data_dir=directory / "data",
        run_dir=directory / "run",
        name=name,
        port=port,
        node_name="edge1",
        patience=90,
        agent_flags=agent_flags,
    )
    demo.place_image(options.data_dir / "agent" / "images")
    up(options, print)
    return Cluster(options)
