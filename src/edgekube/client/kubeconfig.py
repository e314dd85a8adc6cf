"""
Which cluster, as whom: kubeconfig files (k8s.io/client-go/tools/clientcmd/api/v1).

Several files in KUBECONFIG are merged as kubectl does: the first to name an entry wins.
"""

import base64
import os
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekube.client.execplugin import BadKubeconfig as BadKubeconfig  # noqa: PLC0414 - ours to raise too
from edgekube.client.execplugin import run_plugin


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Everything needed to talk to one cluster as one user. Certificates and keys are PEM."""

    server: str
    authority: bytes = b""
    insecure: bool = False
    server_name: str = ""
    certificate: bytes = b""
    key: bytes = b""
    token: str = ""
    namespace: str = "default"
    impersonate: str = ""

    def ssl_context(self) -> ssl.SSLContext:
        """Return a TLS context that trusts the cluster's CA and shows our certificate; raises BadKubeconfig."""
        try:
            return self._ssl_context()
        except (ssl.SSLError, ValueError) as error:
            raise BadKubeconfig(f"certificates for {self.server}: {error}") from error

    def _ssl_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority.decode() if self.authority else None)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate and self.key:
            # The ssl module reads key pairs from files only.
            with tempfile.NamedTemporaryFile() as file:
                file.write(self.certificate + b"\n" + self.key)
                file.flush()
                context.load_cert_chain(file.name)
        return context


def files(explicit: str, env: Mapping[str, str], home: Path) -> Sequence[Path]:
    """Return the files to read: --kubeconfig, else KUBECONFIG, else ~/.kube/config."""
    if explicit:
        return (Path(explicit),)
    named = tuple(Path(part) for part in env.get("KUBECONFIG", "").split(os.pathsep) if part)
    return named or (home / ".kube" / "config",)


def load(paths: Sequence[Path], *, context: str = "") -> Access:
    """Return the access that `context` ("": the current one) names; raises BadKubeconfig."""
    merged = _merge(paths)
    name = context or merged["current-context"]
    if not name:
        raise BadKubeconfig("no context chosen: --context, or `kubectl config use-context`")
    chosen = _named(merged, "contexts", name, "context")
    cluster = _named(merged, "clusters", chosen.get("cluster", ""), "cluster")
    user = _named(merged, "users", chosen["user"], "user") if chosen.get("user") else {}
    if plugin := user.get("exec"):
        user |= run_plugin(plugin, cluster, folder=user["__folder__"])
    if not cluster.get("server"):
        raise BadKubeconfig(f"cluster {chosen.get('cluster')!r} names no server")
    return Access(
        server=str(cluster["server"]).rstrip("/"),
        authority=_material(cluster, "certificate-authority"),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        server_name=cluster.get("tls-server-name", ""),
        certificate=_material(user, "client-certificate"),
        key=_material(user, "client-key"),
        token=user.get("token") or _material(user, "token", suffix="File").decode().strip(),
        namespace=chosen.get("namespace") or "default",
        impersonate=user.get("as", ""),
    )


def _merge(paths: Sequence[Path]) -> dict[str, Any]:
    import yaml  # noqa: PLC0415 - only a client process needs it

    merged: dict[str, Any] = {"current-context": "", "contexts": {}, "clusters": {}, "users": {}}
    found = False
    for path in paths:
        try:
            tree = yaml.safe_load(path.read_text()) or {}
        except FileNotFoundError:
            continue
        except (OSError, yaml.YAMLError) as error:
            raise BadKubeconfig(f"{path}: {error}") from error
        if not isinstance(tree, dict):
            raise BadKubeconfig(f"{path}: not a kubeconfig")
        found = True
        merged["current-context"] = merged["current-context"] or tree.get("current-context") or ""
        for section in ("contexts", "clusters", "users"):
            for entry in tree.get(section) or ():
                merged[section].setdefault(entry.get("name"), (path.parent, entry))
    if not found:
        raise BadKubeconfig(f"no kubeconfig at {', '.join(map(str, paths))}")
    return merged


def _named(merged: Mapping[str, Any], section: str, name: str, inner: str) -> dict[str, Any]:
    try:
        folder, entry = merged[section][name]
    except KeyError:
        raise BadKubeconfig(f"{inner} {name!r} does not exist") from None
    return {"__folder__": folder, **(entry.get(inner) or {})}


def _material(entry: Mapping[str, Any], name: str, *, suffix: str = "") -> bytes:
    """Return inline `<name>-data`, or the content of the file `<name>` (relative to its kubeconfig)."""
    if data := entry.get(f"{name}-data"):
        try:
            return base64.b64decode(data)
        except ValueError as error:
            raise BadKubeconfig(f"{name}-data: {error}") from error
    if file := entry.get(name + suffix):
        try:
            return Path(entry["__folder__"], str(file)).read_bytes()
        except OSError as error:
            raise BadKubeconfig(f"{name}: {error}") from error
    return b""


def render(access: Access, *, name: str) -> str:
    """Return a kubeconfig, YAML, with everything inline."""
    import yaml  # noqa: PLC0415

    def encoded(**values: bytes) -> dict[str, str]:
        return {
            field.replace("_", "-") + "-data": base64.b64encode(value).decode()
            for field, value in values.items()
            if value
        }

    user = encoded(client_certificate=access.certificate, client_key=access.key)
    if access.token:
        user["token"] = access.token
    cluster = {"server": access.server, **encoded(certificate_authority=access.authority)}
    tree = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": f"{name}-admin", "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": f"{name}-admin"}}],
    }
    return yaml.safe_dump(tree, sort_keys=False)
