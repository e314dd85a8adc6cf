"""The lab itself: bring it up, break it, take it down."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgekube.app import sandbox
from edgekube.app.lab import wiring
from edgekube.app.lab.cables import SWITCH, Cables
from edgekube.app.lab.machines import AT_ONCE, Machines
from edgekube.app.lab.state import MachineState, StateFile
from edgekube.app.lab.topology import MASTER, NODE_INTERFACE, LabError, LabOptions, Role
from edgekube.app.nodeoptions import SHARED_DISK
from edgekube.app.options import DUAL_STACK
from edgekube.app.paths import ServerPaths
from edgekube.app.up import Api, listen, wait_for
from edgekube.client import kubeconfig

PROGRAM = (sys.executable, "-m", "edgekube.cli.main")
IDLE = (("idle", ("sleep", "infinity")),)


class Lab:
    """A master, nodes and clients on LANs; `up` and `down` may be called again, from any process."""

    def __init__(self, options: LabOptions) -> None:
        self.options = options
        self._machines = Machines(options)
        self._cables = Cables(self._machines)
        self.places = self._machines.places

    @classmethod
    def find(cls, directory: Path) -> "Lab":
        """Return the lab that is in `directory`; raises LabError."""
        state = StateFile(directory).read()
        if state is None:
            raise LabError(f"no lab in {directory}; edgekube lab up")
        return cls(state.options(directory))

    @classmethod
    def remains(cls, directory: Path, name: str) -> "Lab":
        """Return what is left in `directory` of a lab of which no state says anything: good for `down` alone."""
        nodes, lans = (len(list(directory.glob(f"{role}[0-9]*"))) for role in (Role.NODE, Role.CLIENT))
        return cls(LabOptions(directory=directory, name=name, nodes=max(nodes, 1), lans=max(lans, 1)))

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes."""
        return tuple(place.name for place in self.places.values() if place.role is Role.NODE)

    @property
    def clients(self) -> tuple[str, ...]:
        """The machines outside the cluster, one on each LAN."""
        return tuple(place.name for place in self.places.values() if place.role is Role.CLIENT)

    @property
    def server_paths(self) -> ServerPaths:
        """The master's files."""
        return ServerPaths(self._machines.folder("master") / "server")

    @property
    def state_path(self) -> Path:
        """The file by which other processes find the lab."""
        return self._machines.file.path

    def address(self, machine: str) -> str:
        """Return a machine's address on its (first) LAN."""
        return self._machines.place(machine).address

    def up(self) -> None:
        """Start what does not run and wait until all nodes are Ready."""
        self.start([name for name in self.places if name not in (SWITCH, *self.names)])
        # Nodes that try to join before there is a master only take its processor time.
        wait_for(self.server_paths.kubeconfig.exists, "the master writes its kubeconfig")
        self.start(self.names)
        self.wait_ready(self.names)

    def start(self, machines: Sequence[str]) -> None:
        """Start these machines, and first the switch, where they do not run."""
        self._machines.begin()
        self._start(SWITCH)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self._start, machines))

    def down(self, *, keep: bool = True) -> None:
        """End everything, also what a start left that never finished; the machines' files stay if `keep`."""
        self._machines.end_all()
        self._machines.forget(keep=keep)

    def start_master(self) -> None:
        """Start the master's machine; raises UpError when the port is taken."""
        with listen(self.options.port) as listener:
            server = (
                *PROGRAM, "server", "--data-dir", str(self.server_paths.root), "--cluster", self.options.name,
                "--listen-fd", str(listener.fileno()), "--advertise", MASTER, "--external-port", str(self.options.port),
                "--bind", "127.0.0.1", "--bind", MASTER, "--network", self.options.network,
                *(DUAL_STACK if self.options.dual_stack else ()),
            )  # fmt: skip
            self._machines.start("master", (("server", server),), listener.fileno())
        self.plug("master")

    def start_node(self, node: str, *, plugged: bool = True) -> None:
        """Start a node's machine (again, after a power cut); without its cable if not `plugged`."""
        folder = self._machines.folder(node)
        self._place_images(folder / "agent" / "images")
        agent = (
            *PROGRAM, "agent", "--data-dir", str(folder / "agent"), "--server", f"https://{MASTER}:6443",
            "--token-file", str(self.server_paths.node_token), "--node-name", node, "--node-interface", NODE_INTERFACE,
            "--cgroup-root", self._machines.cgroup(node), *SHARED_DISK,
        )  # fmt: skip
        self._machines.start(node, (("agent", agent),))
        if plugged:
            self.plug(node)

    def plug(self, machine: str) -> None:
        """Put a machine's cable in, as good or bad as it was before."""
        self._cables.plug(machine)

    def cut_power(self, machine: str) -> None:
        """End a machine at once."""
        if machine == SWITCH:
            raise LabError("all cables end in the switch; take links down instead")
        self._machines.cut_power(machine)

    def power(self, machine: str, state: str) -> None:
        """Set a machine's power `on` or `off`; harmless when it is so already."""
        if state == "off":
            self.cut_power(machine)
        else:
            self._start(machine)

    def link(self, machine: str, state: str) -> None:
        """Set a machine's port on the LAN `up` or `down`."""
        self._cables.set_link(machine, state)

    def loss(self, machine: str, percent: float) -> None:
        """Let a machine's cable lose so many percent of the frames, in each direction."""
        self._cables.set_loss(machine, percent)

    def latency(self, machine: str, milliseconds: float) -> None:
        """Let every frame on a machine's cable take so much longer, in each direction."""
        self._cables.set_latency(machine, milliseconds)

    def command(self, machine: str, command: Sequence[str]) -> list[str]:
        """Return the command line that runs `command` on a machine of the lab."""
        return sandbox.enter(self._machines.handle(machine), command)

    def run(
        self, machine: str, command: Sequence[str], *, timeout: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command on a machine of the lab and return what it said; `timeout` in seconds."""
        line = self.command(machine, command)
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=timeout)  # noqa: S603 - ours

    def api(self) -> Api:
        """Return a client of the master."""
        return Api(kubeconfig.load((self.server_paths.kubeconfig,)))

    def ready(self, node: str) -> bool:
        """Tell whether the master calls a node Ready; False when there is no master to ask."""
        return self.server_paths.kubeconfig.exists() and self.api().node_ready(node)

    def wait_ready(self, nodes: Sequence[str]) -> None:
        """Wait until these nodes are Ready."""
        wait_for(self.server_paths.kubeconfig.exists, "the master writes its kubeconfig")
        api = self.api()
        for node in nodes:
            wait_for(lambda name=node: api.node_ready(name), f"node {node} is Ready")  # type: ignore[misc]

    def running(self, machine: str) -> bool:
        """Tell whether a machine has power."""
        return self._machines.running(machine)

    def machine(self, machine: str) -> MachineState:
        """Return what is known of a machine; raises LabError when the lab is not up."""
        return self._machines.state().machines[self._machines.place(machine).name]

    def _start(self, machine: str) -> None:
        if self.running(machine):
            return
        role = self._machines.place(machine).role
        if role is Role.MASTER:
            self.start_master()
        elif role is Role.NODE:
            self.start_node(machine)
        elif role is Role.SWITCH:
            self._machines.start(machine, IDLE)
            wiring.batch(self._machines.pid(machine), wiring.bridges(self.options.lans))
        else:
            self._machines.start(machine, IDLE)
            self.plug(machine)
            if role is Role.ROUTER:
                wiring.forward(self._machines.pid(machine))

    def _place_images(self, folder: Path) -> None:
        for image in self.options.images:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / image.name).exists():
                shutil.copyfile(image, folder / image.name)
