"""The `edgekube` command: a table of verbs. Modules are imported when their verb is used."""

import argparse
import asyncio
import importlib
import inspect
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from edgekube.lib.errors import EdgekubeError


@dataclass(frozen=True, slots=True)
class Command:
    """One verb: its help, and where its two functions are (`module:add:run`)."""

    name: str
    help: str
    module: str
    add: str = "add"
    run: str = "run"
    local: bool = False
    """Works on this machine, without a kubeconfig."""


COMMANDS = (
    Command("up", "start a one-machine cluster and wait until it is ready", "machine", "add_up", "run_up", local=True),
    Command("down", "stop it and leave nothing running", "machine", "add_down", "run_down", local=True),
    Command("server", "run the control plane in the foreground", "machine", "add_server", "run_server", local=True),
    Command("agent", "run a node in the foreground", "machine", "add_agent", "run_agent", local=True),
    Command("ingress", "serve Ingresses on this machine by HAProxy, in the foreground", "ingress"),
    Command("token", "create, list and delete join tokens", "cluster", "add_token", "run_token"),
    Command("kubeconfig", "print the local cluster's kubeconfig", "cluster", "add_kubeconfig", "run_kubeconfig", local=True),
    Command("get", "list objects, or show one", "get"),
    Command("describe", "show an object with all it says and its events", "describe"),
    Command("apply", "make manifests true", "apply"),
    Command("delete", "delete objects", "apply", "add_delete", "run_delete"),
    Command("logs", "print a container's log", "streams", "add_logs", "run_logs"),
    Command("exec", "run a command in a container", "streams", "add_exec", "run_exec"),
    Command("scale", "set the number of replicas", "workloads", "add_scale", "run_scale"),
    Command("rollout", "status, history, undo, restart, pause or resume of a Deployment", "workloads", "add_rollout", "run_rollout"),
    Command("top", "what nodes or pods use", "cluster", "add_top", "run_top"),
    Command("snapshot", "save the cluster's state to a file, or restore it", "snapshot"),
    Command("lab", "a master and nodes on this machine, to try and to break", "lab", local=True),
    Command("version", "print versions", "cluster", "add_version", "run_version"),
)  # fmt: skip
EPILOG = "kubectl works too: KUBECONFIG=<(edgekube kubeconfig) kubectl get pods"


def parser_for(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser; only the verb in `argv` gets its arguments, so that others need not be imported."""
    parser = argparse.ArgumentParser(
        prog="edgekube", description="Kubernetes for fleets of small boards.", epilog=EPILOG
    )
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    for command in COMMANDS:
        verb = verbs.add_parser(command.name, help=command.help, description=command.help.capitalize() + ".")
        if command.name in argv:
            if not command.local:
                _common(verb)
            getattr(_module(command), command.add)(verb)
            verb.set_defaults(entry=command)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kubeconfig",
        default="",
        metavar="FILE",
        help="default: KUBECONFIG, ~/.kube/config, the local cluster",
    )
    parser.add_argument("--context", default="", metavar="NAME")
    parser.add_argument("-n", "--namespace", default="", metavar="NAME", help="default: the context's")


def _module(command: Command) -> object:
    return importlib.import_module(f"edgekube.cli.{command.module}")


def main() -> None:
    """Run the command line and exit with its code."""
    options = parser_for(sys.argv[1:]).parse_args()
    command: Command = options.entry
    try:
        result = getattr(_module(command), command.run)(options)
        code = asyncio.run(result) if inspect.iscoroutine(result) else result
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # Somebody closed our output, e.g. `| head`: no more to say (SIGPIPE's default, in Python).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except EdgekubeError as error:
        reason = getattr(error, "reason", "")
        print(
            f"Error from server ({reason}): {error}"
            if isinstance(reason, str) and reason
            else f"error: {error}",
            file=sys.stderr,
        )
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
