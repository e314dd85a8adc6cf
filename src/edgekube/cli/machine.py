"""`edgekube up`, `down`, `server` and `agent`: what runs on this machine."""

import argparse
import logging
import os
import socket
import sys
from pathlib import Path

from edgekube.app.options import API_PORT, BROKER_PORT, AgentOptions, ServerOptions, UpOptions
from edgekube.cli.session import UsageError

NETWORKS = ("auto", "routes", "vxlan")
BOARD = Path("/proc/device-tree/model")
"""There on boards, not on PCs and virtual machines."""


def add_up(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `up`."""
    _machine(parser)
    parser.add_argument("--port", type=int, default=API_PORT, help="of the API on 127.0.0.1")
    parser.add_argument("--node-name", default=UpOptions().node_name)
    parser.add_argument(
        "--agent-flag",
        action="append",
        default=[],
        metavar="FLAG",
        help="one more for the node, e.g. --max-pods=20",
    )
    parser.add_argument("--dual-stack", action="store_true", help="IPv6 addresses for pods and Services, too")
    parser.add_argument("--demo", action="store_true", help="run a demo Deployment and call its Service")
    parser.add_argument(
        "--patience", type=float, default=UpOptions().patience, metavar="SECONDS", help="to wait for Ready"
    )


def add_down(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `down`."""
    _machine(parser)


def _machine(parser: argparse.ArgumentParser) -> None:
    default = UpOptions()
    parser.add_argument("--data-dir", type=Path, default=default.data_dir)
    parser.add_argument("--run-dir", type=Path, default=default.run_dir)
    parser.add_argument("--name", default=default.name, help="of the cluster")
    parser.add_argument(
        "--sandbox", action=argparse.BooleanOptionalAction, default=not BOARD.exists(),
        help="keep node, pods and Services in namespaces of their own (default where this is not a board)",
    )  # fmt: skip


def run_up(options: argparse.Namespace) -> int:
    """Start the cluster."""
    from edgekube.app import demo, up  # noqa: PLC0415 - each verb loads its own
    from edgekube.app.preflight import check  # noqa: PLC0415

    _need_root("up")
    wish = UpOptions(
        data_dir=options.data_dir, run_dir=options.run_dir, name=options.name, sandbox=options.sandbox,
        port=options.port, node_name=options.node_name, demo=options.demo, patience=options.patience,
        agent_flags=tuple(options.agent_flag), dual_stack=options.dual_stack,
    )  # fmt: skip
    check(print)
    up.up(wish, print)
    if wish.demo:
        demo.run(wish, print)
    print("next: edgekube get pods -A; or: edgekube kubeconfig > ~/.kube/config && kubectl get nodes")
    return 0


def run_down(options: argparse.Namespace) -> int:
    """Stop the cluster."""
    from edgekube.app import up  # noqa: PLC0415

    _need_root("down")
    up.down(
        UpOptions(
            data_dir=options.data_dir, run_dir=options.run_dir, name=options.name, sandbox=options.sandbox
        ),
        print,
    )
    return 0


def add_server(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `server`."""
    default = ServerOptions()
    parser.add_argument("--data-dir", type=Path, default=default.data_dir)
    parser.add_argument("--cluster", default=default.cluster, help="the cluster's name")
    parser.add_argument(
        "--bind", action="append", default=[], metavar="ADDRESS", help="default: all addresses"
    )
    parser.add_argument("--port", type=int, default=default.port)
    parser.add_argument("--listen-fd", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument(
        "--advertise", default="", metavar="ADDRESS", help="where nodes and pods reach this server"
    )
    parser.add_argument(
        "--external", default=default.external, metavar="ADDRESS", help="the address in the kubeconfig"
    )
    parser.add_argument("--external-port", type=int, default=default.external_port, help=argparse.SUPPRESS)
    parser.add_argument(
        "--broker-port", type=int, default=BROKER_PORT, help="of the MQTT broker this server starts"
    )
    parser.add_argument(
        "--store", default="", metavar="URL", help="default: an embedded store below --data-dir"
    )
    parser.add_argument(
        "--scheduler-config", type=Path, metavar="FILE", help="a KubeSchedulerConfiguration with profiles"
    )
    parser.add_argument(
        "--leader-elect",
        action="store_true",
        help="other servers share the store: only the elected one controls",
    )
    parser.add_argument("--token-auth-file", type=Path, metavar="FILE", help="lines of token,user,uid,groups")
    parser.add_argument(
        "--no-anonymous-auth",
        dest="anonymous_auth",
        action="store_false",
        help="refuse requests without credentials",
    )
    _add_audit(parser, default)
    parser.add_argument(
        "--cluster-cidr", default=default.cluster_cidr, metavar="CIDR[,CIDR6]",
        help="pods' addresses; with an IPv6 CIDR after it every pod gets a second one",
    )  # fmt: skip
    parser.add_argument(
        "--service-cidr", default=default.service_cidr, metavar="CIDR[,CIDR6]",
        help="Services' addresses; with an IPv6 CIDR after it Services may have two",
    )  # fmt: skip
    parser.add_argument("--cluster-domain", default=default.cluster_domain)
    parser.add_argument(
        "--network", choices=NETWORKS, default=default.network,
        help="the way to other nodes' pods: auto is a route on a shared LAN, else VXLAN",
    )  # fmt: skip
    parser.add_argument(
        "--cloud", default=default.cloud, metavar="URL", help='the cloud provider; "" for none'
    )
    parser.add_argument("-v", "--verbose", action="store_true")


def _add_audit(parser: argparse.ArgumentParser, default: ServerOptions) -> None:
    """Declare kube-apiserver's audit options."""
    parser.add_argument(
        "--audit-policy-file", type=Path, metavar="FILE", help="an audit.k8s.io/v1 Policy: what is noted"
    )
    parser.add_argument("--audit-log-path", type=Path, metavar="FILE", help="default: no audit log")
    parser.add_argument(
        "--audit-log-maxsize",
        type=int,
        default=default.audit_log_maxsize,
        metavar="MIB",
        help="then it is turned over",
    )
    parser.add_argument(
        "--audit-log-maxbackup",
        type=int,
        default=default.audit_log_maxbackup,
        metavar="NUMBER",
        help="of older logs kept",
    )


def run_server(options: argparse.Namespace) -> int:
    """Run the control plane until SIGTERM."""
    from edgekube.app import server  # noqa: PLC0415

    _log(verbose=options.verbose)
    values = {k: v for k, v in vars(options).items() if k not in {"verb", "entry", "verbose", "bind"}}
    values["bind"] = tuple(options.bind) or ServerOptions().bind
    values["advertise"] = options.advertise or own_address()
    wish = ServerOptions(**values)
    try:
        _ = wish.cluster_cidrs
    except ValueError as error:
        raise UsageError(f"--cluster-cidr: {error}") from error
    try:
        _ = wish.service_cidrs
    except ValueError as error:
        raise UsageError(f"--service-cidr: {error}") from error
    return server.run(wish)


def add_agent(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `agent`."""
    from edgekube.cli import nodeflags  # noqa: PLC0415 - each verb loads its own

    default = AgentOptions()
    parser.add_argument("--data-dir", type=Path, default=default.data_dir)
    parser.add_argument("--server", default="", metavar="URL", help="https://HOST:6443, needed to join")
    parser.add_argument(
        "--token-file", type=Path, help="a file with the line `edgekube token create` printed"
    )
    parser.add_argument("--node-name", default="", help="default: the host name")
    parser.add_argument(
        "--node-ip", default="", metavar="ADDRESS",
        help="default: that of the default route's interface, followed as it changes",
    )  # fmt: skip
    parser.add_argument(
        "--node-interface", default="", metavar="NAME", help="the one with the node's address"
    )
    parser.add_argument(
        "--network",
        choices=NETWORKS,
        default="",
        help="the way to other nodes' pods; default: as the server says",
    )
    parser.add_argument(
        "--runtime",
        default="",
        metavar="URL",
        help="podman:///path/to/podman.sock; default: a podman of our own",
    )
    parser.add_argument("--run-dir", type=Path, default=default.run_dir)
    parser.add_argument("--cgroup-root", default=default.cgroup_root)
    nodeflags.add(parser)
    parser.add_argument("-v", "--verbose", action="store_true")


def run_agent(options: argparse.Namespace) -> int:
    """Run a node until SIGTERM."""
    from edgekube.app import agent  # noqa: PLC0415
    from edgekube.cli import nodeflags  # noqa: PLC0415

    _need_root("agent")
    _log(verbose=options.verbose)
    values = {k: v for k, v in vars(options).items() if k not in {"verb", "entry", "verbose"}}
    values["node_name"] = options.node_name or socket.gethostname().lower()
    node = nodeflags.take(values)
    return agent.run(AgentOptions(node=node, **values))


def own_address() -> str:
    """Return the source address of the default route; connecting a UDP socket sends nothing (ip(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def _need_root(verb: str) -> None:
    if os.geteuid() != 0:
        raise UsageError(f"edgekube {verb} needs root: sudo edgekube {verb}")


def _log(*, verbose: bool) -> None:
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(
        stream=sys.stderr, level=level, format="%(asctime)s %(levelname).1s %(name)s: %(message)s"
    )
