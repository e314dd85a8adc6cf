"""The lab's cables: put in, and made bad. What a cable suffers stays with it over its machine's power cuts."""

import contextlib
from collections.abc import Iterator

from edgekube.app.lab import faults, wiring
from edgekube.app.lab.machines import Machines
from edgekube.app.lab.state import MachineState
from edgekube.app.lab.topology import Cable, LabError

SWITCH = "switch"


class Cables:
    """Every machine's cables to the switch."""

    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        self._netem: bool | None = None

    def plug(self, name: str) -> None:
        """Put a machine's cables in, as good or bad as they were before."""
        place = self._machines.place(name)
        wiring.plug(self._machines.pid(SWITCH), self._machines.pid(name), place)
        with self._machines.file.edit(name) as state:
            state.plugged = True
            if state.loss or state.latency or state.relay or state.link != "up":
                self._apply(name, place.cables[0], state)

    def set_link(self, name: str, link: str) -> None:
        """Set the machine's port at the switch `up` or `down`."""
        with self._changed(name) as state:
            state.link = link

    def set_loss(self, name: str, percent: float) -> None:
        """Let the cable lose so many percent of the frames, in each direction."""
        with self._changed(name) as state:
            state.loss = percent

    def set_latency(self, name: str, milliseconds: float) -> None:
        """Let every frame take so much longer, in each direction."""
        with self._changed(name) as state:
            state.latency = milliseconds

    @contextlib.contextmanager
    def _changed(self, name: str) -> Iterator[MachineState]:
        cables = self._machines.place(name).cables
        if len(cables) != 1:
            raise LabError(f"{name} has not one cable but {len(cables)}: choose a machine at its end")
        with self._machines.file.edit(name) as state:
            yield state
            faults.check(state)
            if state.plugged and self._machines.running(name):
                self._apply(name, cables[0], state)

    def _apply(self, name: str, cable: Cable, state: MachineState) -> None:
        switch = self._machines.pid(SWITCH)
        if self._netem is None:
            self._netem = faults.has_netem(switch)
        if self._netem:
            faults.apply_netem(switch, self._machines.pid(name), cable, state)
        else:
            self._lose(switch, name, state.loss)
            if state.relay:
                faults.stop_relay(switch, cable, state.relay)
            state.relay = faults.start_relay(switch, cable, state.latency) if state.latency else 0
        wiring.batch(switch, [f"link set {cable.port} {state.link}"])

    def _lose(self, switch: int, name: str, percent: float) -> None:
        machines = self._machines.state().machines
        before = {other: machine.loss for other, machine in machines.items() if machine.loss}
        after = {other: loss for other, loss in {**before, name: percent}.items() if loss}
        if before or after:
            ports = {self._machines.place(other).cables[0].port: loss for other, loss in after.items()}
            faults.apply_losses(switch, ports)
