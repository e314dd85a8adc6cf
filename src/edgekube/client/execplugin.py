"""Credentials from a program the kubeconfig names (client.authentication.k8s.io ExecCredential)."""

import base64
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekube.lib.errors import EdgekubeError

PATIENCE = 60.0
"""Seconds the program may take; some open a browser."""
DEFAULT_VERSION = "client.authentication.k8s.io/v1"


class BadKubeconfig(EdgekubeError):
    """The kubeconfig cannot be read, or does not say what is needed."""


def run_plugin(plugin: Mapping[str, Any], cluster: Mapping[str, Any], *, folder: Path) -> dict[str, Any]:
    """Run the program; return `token`, `client-certificate-data`, `client-key-data` as far as it gave them."""
    version = plugin.get("apiVersion") or DEFAULT_VERSION
    spec: dict[str, Any] = {"interactive": False}
    if plugin.get("provideClusterInfo"):
        spec["cluster"] = {name: value for name, value in cluster.items() if not name.startswith("__")}
    info = json.dumps({"apiVersion": version, "kind": "ExecCredential", "spec": spec}, default=str)
    command = str(plugin.get("command", ""))
    if "/" in command:
        command = str(folder / command)
    named = {entry["name"]: entry["value"] for entry in plugin.get("env") or ()}
    try:
        # The user's own kubeconfig names the program: running it is what they ask for.
        done = subprocess.run(  # noqa: S603
            [command, *(plugin.get("args") or ())], env={**os.environ, **named, "KUBERNETES_EXEC_INFO": info},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=PATIENCE, check=True,
        )  # fmt: skip
        status = json.loads(done.stdout)["status"]
    except (OSError, subprocess.SubprocessError) as error:
        hint = plugin.get("installHint") or ""
        raise BadKubeconfig(f"exec plugin {command!r}: {error} {hint}".strip()) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadKubeconfig(f"exec plugin {command!r} printed no ExecCredential") from error
    return _credentials(status)


def _credentials(status: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if status.get("token"):
        found["token"] = status["token"]
    for field, name in (("clientCertificateData", "client-certificate"), ("clientKeyData", "client-key")):
        if text := status.get(field):
            found[f"{name}-data"] = base64.b64encode(text.encode()).decode()
    return found
