"""The lab's machines as processes: started, found again from any process, ended."""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgekube.app import sandbox
from edgekube.app.lab.state import LabState, StateFile, fresh
from edgekube.app.lab.topology import LabError, LabOptions, Place, places

AT_ONCE = 8
"""Machines started or ended at the same time."""


class Machines:
    """All machines of one lab."""

    def __init__(self, options: LabOptions) -> None:
        self.options = options
        self.places = places(options)
        self.file = StateFile(options.directory)

    def begin(self) -> None:
        """Note the lab before anything runs; harmless when it is there. Raises LabError if it is another."""
        state = self.file.read()
        if state is None:
            self.file.write(fresh(self.options, list(self.places)))
        elif state.options(self.options.directory) != self.options:
            raise LabError(f"{self.options.directory} has a lab with other options; edgekube lab down")

    def start(self, name: str, children: Sequence[tuple[str, Sequence[str]]], descriptor: int = -1) -> None:
        """Start a machine that runs `children`; a `descriptor` from 0 up is inherited."""
        machine = sandbox.Machine(
            name=name,
            hostname=name,
            run_dir=self.options.directory,
            log_dir=self.options.directory / name / "logs",
            children=children,
        )
        handle = sandbox.launch(machine, (descriptor,) if descriptor >= 0 else ())
        with self.file.edit(name) as state:
            state.handle = handle
            state.plugged = False

    def cut_power(self, name: str) -> None:
        """End a machine at once; harmless when it does not run."""
        with self.file.edit(name) as state:
            handle, state.handle, state.plugged = state.handle, None, False
        if handle is not None:
            sandbox.kill(handle)

    def end_all(self) -> None:
        """End every machine, also those that no file speaks of, and remove their cgroups."""
        try:
            state = self.file.read()
        except LabError:
            state = None
        known = state.machines.values() if state is not None else ()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(sandbox.kill, [machine.handle for machine in known if machine.handle is not None]))
        sandbox.kill_strays(self.options.directory)
        for name in self.places:
            sandbox.remove_cgroups(self.cgroup(name))

    def forget(self, *, keep: bool) -> None:
        """Remove the state, and the machines' disks unless `keep`."""
        for file in (self.file.path, *self.options.directory.glob(f".{self.file.path.name}.*")):
            file.unlink(missing_ok=True)
        if not keep:
            for name in self.places:
                shutil.rmtree(self.folder(name), ignore_errors=True)

    def state(self) -> LabState:
        """Return what is known; raises LabError when the lab is not up."""
        state = self.file.read()
        if state is None:
            raise LabError(f"no lab in {self.options.directory}; edgekube lab up")
        return state

    def place(self, name: str) -> Place:
        """Return a machine's place; raises LabError when there is none of that name."""
        if name not in self.places:
            raise LabError(f"no machine {name!r}; there are {', '.join(self.places)}")
        return self.places[name]

    def running(self, name: str) -> bool:
        """Tell whether a machine has power."""
        handle = self.state().machines[self.place(name).name].handle
        return handle is not None and sandbox.alive(handle)

    def handle(self, name: str) -> sandbox.Handle:
        """Return a running machine's handle; raises LabError when it does not run."""
        handle = self.state().machines[self.place(name).name].handle
        if handle is None or not sandbox.alive(handle):
            raise LabError(f"{name} has no power; edgekube lab power {name} on")
        return handle

    def pid(self, name: str) -> int:
        """Return the pid of a running machine's first process, as the host sees it."""
        return self.handle(name).pid

    def folder(self, name: str) -> Path:
        """Return a machine's disk."""
        return self.options.directory / name

    def cgroup(self, name: str) -> str:
        """Return the cgroup a machine's pods live below."""
        return f"/{self.options.name}-{name}"
