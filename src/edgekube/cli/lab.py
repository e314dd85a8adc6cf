"""`edgekube lab`: a master and nodes in namespaces of this machine, to try things and to break them."""

import argparse
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgekube.cli.output import print_table
from edgekube.cli.session import UsageError

if TYPE_CHECKING:
    from edgekube.app.lab import Lab

LABS = Path("/var/lib/edgekube-lab")
NETWORKS = ("auto", "routes", "vxlan")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `lab`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    up = _action(actions, "up", "start a lab and wait until its nodes are Ready")
    up.add_argument("--nodes", type=int, default=3)
    up.add_argument("--lan", type=int, default=1, metavar="NUMBER", help="of LANs, joined by a router")
    up.add_argument("--port", type=int, default=16443, help="of the API on 127.0.0.1")
    up.add_argument("--network", choices=NETWORKS, default="auto", help="the way to other nodes' pods")
    up.add_argument(
        "--dual-stack", action="store_true", help="IPv6 addresses for machines, pods and Services"
    )
    up.add_argument(
        "--image", type=Path, action="append", default=[], metavar="FILE",
        help="an archive (podman save) for every node's disk; a node of the lab can pull nothing",
    )  # fmt: skip
    down = _action(actions, "down", "end it and leave nothing")
    down.add_argument("--keep", action="store_true", help="the machines' files, for the next up")
    _action(actions, "status", "what runs and how it is connected")
    _on_machine(actions, "power", "cut a machine's power, or give it back", "state", choices=("off", "on"))
    _on_machine(actions, "link", "take a machine's cable out, or put it in", "state", choices=("down", "up"))
    _on_machine(actions, "loss", "lose frames on a machine's cable, each way", "percent", type=float)
    _on_machine(actions, "latency", "delay frames on a machine's cable, each way", "milliseconds", type=float)
    execute = _action(actions, "exec", "run a command on a machine: edgekube lab exec node1 -- ip address")
    execute.add_argument("machine", metavar="MACHINE")
    execute.add_argument("command", nargs="+", metavar="COMMAND")


def _action(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=text.capitalize() + ".")
    parser.add_argument("--name", default="lab")
    parser.add_argument("--directory", type=Path, metavar="DIR", help=f"default: {LABS}/NAME")
    return parser


def _on_machine(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    argument: str,
    **kind: object,
) -> None:
    parser = _action(actions, name, text)
    parser.add_argument("machine", metavar="MACHINE", help="as `edgekube lab status` names it")
    metavar = None if "choices" in kind else argument.upper()
    parser.add_argument(argument, metavar=metavar, **kind)  # type: ignore[arg-type] # argparse's own mix


def run(options: argparse.Namespace) -> int:
    """Do what the action says."""
    if os.geteuid() != 0:
        raise UsageError(f"edgekube lab {options.action} needs root: sudo edgekube lab {options.action}")
    directory: Path = (options.directory or LABS / options.name).absolute()
    return ACTIONS[options.action](options, directory)


def _up(options: argparse.Namespace, directory: Path) -> int:
    from edgekube.app import demo  # noqa: PLC0415 - each verb loads its own
    from edgekube.app.lab import Lab, LabOptions  # noqa: PLC0415
    from edgekube.app.preflight import check  # noqa: PLC0415

    for image in options.image:
        if not image.is_file():
            raise UsageError(f"{image}: no such file")
    check(print)
    demo.place_image(directory / "images")
    images = (*sorted((directory / "images").glob("*.tar")), *(image.absolute() for image in options.image))
    lab = Lab(
        LabOptions(
            directory=directory, name=options.name, nodes=options.nodes, lans=options.lan, port=options.port,
            network=options.network, dual_stack=options.dual_stack, images=images,
        )
    )  # fmt: skip
    began = time.monotonic()
    lab.up()
    print(f"{len(lab.names)} nodes Ready after {time.monotonic() - began:.1f} s")
    print(f"next: export KUBECONFIG={lab.server_paths.kubeconfig}; kubectl get nodes -o wide")
    print(f"image on every node: {demo.IMAGE}")
    return 0


def _down(options: argparse.Namespace, directory: Path) -> int:
    import shutil  # noqa: PLC0415 - only here

    from edgekube.app.lab import Lab, LabError  # noqa: PLC0415 - each verb loads its own

    try:
        lab = Lab.find(directory)
    except LabError:
        # Nothing says what there was; what still runs is known by its command line.
        lab = Lab.remains(directory, options.name)
    lab.down(keep=options.keep)
    if not options.keep and (directory / "images").is_dir():
        shutil.rmtree(directory / "images")
        if not any(directory.iterdir()):
            directory.rmdir()
    print("the lab is down")
    return 0


def _status(_options: argparse.Namespace, directory: Path) -> int:
    lab = _find(directory)
    rows = []
    for place in lab.places.values():
        state, running = lab.machine(place.name), lab.running(place.name)
        ready = ("True" if lab.ready(place.name) else "False") if place.name in lab.names and running else "-"
        rows.append(
            [place.name, place.role, ",".join(f"lan{cable.lan + 1}" for cable in place.cables) or "-", place.address or "-",
             "on" if running else "off", state.link, f"{state.loss:g}%", f"{state.latency:g}ms", ready]
        )  # fmt: skip
    print_table(["MACHINE", "ROLE", "LAN", "ADDRESS", "POWER", "LINK", "LOSS", "LATENCY", "READY"], rows)
    print(f"KUBECONFIG={lab.server_paths.kubeconfig}")
    return 0


def _exec(options: argparse.Namespace, directory: Path) -> int:
    line = _find(directory).command(options.machine, options.command)
    os.chdir("/")
    os.execvp(line[0], line)  # noqa: S606 - it takes our place, so that a terminal works


def _power(options: argparse.Namespace, directory: Path) -> int:
    _find(directory).power(options.machine, options.state)
    return 0


def _link(options: argparse.Namespace, directory: Path) -> int:
    _find(directory).link(options.machine, options.state)
    return 0


def _loss(options: argparse.Namespace, directory: Path) -> int:
    _find(directory).loss(options.machine, options.percent)
    return 0


def _latency(options: argparse.Namespace, directory: Path) -> int:
    _find(directory).latency(options.machine, options.milliseconds)
    return 0


def _find(directory: Path) -> "Lab":
    from edgekube.app.lab import Lab  # noqa: PLC0415 - each verb loads its own

    return Lab.find(directory)


ACTIONS: Mapping[str, Callable[[argparse.Namespace, Path], int]] = {
    "up": _up, "down": _down, "status": _status, "exec": _exec,
    "power": _power, "link": _link, "loss": _loss, "latency": _latency,
}  # fmt: skip
