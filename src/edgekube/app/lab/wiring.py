"""Cables in the kernel: bridges, veth pairs, addresses and routes, written as ip(8) batches."""

import subprocess
import time
from collections.abc import Sequence

from edgekube.app.lab.topology import Cable, LabError, Place, bridge

ATTEMPTS = 40
"""After a power cut the kernel takes a moment to take the old cable away."""


def run_in(pid: int, command: Sequence[str], text: str = "") -> str:
    """
    Run `command` in the network namespace of `pid`, `text` its input; returns its output.

    Only this namespace is entered, so that pids and files mean what they mean here. Raises LabError.
    """
    line = ["nsenter", "-t", str(pid), "-n", *command]
    result = subprocess.run(line, input=text, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if result.returncode:
        raise LabError(f"{' '.join(command)}: {result.stderr.strip() or result.returncode}\n{text}".strip())
    return result.stdout


def batch(pid: int, lines: Sequence[str]) -> None:
    """Run lines of ip(8) in the network namespace of `pid`; the first that fails ends it with LabError."""
    run_in(pid, ("ip", "-batch", "-"), "".join(f"{line}\n" for line in lines))


def bridges(lans: int) -> list[str]:
    """Return the lines that make the switch's bridges."""
    lines: list[str] = []
    for lan in range(lans):
        lines += [f"link add {bridge(lan)} type bridge", f"link set {bridge(lan)} up"]
    return lines


def port(cable: Cable, pid: int) -> list[str]:
    """Return the switch's lines for a cable to the machine whose first process is `pid`."""
    end = f"name {cable.interface} address {cable.mac} netns {pid}"
    return [
        f"link add {cable.port} type veth peer {end}",
        f"link set {cable.port} master {bridge(cable.lan)} up",
    ]


def inside(place: Place) -> list[str]:
    """Return the machine's own lines."""
    lines: list[str] = []
    for cable in place.cables:
        lines += [
            f"address add {cable.address}/24 dev {cable.interface}",
            f"link set {cable.interface} up",
        ]
        if cable.address6:
            # There is nobody to have the same one; a tentative address could not be bound yet.
            lines.append(f"address add {cable.address6}/64 dev {cable.interface} nodad")
    return lines + [f"route add {network} via {router}" for network, router in place.routes]


def plug(switch: int, machine: int, place: Place) -> None:
    """Put all cables of a machine in; `switch` and `machine` are first processes' pids. Raises LabError."""
    for cable in place.cables:
        for attempt in range(ATTEMPTS):
            try:
                run_in(switch, ("sh", "-c", f"ip link delete {cable.port} 2>/dev/null; true"))
                batch(switch, port(cable, machine))
            except LabError:
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(0.05)
            else:
                break
    batch(machine, inside(place))


FORWARD = """
cd /proc/sys/net/ipv4
echo 1 > ip_forward
for folder in conf/*; do echo 1 > $folder/rp_filter; done
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
"""
"""Only what comes from and goes to a LAN is forwarded: there is no default route, and rp_filter is strict (RFC 3704)."""


def forward(router: int) -> None:
    """Make the router route."""
    run_in(router, ("sh", "-ec", FORWARD))
