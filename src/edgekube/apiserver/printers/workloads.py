"""Deployments, ReplicaSets, StatefulSets, DaemonSets, ReplicationControllers and what they keep."""

from datetime import datetime
from typing import Any

from edgekube.apiserver.printers.base import (
    AGE,
    NONE,
    Printer,
    age,
    columns,
    containers,
    integer,
    label_selector,
    labels,
    name,
    spec,
    status,
)  # fmt: skip
from edgekube.apiserver.request import Tree

WIDE = ("Containers", "Images", "Selector")


def _images(obj: Tree) -> tuple[str, str]:
    return containers((spec(obj).get("template") or {}).get("spec") or {})


def _template(obj: Tree) -> list[str]:
    return [*_images(obj), label_selector(spec(obj).get("selector"))]


def deployment_cells(obj: Tree, now: datetime) -> list[Any]:
    """Return a Deployment's cells."""
    state = status(obj)
    ready = f"{state.get('readyReplicas', 0)}/{spec(obj).get('replicas', 0)}"
    updated, available = state.get("updatedReplicas", 0), state.get("availableReplicas", 0)
    return [name(obj), ready, updated, available, age(obj, now), *_template(obj)]


def _counts(obj: Tree) -> list[int]:
    state = status(obj)
    return [spec(obj).get("replicas", 0), state.get("replicas", 0), state.get("readyReplicas", 0)]


def replica_set_cells(obj: Tree, now: datetime) -> list[Any]:
    """Return a ReplicaSet's cells."""
    return [name(obj), *_counts(obj), age(obj, now), *_template(obj)]


def controller_cells(obj: Tree, now: datetime) -> list[Any]:
    """Return a ReplicationController's cells."""
    return [name(obj), *_counts(obj), age(obj, now), *_images(obj), labels(spec(obj).get("selector"))]


def stateful_set_cells(obj: Tree, now: datetime) -> list[Any]:
    """Return a StatefulSet's cells."""
    ready = f"{status(obj).get('readyReplicas', 0)}/{spec(obj).get('replicas', 0)}"
    return [name(obj), ready, age(obj, now), *_images(obj)]


def daemon_set_cells(obj: Tree, now: datetime) -> list[Any]:
    """Return a DaemonSet's cells."""
    state = status(obj)
    fields = (
        "desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable",
    )  # fmt: skip
    counts = [state.get(field, 0) for field in fields]
    inner = (spec(obj).get("template") or {}).get("spec") or {}
    return [name(obj), *counts, labels(inner.get("nodeSelector")), age(obj, now), *_template(obj)]


def revision_cells(obj: Tree, now: datetime) -> list[Any]:
    """Return a ControllerRevision's cells."""
    owners = obj["metadata"].get("ownerReferences") or ()
    owner = next((one for one in owners if one.get("controller")), None)
    shown = NONE
    if owner:
        group = owner["apiVersion"].rpartition("/")[0]
        kind = owner["kind"].lower()
        shown = f"{kind}.{group}/{owner['name']}" if group else f"{kind}/{owner['name']}"
    return [name(obj), shown, obj.get("revision", 0), age(obj, now)]


def template_cells(obj: Tree, now: datetime) -> list[Any]:
    """Return a PodTemplate's cells."""
    template = obj.get("template") or {}
    pods = (template.get("metadata") or {}).get("labels")
    return [name(obj), *containers(template.get("spec") or {}), labels(pods), age(obj, now)]


COUNTS = (integer("Desired"), integer("Current"), integer("Ready"))

PRINTERS = {
    "deployments.apps": Printer(
        columns("Ready", "Up-to-date", "Available", AGE, wide=WIDE), deployment_cells
    ),
    "replicasets.apps": Printer(columns(*COUNTS, AGE, wide=WIDE), replica_set_cells),
    "replicationcontrollers": Printer(columns(*COUNTS, AGE, wide=WIDE), controller_cells),
    "statefulsets.apps": Printer(columns("Ready", AGE, wide=WIDE[:2]), stateful_set_cells),
    "daemonsets.apps": Printer(
        columns(*COUNTS, integer("Up-to-date"), integer("Available"), "Node Selector", AGE, wide=WIDE),
        daemon_set_cells,
    ),
    "controllerrevisions.apps": Printer(columns("Controller", "Revision", AGE), revision_cells),
    "podtemplates": Printer(columns("Containers", "Images", "Pod Labels", AGE), template_cells),
}
