"""
Bad cables: loss and latency.

By netem (tc-netem(8)) where the kernel has it. Else loss is an nftables rule in the switch, and
latency a small process that takes the cable's place and hands frames on later.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from edgekube.app import sandbox
from edgekube.app.lab import relay
from edgekube.app.lab.state import MachineState
from edgekube.app.lab.topology import Cable, LabError, bridge
from edgekube.app.lab.wiring import batch, run_in

STEPS = 100_000
"""Loss is rounded to a thousandth of a percent."""
QUEUE = 20_000
"""Frames netem holds."""
LONGEST = 60_000.0
TABLE = "table bridge lab_loss"


def check(state: MachineState) -> None:
    """Raise LabError when no cable can be like that."""
    if not 0 <= state.loss <= 100:
        raise LabError(f"loss is 0 to 100 percent, not {state.loss:g}")
    if not 0 <= state.latency <= LONGEST:
        raise LabError(f"latency is 0 to {LONGEST:g} milliseconds, not {state.latency:g}")


def has_netem(switch: int) -> bool:
    """Tell whether the kernel has netem, by trying it on the switch's loopback."""
    if shutil.which("tc") is None:
        return False
    try:
        run_in(switch, ("tc", "qdisc", "replace", "dev", "lo", "root", "netem", "delay", "1ms"))
        run_in(switch, ("tc", "qdisc", "delete", "dev", "lo", "root"))
    except LabError:
        return False
    return True


def netem_line(interface: str, state: MachineState) -> str:
    """Return the line for tc -batch."""
    if not state.loss and not state.latency:
        return f"qdisc replace dev {interface} root noqueue"
    return f"qdisc replace dev {interface} root netem limit {QUEUE} delay {state.latency:g}ms loss {state.loss:g}%"


def apply_netem(switch: int, machine: int, cable: Cable, state: MachineState) -> None:
    """Make a cable as `state` says, in each direction at the end where frames enter it."""
    for pid, interface in ((switch, cable.port), (machine, cable.interface)):
        run_in(pid, ("tc", "-batch", "-"), netem_line(interface, state) + "\n")


def loss_rules(losses: Mapping[str, float]) -> str:
    """Return the nft(8) script that makes ports lose so many percent of the frames each way, and no others any."""
    rules = [
        f"  {side} {{ {port}, {_far(port)} }}{_sometimes(percent)} drop"
        for port, percent in sorted(losses.items())
        if percent
        for side in ("iifname", "oifname")
    ]
    chain = [" chain forward {", "  type filter hook forward priority 0; policy accept;", *rules, " }"]
    return "\n".join([TABLE, f"delete {TABLE}", f"{TABLE} {{", *chain, "}", ""])


def _sometimes(percent: float) -> str:
    # nft refuses a comparison that always holds.
    return f" numgen random mod {STEPS} < {round(percent * STEPS / 100)}" if percent < 100 else ""


def apply_losses(switch: int, losses: Mapping[str, float]) -> None:
    """Make the ports lose frames; raises LabError."""
    if shutil.which("nft") is None:
        raise LabError("this kernel has no netem, so loss needs nft: apt-get install nftables")
    run_in(switch, ("nft", "-f", "-"), loss_rules(losses))


def start_relay(switch: int, cable: Cable, milliseconds: float) -> int:
    """Let a process delay what the cable carries; returns its pid."""
    near, far = _near(cable.port), _far(cable.port)
    batch(switch, [f"link add {near} type veth peer name {far}", f"link set {near} up"])
    command = [
        "nsenter", "-t", str(switch), "-n", "-p", "--",
        sys.executable, "-I", "-S", str(relay.__file__), cable.port, near, f"{milliseconds:g}",
    ]  # fmt: skip
    with tempfile.TemporaryFile() as said:
        launcher = subprocess.Popen(  # noqa: S603 - our own program
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, start_new_session=True, cwd="/"
        )  # fmt: skip
        pid = sandbox.first_child(launcher)
        output = launcher.stdout
        ready = output is not None and output.readline().startswith(b"ready")
        if output is not None:
            output.close()
        if not ready:
            said.seek(0)
            raise LabError(f"frames cannot be delayed here: {said.read().decode(errors='replace')[-300:]}")
    # It is to outlive us: the Popen object must not complain when it goes.
    launcher.returncode = 0
    batch(switch, [f"link set {cable.port} nomaster", f"link set {far} master {bridge(cable.lan)} up"])
    return pid


def stop_relay(switch: int, cable: Cable, pid: int) -> None:
    """End the delaying process and connect the cable's port itself again, if it is there."""
    if _is_relay(pid):
        os.kill(pid, signal.SIGKILL)
    script = (
        f"ip link delete {_near(cable.port)} 2>/dev/null\n"
        f"ip link set {cable.port} master {bridge(cable.lan)} 2>/dev/null\ntrue"
    )
    run_in(switch, ("sh", "-c", script))


def _is_relay(pid: int) -> bool:
    try:
        return bool(pid) and str(relay.__file__).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _near(port: str) -> str:
    return f"q{port[1:]}"


def _far(port: str) -> str:
    return f"r{port[1:]}"
