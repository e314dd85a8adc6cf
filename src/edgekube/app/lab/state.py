"""What is known of a running lab: one JSON file in its directory, for whichever process comes next."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edgekube.app.lab.topology import LabError, LabOptions
from edgekube.app.sandbox import Handle
from edgekube.lib.files import write_atomic

FILE = "lab.json"


class MachineState(msgspec.Struct, omit_defaults=True):
    """One machine: the process it lives by, and what its cable suffers."""

    handle: Handle | None = None
    plugged: bool = True
    link: str = "up"
    loss: float = 0.0
    """Percent of the frames lost, in each direction."""
    latency: float = 0.0
    """Milliseconds added to each frame, in each direction."""
    relay: int = 0
    """The pid of the process that delays the cable's frames; 0: there is none."""


class LabState(msgspec.Struct):
    """The options the lab was made with, and its machines."""

    name: str
    nodes: int
    lans: int
    port: int
    network: str
    dual_stack: bool
    images: list[str]
    machines: dict[str, MachineState]

    def options(self, directory: Path) -> LabOptions:
        """Return the options again."""
        return LabOptions(
            directory=directory, name=self.name, nodes=self.nodes, lans=self.lans, port=self.port,
            network=self.network, dual_stack=self.dual_stack, images=tuple(Path(image) for image in self.images),
        )  # fmt: skip


def fresh(options: LabOptions, names: list[str]) -> LabState:
    """Return the state of a lab of which nothing runs yet."""
    return LabState(
        name=options.name, nodes=options.nodes, lans=options.lans, port=options.port, network=options.network,
        dual_stack=options.dual_stack, images=[str(image) for image in options.images], machines={name: MachineState() for name in names},
    )  # fmt: skip


class StateFile:
    """The file; writers in any process or thread take turns (flock(2) on the directory)."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE

    def read(self) -> LabState | None:
        """Return the state, or None when there is no lab; raises LabError on a damaged file."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=LabState)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, OSError) as error:
            raise LabError(f"{self.path}: {error}") from error

    def write(self, state: LabState) -> None:
        """Replace the state."""
        with self._turn():
            self._write(state)

    @contextlib.contextmanager
    def edit(self, machine: str) -> Iterator[MachineState]:
        """Give one machine's state to change and write it back. Raises LabError when there is no such machine."""
        with self._turn():
            state = self.read()
            if state is None:
                raise LabError(f"no lab in {self.path.parent}; edgekube lab up")
            if machine not in state.machines:
                raise LabError(f"no machine {machine!r}; there are {', '.join(state.machines)}")
            yield state.machines[machine]
            self._write(state)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, state: LabState) -> None:
        write_atomic(self.path, msgspec.json.encode(state))
