"""PersistentVolumes and their claims."""

from typing import Any

from edgekube.api import quantity
from edgekube.api.validation.problems import POSITIVE, Problems
from edgekube.api.validation.volumes import PERSISTENT_SOURCES, source

Tree = dict[str, Any]
_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_RECLAIM = ("Delete", "Recycle", "Retain")
_MODES = ("Block", "Filesystem")
_CLAIM_FROZEN = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"


def volume(tree: Tree, problems: Problems) -> None:
    """Check a PersistentVolume."""
    spec = tree.get("spec", {})
    _access_modes(spec, "", problems)
    if not spec.get("capacity"):
        problems.required("spec.capacity")
    elif "storage" not in spec["capacity"]:
        problems.unsupported("spec.capacity", "", ("storage",))
    else:
        _storage(spec["capacity"]["storage"], "spec.capacity[storage]", problems)
    problems.one_of(spec, "persistentVolumeReclaimPolicy", "spec", supported=_RECLAIM)
    problems.one_of(spec, "volumeMode", "spec", supported=_MODES)
    if source(spec, PERSISTENT_SOURCES, "spec", problems=problems) is None:
        problems.required("spec", "must specify a volume type")


def volume_update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change."""
    spec, before = tree.get("spec", {}), old.get("spec", {})
    if any(spec.get(name) != before.get(name) for name in PERSISTENT_SOURCES):
        problems.forbidden(
            "spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation"
        )
    problems.unchanged(spec, before, "volumeMode", "spec")


def claim(tree: Tree, problems: Problems) -> None:
    """Check a PersistentVolumeClaim."""
    spec = tree.get("spec", {})
    _access_modes(spec, "at least 1 access mode is required", problems)
    problems.one_of(spec, "volumeMode", "spec", supported=_MODES)
    amount = spec.get("resources", {}).get("requests", {}).get("storage")
    if amount is None:
        problems.required("spec.resources[storage]")
    else:
        _storage(amount, "spec.resources[storage]", problems)


def claim_update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change: all but more storage, and the volume's name while it is unset."""
    spec, before = dict(tree.get("spec", {})), dict(old.get("spec", {}))
    if not before.get("volumeName"):
        spec.pop("volumeName", None)
        before.pop("volumeName", None)
    wanted, had = _requested(spec), _requested(before)
    for one in (spec, before):
        one.pop("resources", None)
        one.pop("volumeAttributesClassName", None)
    if spec != before:
        problems.forbidden("spec", _CLAIM_FROZEN)
    if wanted < had:
        problems.forbidden("spec.resources.requests.storage", "field can not be less than status.capacity")


def _requested(spec: Tree) -> int:
    return quantity.value(spec.get("resources", {}).get("requests", {}).get("storage", "0"))


def _access_modes(spec: Tree, detail: str, problems: Problems) -> None:
    modes = spec.get("accessModes", ())
    if not modes:
        problems.required("spec.accessModes", detail)
    for mode in modes:
        if mode not in _ACCESS_MODES:
            problems.unsupported("spec.accessModes", mode, _ACCESS_MODES)
    if len(modes) > 1 and "ReadWriteOncePod" in modes:
        problems.forbidden("spec.accessModes", "may not use ReadWriteOncePod with other access modes")


def _storage(amount: str, path: str, problems: Problems) -> None:
    if quantity.parse(amount) <= 0:
        problems.invalid(path, amount, POSITIVE)
