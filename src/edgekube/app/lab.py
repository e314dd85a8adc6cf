"""
A lab: a LAN of sandboxes on this machine, for tests and for trying things.

One sandbox is the LAN (a bridge and nothing else), one the master, the others nodes; each is a
machine of its own with its own podman. None has a route to the outside. Killing a node's supervisor
is a power cut; taking its port on the LAN down is a partition.
"""

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekube.app import sandbox
from edgekube.app.paths import ServerPaths
from edgekube.app.up import Api, listen, wait_for
from edgekube.client import kubeconfig

NETWORK = "10.50.0"
MASTER = f"{NETWORK}.2"
PROGRAM = (sys.executable, "-m", "edgekube.cli.main")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabOptions:
    """A lab's size and place."""

    directory: Path
    name: str = "lab"
    nodes: int = 2
    port: int = 16443
    """Of the API on the host's 127.0.0.1."""


class Lab:
    """A master and nodes on one LAN; `up` and `down` may be called again."""

    def __init__(self, options: LabOptions) -> None:
        self.options = options
        self.run_dir = options.directory / "run"
        self.names = tuple(f"node{number}" for number in range(1, options.nodes + 1))

    @property
    def server_paths(self) -> ServerPaths:
        """The master's files."""
        return ServerPaths(self.options.directory / "master" / "server")

    def address(self, node: str) -> str:
        """Return a node's address on the LAN."""
        return f"{NETWORK}.{10 + self.names.index(node)}"

    def up(self) -> None:
        """Start everything and wait until all nodes are Ready."""
        self._start("lan", (("idle", ("sleep", "infinity")),))
        self._on_lan("ip", "link", "add", "lan0", "type", "bridge")
        self._on_lan("ip", "link", "set", "lan0", "up")
        self.start_master()
        for node in self.names:
            self.start_node(node)
        self.wait_ready(self.names)

    def down(self) -> None:
        """End everything; files stay."""
        for machine in (*self.names, "master", "lan"):
            sandbox.cut_power(self.run_dir, machine)
            sandbox.stop(self.run_dir, machine)
            sandbox.remove_cgroups(self._cgroup(machine))

    def start_master(self) -> None:
        """Start the master's machine."""
        with listen(self.options.port) as listener:
            server = (
                *PROGRAM, "server", "--data-dir", str(self.server_paths.root), "--cluster", self.options.name,
                "--listen-fd", str(listener.fileno()), "--advertise", MASTER, "--external-port", str(self.options.port),
                "--bind", "127.0.0.1", "--bind", MASTER,
            )  # fmt: skip
            self._start("master", (("server", server),), listener.fileno())
        self._plug("master", MASTER)

    def start_node(self, node: str, *, plugged: bool = True) -> None:
        """Start a node's machine (again, after a power cut); without its cable if not `plugged`."""
        folder = self.options.directory / node
        agent = (
            *PROGRAM, "agent", "--data-dir", str(folder / "agent"), "--server", f"https://{MASTER}:6443",
            "--token-file", str(self.server_paths.node_token), "--node-name", node, "--node-ip", self.address(node),
            "--cgroup-root", self._cgroup(node),
        )  # fmt: skip
        self._start(node, (("agent", agent),))
        if plugged:
            self.plug(node)

    def plug(self, node: str) -> None:
        """Put a node's cable in."""
        self._plug(node, self.address(node))

    def cut_power(self, node: str) -> None:
        """End a node at once."""
        sandbox.cut_power(self.run_dir, node)

    def link(self, node: str, state: str) -> None:
        """Set a node's port on the LAN `up` or `down`."""
        self._on_lan("ip", "link", "set", f"p-{node}", state)

    def run(self, node: str, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        """Run a command on a machine of the lab and return what it said."""
        line = sandbox.enter(self._handle(node), command)
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603

    def api(self) -> Api:
        """Return a client of the master."""
        return Api(kubeconfig.load((self.server_paths.kubeconfig,)))

    def wait_ready(self, nodes: Sequence[str]) -> None:
        """Wait until these nodes are Ready."""
        wait_for(self.server_paths.kubeconfig.exists, "the master writes its kubeconfig")
        api = self.api()
        for node in nodes:
            wait_for(lambda name=node: api.node_ready(name), f"node {node} is Ready")  # type: ignore[misc]

    def _start(self, name: str, children: Sequence[tuple[str, Sequence[str]]], descriptor: int = -1) -> None:
        machine = sandbox.Machine(
            name=name,
            run_dir=self.run_dir,
            log_dir=self.options.directory / name / "logs",
            children=children,
        )
        sandbox.start(machine, (descriptor,) if descriptor >= 0 else ())

    def _plug(self, name: str, address: str) -> None:
        pid = str(self._handle(name).pid)
        port = f"p-{name}"
        # After a power cut the kernel may still be taking the old cable away.
        with contextlib.suppress(subprocess.CalledProcessError):
            self._on_lan("ip", "link", "delete", port)
        self._on_lan("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", pid)
        self._on_lan("ip", "link", "set", port, "master", "lan0", "up")
        inside = ("nsenter", "-t", pid, "-n")
        for line in (("address", "add", f"{address}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):
            _run(*inside, "ip", *line)

    def _on_lan(self, *command: str) -> None:
        # Only the network namespace is entered, so that pids mean what they mean here.
        _run("nsenter", "-t", str(self._handle("lan").pid), "-n", *command)

    def _handle(self, name: str) -> sandbox.Handle:
        handle = sandbox.find(self.run_dir, name)
        if handle is None:
            raise sandbox.SandboxError(f"{name} is not running")
        return handle

    def _cgroup(self, machine: str) -> str:
        return f"/{self.options.name}-{machine}"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own command
