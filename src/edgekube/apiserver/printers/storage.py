"""Storage classes and what CSI drivers tell."""

from datetime import datetime
from typing import Any

from edgekube.apiserver.printers.base import (
    AGE,
    UNSET,
    Column,
    Printer,
    age,
    columns,
    integer,
    name,
    spec,
    status,
)
from edgekube.apiserver.request import Tree

DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


def class_cells(kind: Tree, now: datetime) -> list[Any]:
    """Return a StorageClass' cells."""
    annotations = kind["metadata"].get("annotations") or {}
    default = any(annotations.get(key) == "true" for key in DEFAULT_CLASS)
    return [
        f"{name(kind)} (default)" if default else name(kind), kind.get("provisioner", ""),
        kind.get("reclaimPolicy", "Delete"), kind.get("volumeBindingMode", "Immediate"),
        kind.get("allowVolumeExpansion", False), age(kind, now),
    ]  # fmt: skip


def attachment_cells(attachment: Tree, now: datetime) -> list[Any]:
    """Return a VolumeAttachment's cells."""
    about = spec(attachment)
    volume = (about.get("source") or {}).get("persistentVolumeName", "")
    attached = bool(status(attachment).get("attached"))
    return [
        name(attachment), about.get("attacher", ""), volume, about.get("nodeName", ""), attached,
        age(attachment, now),
    ]  # fmt: skip


def driver_cells(driver: Tree, now: datetime) -> list[Any]:
    """Return a CSIDriver's cells."""
    about = spec(driver)
    audiences = ",".join(request.get("audience", "") for request in about.get("tokenRequests") or ())
    return [
        name(driver), about.get("attachRequired", True), about.get("podInfoOnMount", False),
        about.get("storageCapacity", False), audiences or UNSET, about.get("requiresRepublish", False),
        ",".join(about.get("volumeLifecycleModes") or ()), age(driver, now),
    ]  # fmt: skip


def node_cells(node: Tree, now: datetime) -> list[Any]:
    """Return a CSINode's cells."""
    return [name(node), len(spec(node).get("drivers") or ()), age(node, now)]


def capacity_cells(capacity: Tree, _now: datetime) -> list[Any]:
    """Return a CSIStorageCapacity's cells."""
    return [name(capacity), capacity.get("storageClassName", ""), capacity.get("capacity", UNSET)]


def attributes_cells(kind: Tree, now: datetime) -> list[Any]:
    """Return a VolumeAttributesClass' cells."""
    return [name(kind), kind.get("driverName", ""), age(kind, now)]


def _flag(text: str) -> Column:
    return Column(text, type="boolean")


PRINTERS = {
    "storageclasses.storage.k8s.io": Printer(
        columns("Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", AGE), class_cells
    ),
    "volumeattachments.storage.k8s.io": Printer(
        columns("Attacher", "PV", "Node", "Attached", AGE), attachment_cells
    ),
    "csidrivers.storage.k8s.io": Printer(
        columns(
            _flag("AttachRequired"), _flag("PodInfoOnMount"), _flag("StorageCapacity"), "TokenRequests",
            _flag("RequiresRepublish"), "Modes", AGE,
        ), driver_cells,
    ),
    "csinodes.storage.k8s.io": Printer(columns(integer("Drivers"), AGE), node_cells),
    "csistoragecapacities.storage.k8s.io": Printer(columns("StorageClassName", "Capacity"), capacity_cells),
    "volumeattributesclasses.storage.k8s.io": Printer(columns("DriverName", AGE), attributes_cells),
}  # fmt: skip
