"""PersistentVolumes and their claims."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from edgekube.apiserver.printers.base import AGE, UNSET, Printer, age, columns, name, spec, status
from edgekube.apiserver.request import Tree

MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
OLD_CLASS = "volume.beta.kubernetes.io/storage-class"


def _modes(modes: Iterable[str] | None) -> str:
    return ",".join(MODES[mode] for mode in MODES if mode in (modes or ()))


def _class(obj: Tree) -> str:
    annotations = obj["metadata"].get("annotations") or {}
    return str(annotations.get(OLD_CLASS) or spec(obj).get("storageClassName") or "")


def volume_cells(volume: Tree, now: datetime) -> list[Any]:
    """Return a PersistentVolume's cells."""
    about, state, claim = spec(volume), status(volume), spec(volume).get("claimRef") or {}
    phase = "Terminating" if "deletionTimestamp" in volume["metadata"] else state.get("phase", "")
    return [
        name(volume), (about.get("capacity") or {}).get("storage", ""), _modes(about.get("accessModes")),
        about.get("persistentVolumeReclaimPolicy", ""), phase,
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "", _class(volume),
        about.get("volumeAttributesClassName") or UNSET, state.get("reason", ""), age(volume, now),
        about.get("volumeMode") or UNSET,
    ]  # fmt: skip


def claim_cells(claim: Tree, now: datetime) -> list[Any]:
    """Return a PersistentVolumeClaim's cells."""
    about, state = spec(claim), status(claim)
    phase = "Terminating" if "deletionTimestamp" in claim["metadata"] else state.get("phase", "")
    bound = bool(about.get("volumeName"))
    return [
        name(claim), phase, about.get("volumeName", ""),
        (state.get("capacity") or {}).get("storage", "") if bound else "",
        _modes(state.get("accessModes")) if bound else "", _class(claim),
        about.get("volumeAttributesClassName") or UNSET, age(claim, now), about.get("volumeMode") or UNSET,
    ]  # fmt: skip


PRINTERS = {
    "persistentvolumes": Printer(
        columns("Capacity", "Access Modes", "Reclaim Policy", "Status", "Claim", "StorageClass",
                "VolumeAttributesClass", "Reason", AGE, wide=("VolumeMode",)), volume_cells,
    ),
    "persistentvolumeclaims": Printer(
        columns("Status", "Volume", "Capacity", "Access Modes", "StorageClass", "VolumeAttributesClass", AGE,
                wide=("VolumeMode",)), claim_cells,
    ),
}  # fmt: skip
