"""Deployments and ReplicaSets."""

from datetime import datetime
from typing import Any

from edgekube.apiserver.printers.base import (
    AGE,
    Printer,
    age,
    columns,
    containers,
    integer,
    label_selector,
    name,
    spec,
    status,
)  # fmt: skip
from edgekube.apiserver.request import Tree

WIDE = ("Containers", "Images", "Selector")


def _template(obj: Tree) -> list[str]:
    names, images = containers((spec(obj).get("template") or {}).get("spec") or {})
    return [names, images, label_selector(spec(obj).get("selector"))]


def deployment_cells(obj: Tree, now: datetime) -> list[Any]:
    """Return a Deployment's cells."""
    state = status(obj)
    ready = f"{state.get('readyReplicas', 0)}/{spec(obj).get('replicas', 0)}"
    updated, available = state.get("updatedReplicas", 0), state.get("availableReplicas", 0)
    return [name(obj), ready, updated, available, age(obj, now), *_template(obj)]


def replica_set_cells(obj: Tree, now: datetime) -> list[Any]:
    """Return a ReplicaSet's cells."""
    state = status(obj)
    counts = [spec(obj).get("replicas", 0), state.get("replicas", 0), state.get("readyReplicas", 0)]
    return [name(obj), *counts, age(obj, now), *_template(obj)]


PRINTERS = {
    "deployments.apps": Printer(
        columns("Ready", "Up-to-date", "Available", AGE, wide=WIDE), deployment_cells
    ),
    "replicasets.apps": Printer(
        columns(integer("Desired"), integer("Current"), integer("Ready"), AGE, wide=WIDE), replica_set_cells
    ),
}
