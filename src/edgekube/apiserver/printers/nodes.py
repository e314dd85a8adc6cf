"""Nodes and namespaces."""

from datetime import datetime
from typing import Any

from edgekube.apiserver.printers.base import AGE, NONE, UNKNOWN, Printer, age, columns, name, spec, status
from edgekube.apiserver.request import Tree

ROLE, OLD_ROLE = "node-role.kubernetes.io/", "kubernetes.io/role"
WIDE = ("Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime")


def _state(node: Tree) -> str:
    ready = next(
        (c.get("status") for c in status(node).get("conditions") or () if c["type"] == "Ready"), None
    )
    words = ["Unknown" if ready is None else "Ready" if ready == "True" else "NotReady"]
    if spec(node).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _roles(node: Tree) -> str:
    labels = node["metadata"].get("labels") or {}
    roles = {label.removeprefix(ROLE) for label in labels if label.startswith(ROLE)} - {""}
    if labels.get(OLD_ROLE):
        roles.add(labels[OLD_ROLE])
    return ",".join(sorted(roles)) or NONE


def _address(node: Tree, kind: str) -> str:
    return next((a["address"] for a in status(node).get("addresses") or () if a["type"] == kind), NONE)


def node_cells(node: Tree, now: datetime) -> list[Any]:
    """Return a node's cells."""
    info = status(node).get("nodeInfo") or {}
    return [
        name(node), _state(node), _roles(node), age(node, now), info.get("kubeletVersion", ""),
        _address(node, "InternalIP"), _address(node, "ExternalIP"), info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN, info.get("containerRuntimeVersion") or UNKNOWN,
    ]  # fmt: skip


def namespace_cells(namespace: Tree, now: datetime) -> list[Any]:
    """Return a namespace's cells."""
    return [name(namespace), status(namespace).get("phase", ""), age(namespace, now)]


PRINTERS = {
    "nodes": Printer(columns("Status", "Roles", AGE, "Version", wide=WIDE), node_cells),
    "namespaces": Printer(columns("Status", AGE), namespace_cells),
}
