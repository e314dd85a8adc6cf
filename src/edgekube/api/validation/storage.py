"""Storage classes, volume attributes classes and attachments (pkg/apis/storage/validation)."""

from typing import Any

from edgekube.api.validation import names
from edgekube.api.validation.problems import IMMUTABLE, Problems

Tree = dict[str, Any]
MOST_PARAMETERS = 512
PARAMETERS_SIZE = 256 * 1024
DRIVER_LENGTH = 63
_EXACTLY_ONE = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"


def storage_class(tree: Tree, problems: Problems) -> None:
    """Check a StorageClass."""
    provisioner(tree.get("provisioner", ""), "provisioner", problems)
    parameters(tree.get("parameters", {}), "parameters", problems)
    _choice(tree, "reclaimPolicy", ("Delete", "Retain"), problems=problems)
    _choice(tree, "volumeBindingMode", ("Immediate", "WaitForFirstConsumer"), problems=problems)
    for index, term in enumerate(tree.get("allowedTopologies", ())):
        seen: set[str] = set()
        for number, requirement in enumerate(term.get("matchLabelExpressions", ())):
            path = f"allowedTopologies[{index}].matchLabelExpressions[{number}]"
            _topology(requirement, path, seen, problems=problems)


def storage_class_update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change."""
    for field in ("parameters", "provisioner", "reclaimPolicy"):
        if tree.get(field) != old.get(field):
            problems.forbidden(field, f"updates to {field} are forbidden.")
    problems.unchanged(tree, old, "volumeBindingMode", "")


def volume_attributes_class(tree: Tree, problems: Problems) -> None:
    """Check a VolumeAttributesClass."""
    provisioner(tree.get("driverName", ""), "driverName", problems)
    if not tree.get("parameters"):
        problems.required("parameters", "must contain at least one key/value pair")
    parameters(tree.get("parameters", {}), "parameters", problems)


def volume_attributes_class_update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change."""
    for field in ("driverName", "parameters"):
        if tree.get(field) != old.get(field):
            problems.forbidden(field, f"updates to {field} are forbidden.")


def volume_attachment(tree: Tree, problems: Problems) -> None:
    """Check a VolumeAttachment."""
    spec = tree.get("spec", {})
    driver_name(spec.get("attacher", ""), "spec.attacher", problems)
    source = spec.get("source", {})
    inline, volume = source.get("inlineVolumeSpec"), source.get("persistentVolumeName")
    if inline is None and not volume:
        problems.required("spec.source", _EXACTLY_ONE)
    elif inline is not None and volume:
        problems.forbidden("spec.source", _EXACTLY_ONE)
    elif volume:
        problems.each("spec.source.persistentVolumeName", volume, names.subdomain(volume))
    node = spec.get("nodeName", "")
    problems.each("spec.nodeName", node, names.subdomain(node))


def volume_attachment_update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change: the spec."""
    if tree.get("spec") != old.get("spec"):
        problems.invalid("spec", tree.get("spec"), IMMUTABLE)


def provisioner(name: str, path: str, problems: Problems) -> None:
    """Check the name of a provisioner."""
    if name:
        problems.each(path, name, names.qualified(name.lower()))
    else:
        problems.required(path)


def driver_name(name: str, path: str, problems: Problems) -> None:
    """Check the name of a CSI driver."""
    if not name:
        problems.required(path)
        return
    if len(name) > DRIVER_LENGTH:
        problems.too_long(path, DRIVER_LENGTH)
    problems.each(path, name, names.subdomain(name.lower()))


def parameters(given: dict[str, str], path: str, problems: Problems) -> None:
    """Check the parameters of a class."""
    if len(given) > MOST_PARAMETERS:
        problems.too_many(path, len(given), MOST_PARAMETERS)
    for key in given:
        if not key:
            problems.invalid(path, key, "field can not be empty.")
    if sum(len(key) + len(value) for key, value in given.items()) > PARAMETERS_SIZE:
        problems.too_long(path, PARAMETERS_SIZE)


def _choice(tree: Tree, field: str, supported: tuple[str, ...], *, problems: Problems) -> None:
    value = tree.get(field, "")
    if value not in supported:
        problems.unsupported(field, value, supported)


def _topology(requirement: Tree, path: str, seen: set[str], *, problems: Problems) -> None:
    key, values = requirement.get("key", ""), requirement.get("values", ())
    if not values:
        problems.required(f"{path}.values")
    for index, value in enumerate(values):
        if value in values[:index]:
            problems.duplicate(f"{path}.values[{index}]", value)
    problems.each(f"{path}.key", key, names.qualified(key))
    if key in seen:
        problems.duplicate(f"{path}.key", key)
    seen.add(key)
