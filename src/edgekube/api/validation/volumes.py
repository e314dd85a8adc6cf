"""Volumes of pods."""

from collections.abc import Callable, Collection
from typing import Any

from edgekube.api import quantity
from edgekube.api.validation import names
from edgekube.api.validation.problems import Problems
from edgekube.api.validation.references import field_reference, resource_reference

Tree = dict[str, Any]
PERSISTENT_SOURCES = frozenset({
    "awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "csi", "fc", "flexVolume", "flocker",
    "gcePersistentDisk", "glusterfs", "hostPath", "iscsi", "local", "nfs", "photonPersistentDisk",
    "portworxVolume", "quobyte", "rbd", "scaleIO", "storageos", "vsphereVolume",
})  # fmt: skip
SOURCES = (PERSISTENT_SOURCES - {"local"}) | {
    "configMap", "downwardAPI", "emptyDir", "ephemeral", "gitRepo", "image", "persistentVolumeClaim", "projected",
    "secret",
}  # fmt: skip
_HOST_PATH_TYPES = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket",
)  # fmt: skip
_MODE = "must be a number between 0 and 0777 (octal), both inclusive"
_PROJECTIONS = (
    "clusterTrustBundle",
    "configMap",
    "downwardAPI",
    "podCertificate",
    "secret",
    "serviceAccountToken",
)


def volumes(spec: Tree, path: str, problems: Problems) -> frozenset[str]:
    """Check a pod's volumes; return their names."""
    seen: set[str] = set()
    for index, volume in enumerate(spec.get("volumes", ())):
        here = f"{path}.volumes[{index}]"
        if problems.given(volume, "name", here):
            name = volume["name"]
            problems.each(f"{here}.name", name, names.label(name))
            if name in seen:
                problems.duplicate(f"{here}.name", name)
            seen.add(name)
        if source(volume, SOURCES, here, problems=problems) is None:
            problems.required(here, "must specify a volume type")
    return frozenset(seen)


def source(volume: Tree, known: Collection[str], path: str, *, problems: Problems) -> str | None:
    """Check that a volume has exactly one source, and that; return its name."""
    found = [name for name in volume if name in known]
    for name in found[1:]:
        problems.forbidden(f"{path}.{name}", "may not specify more than 1 volume type")
    if not found:
        return None
    check = _CHECKS.get(found[0])
    if check:
        check(volume[found[0]], f"{path}.{found[0]}", problems)
    return found[0]


def relative_path(text: str, path: str, problems: Problems) -> None:
    """Check a path below a volume."""
    if text.startswith("/"):
        problems.invalid(path, text, "must be a relative path")
    if ".." in text.split("/"):
        problems.invalid(path, text, "must not contain '..'")


def _mode(tree: Tree, field: str, path: str, problems: Problems) -> None:
    value = tree.get(field)
    if value is not None and not 0 <= value <= 0o777:
        problems.invalid(f"{path}.{field}", value, _MODE)


def _host_path(tree: Tree, path: str, problems: Problems) -> None:
    if problems.given(tree, "path", path) and ".." in tree["path"].split("/"):
        problems.invalid(f"{path}.path", tree["path"], "must not contain '..'")
    if tree.get("type", "") not in _HOST_PATH_TYPES:
        problems.unsupported(f"{path}.type", tree["type"], _HOST_PATH_TYPES)


def _empty_dir(tree: Tree, path: str, problems: Problems) -> None:
    size = tree.get("sizeLimit")
    if size is not None and quantity.parse(size) < 0:
        problems.forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")


def _keys_of(name: str) -> Callable[[Tree, str, Problems], None]:
    def check(tree: Tree, path: str, problems: Problems) -> None:
        problems.given(tree, name, path)
        _mode(tree, "defaultMode", path, problems)
        _items(tree, path, problems)

    return check


def _items(tree: Tree, path: str, problems: Problems) -> None:
    for index, item in enumerate(tree.get("items", ())):
        here = f"{path}.items[{index}]"
        problems.given(item, "key", here)
        if problems.given(item, "path", here):
            relative_path(item["path"], f"{here}.path", problems)
        _mode(item, "mode", here, problems)


def _downward(tree: Tree, path: str, problems: Problems) -> None:
    _mode(tree, "defaultMode", path, problems)
    for index, file in enumerate(tree.get("items", ())):
        here = f"{path}.items[{index}]"
        if problems.given(file, "path", here):
            relative_path(file["path"], f"{here}.path", problems)
        if "fieldRef" in file:
            field_reference(file["fieldRef"], f"{here}.fieldRef", problems, in_volume=True)
        elif "resourceFieldRef" in file:
            resource_reference(file["resourceFieldRef"], f"{here}.resourceFieldRef", problems)
        else:
            problems.required(here, "one of fieldRef and resourceFieldRef is required")
        _mode(file, "mode", here, problems)


def _projected(tree: Tree, path: str, problems: Problems) -> None:
    _mode(tree, "defaultMode", path, problems)
    for index, one in enumerate(tree.get("sources", ())):
        here = f"{path}.sources[{index}]"
        found = [name for name in _PROJECTIONS if name in one]
        if not found:
            problems.required(here, "must specify a source")
        for extra in found[1:]:
            problems.forbidden(f"{here}.{extra}", "may not specify more than 1 volume type")
        for name in ("secret", "configMap"):
            if name in one:
                problems.given(one[name], "name", f"{here}.{name}")
                _items(one[name], f"{here}.{name}", problems)
        if "downwardAPI" in one:
            _downward(one["downwardAPI"], f"{here}.downwardAPI", problems)
        if "serviceAccountToken" in one:
            _token(one["serviceAccountToken"], f"{here}.serviceAccountToken", problems)


def _token(tree: Tree, path: str, problems: Problems) -> None:
    if tree.get("expirationSeconds", 600) < 600:
        problems.invalid(
            f"{path}.expirationSeconds",
            tree["expirationSeconds"],
            "may not specify a duration less than 10 minutes",
        )
    if problems.given(tree, "path", path):
        relative_path(tree["path"], f"{path}.path", problems)


def _nfs(tree: Tree, path: str, problems: Problems) -> None:
    problems.given(tree, "server", path)
    if problems.given(tree, "path", path) and not tree["path"].startswith("/"):
        problems.invalid(f"{path}.path", tree["path"], "must be an absolute path")


def _given(*fields: str) -> Callable[[Tree, str, Problems], None]:
    def check(tree: Tree, path: str, problems: Problems) -> None:
        for field in fields:
            problems.given(tree, field, path)

    return check


_CHECKS: dict[str, Callable[[Tree, str, Problems], None]] = {
    "hostPath": _host_path,
    "emptyDir": _empty_dir,
    "secret": _keys_of("secretName"),
    "configMap": _keys_of("name"),
    "downwardAPI": _downward,
    "projected": _projected,
    "nfs": _nfs,
    "local": _given("path"),
    "persistentVolumeClaim": _given("claimName"),
    "csi": _given("driver"),
    "iscsi": _given("targetPortal", "iqn"),
}
