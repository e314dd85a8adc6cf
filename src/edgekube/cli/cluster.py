"""`edgekube top`, `version`, `kubeconfig` and `token`: about the cluster itself."""

import argparse
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import msgspec

from edgekube.api.errors import NotFound, ServiceUnavailable
from edgekube.cli.output import print_table
from edgekube.cli.session import LOCAL, UsageError, open_session
from edgekube.cli.streams import seconds_of
from edgekube.client.base import Unreachable
from edgekube.client.kubeconfig import BadKubeconfig

METRICS = "/apis/metrics.k8s.io/v1beta1"


def add_top(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `top`."""
    parser.add_argument("what", choices=("nodes", "node", "no", "pods", "pod", "po"))
    parser.add_argument("-A", "--all-namespaces", action="store_true")


def add_token(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `token`."""
    parser.add_argument("action", choices=("create", "list", "delete"))
    parser.add_argument("id", nargs="?", default="", help="for delete: the six characters of the token")
    parser.add_argument("--ttl", default="24h", metavar="DURATION", help="how long it is good; 0 for ever")
    parser.add_argument("--description", default="made by edgekube token create")


async def run_top(options: argparse.Namespace) -> int:
    """Print what nodes or pods use."""
    async with open_session(options) as session:
        nodes = options.what.startswith("no")
        space = "" if options.all_namespaces else f"/namespaces/{session.namespace}"
        path = f"{METRICS}/nodes" if nodes else f"{METRICS}{space}/pods"
        try:
            items = (await session.get(path))["items"]
        except (NotFound, ServiceUnavailable) as error:
            raise UsageError(
                "no metrics yet: a node sends its first a few seconds after it joined"
            ) from error
        rows = [_usage_row(item, nodes=nodes, spaces=options.all_namespaces) for item in items]
        header = (["NAMESPACE"] if options.all_namespaces and not nodes else []) + [
            "NAME",
            "CPU(cores)",
            "MEMORY(bytes)",
        ]
        print_table(header, rows)
    return 0


def _usage_row(item: dict[str, Any], *, nodes: bool, spaces: bool) -> list[str]:
    from edgekube.api import quantity  # noqa: PLC0415 - only `top` computes

    parts = [item["usage"]] if nodes else [container["usage"] for container in item["containers"]]
    cpu = sum(quantity.milli(part["cpu"]) for part in parts)
    memory = sum(quantity.value(part["memory"]) for part in parts)
    prefix = [item["metadata"].get("namespace", "")] if spaces and not nodes else []
    return [*prefix, item["metadata"]["name"], f"{cpu}m", f"{memory >> 20}Mi"]


def add_version(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `version`."""
    parser.add_argument("--client", action="store_true", help="only this program's version")


async def run_version(options: argparse.Namespace) -> int:
    """Print the versions of this program and of the server."""
    print(f"edgekube {package_version('edgekube')}")
    if options.client:
        return 0
    try:
        async with open_session(options) as session:
            print(f"server   {(await session.get('/version'))['gitVersion']}")
    except (BadKubeconfig, Unreachable) as error:
        print(f"server   not reached: {error}", file=sys.stderr)
    return 0


def add_kubeconfig(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kubeconfig`."""
    parser.add_argument(
        "--data-dir", type=Path, default=LOCAL.parent.parent, help="the cluster's data directory"
    )


async def run_kubeconfig(options: argparse.Namespace) -> int:
    """Print the local cluster's kubeconfig."""
    file = options.data_dir / "server" / LOCAL.name
    try:
        sys.stdout.write(file.read_text())
    except OSError as error:
        raise UsageError(
            f"{file}: {error.strerror}; start a cluster with `edgekube up`, and read it as root"
        ) from error
    return 0


async def run_token(options: argparse.Namespace) -> int:
    """Create, list or delete join tokens."""
    async with open_session(options) as session:
        secrets = await session.resolve("secrets")
        if options.action == "create":
            return await _create(session.carrier, session.carrier.access.authority, secrets, options)
        if options.action == "delete":
            if not options.id:
                raise UsageError("edgekube token delete ID")
            await session.carrier.raw("DELETE", secrets.path("kube-system", f"bootstrap-token-{options.id}"))
            print(f"token {options.id} deleted")
            return 0
        query = {"fieldSelector": "type=bootstrap.kubernetes.io/token"}
        items = (await session.get(secrets.path("kube-system"), **query))["items"]
        rows = [
            [_field(item, "token-id"), _field(item, "expiration") or "never", _field(item, "description")]
            for item in items
        ]
        print_table(["ID", "EXPIRES", "DESCRIPTION"], rows)
    return 0


async def _create(carrier: Any, authority: bytes, secrets: Any, options: argparse.Namespace) -> int:
    from edgekube.app.tokens import JoinToken, secret_of  # noqa: PLC0415 - only here
    from edgekube.lib import pki  # noqa: PLC0415 - 19 MB, only here

    token = JoinToken.new(pki.fingerprint(authority))
    ttl = 0 if options.ttl == "0" else seconds_of(options.ttl)
    ends = (datetime.now(UTC) + timedelta(seconds=ttl)).strftime("%Y-%m-%dT%H:%M:%SZ") if ttl else ""
    secret = secret_of(token, description=options.description, expiration=ends)
    await carrier.raw("POST", secrets.path("kube-system"), None, msgspec.json.encode(secret))
    print(token)
    return 0


def _field(secret: dict[str, Any], name: str) -> str:
    import base64  # noqa: PLC0415

    return base64.b64decode((secret.get("data") or {}).get(name, "")).decode()
