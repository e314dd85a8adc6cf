"""CSI drivers, nodes and capacities (pkg/apis/storage/validation)."""

from typing import Any

from edgekube.api.quantity import parse
from edgekube.api.validation import names
from edgekube.api.validation.label_selector import label_selector
from edgekube.api.validation.problems import IMMUTABLE, NOT_NEGATIVE, Problems
from edgekube.api.validation.storage import driver_name

Tree = dict[str, Any]
_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
_MODES = ("Ephemeral", "Persistent")
_NODE_ID_LENGTH = 256
_SHORTEST_TOKEN = 600
_LONGEST_TOKEN = 1 << 32
_SHORTEST_PERIOD = 10


def csi_driver(tree: Tree, problems: Problems) -> None:
    """Check a CSIDriver."""
    driver_name(tree["metadata"].get("name", ""), "metadata.name", problems)
    spec = tree.get("spec", {})
    for index, mode in enumerate(spec.get("volumeLifecycleModes", ())):
        if mode not in _MODES:
            problems.unsupported(f"spec.volumeLifecycleModes[{index}]", mode, _MODES)
    problems.one_of(spec, "fsGroupPolicy", "spec", supported=_GROUP_POLICIES)
    seen: set[str] = set()
    for index, request in enumerate(spec.get("tokenRequests", ())):
        path, audience = f"spec.tokenRequests[{index}]", request.get("audience", "")
        if audience in seen:
            problems.duplicate(f"{path}.audience", audience)
        seen.add(audience)
        seconds = request.get("expirationSeconds")
        if seconds is not None and seconds < _SHORTEST_TOKEN:
            problems.invalid(
                f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes"
            )
        elif seconds is not None and seconds > _LONGEST_TOKEN:
            problems.invalid(
                f"{path}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds"
            )
    period = spec.get("nodeAllocatableUpdatePeriodSeconds")
    if period is not None and period < _SHORTEST_PERIOD:
        problems.invalid(
            "spec.nodeAllocatableUpdatePeriodSeconds", period, "must be greater than or equal to 10 seconds"
        )


def csi_driver_update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change."""
    spec, before = tree.get("spec", {}), old.get("spec", {})
    for field in ("attachRequired", "volumeLifecycleModes"):
        problems.unchanged(spec, before, field, "spec")


def csi_node(tree: Tree, problems: Problems) -> None:
    """Check a CSINode."""
    seen: set[str] = set()
    for index, driver in enumerate(tree.get("spec", {}).get("drivers", ())):
        path, name = f"spec.drivers[{index}]", driver.get("name", "")
        driver_name(name, f"{path}.name", problems)
        if name in seen:
            problems.duplicate(f"{path}.name", name)
        seen.add(name)
        _node_driver(driver, path, problems)


def csi_node_update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change: a driver that stays, stays as it is."""
    before = {driver.get("name"): driver for driver in old.get("spec", {}).get("drivers", ())}
    for index, driver in enumerate(tree.get("spec", {}).get("drivers", ())):
        known = before.get(driver.get("name"))
        if known is not None and _fixed(known) != _fixed(driver):
            problems.invalid(f"spec.drivers[{index}]", driver, IMMUTABLE)


def _fixed(driver: Tree) -> Tree:
    return {name: value for name, value in driver.items() if name != "allocatable"}


def _node_driver(driver: Tree, path: str, problems: Problems) -> None:
    node = driver.get("nodeID", "")
    if not node:
        problems.required(f"{path}.nodeID")
    elif len(node) > _NODE_ID_LENGTH:
        problems.invalid(f"{path}.nodeID", node, f"must be {_NODE_ID_LENGTH} characters or less")
    count = driver.get("allocatable", {}).get("count")
    if count is not None and count < 0:
        problems.invalid(f"{path}.allocatable.count", count, NOT_NEGATIVE)
    keys = driver.get("topologyKeys", ())
    for index, key in enumerate(keys):
        if key in keys[:index]:
            problems.duplicate(f"{path}.topologyKeys", key)
        problems.each(f"{path}.topologyKeys", key, names.qualified(key))


def csi_storage_capacity(tree: Tree, problems: Problems) -> None:
    """Check a CSIStorageCapacity."""
    name = tree.get("storageClassName", "")
    problems.each("storageClassName", name, names.subdomain(name))
    if "nodeTopology" in tree:
        label_selector(tree["nodeTopology"], "nodeTopology", problems)
    for field in ("capacity", "maximumVolumeSize"):
        if field in tree and parse(tree[field]) < 0:
            problems.invalid(field, tree[field], NOT_NEGATIVE)


def csi_storage_capacity_update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change."""
    for field in ("nodeTopology", "storageClassName"):
        problems.unchanged(tree, old, field, "")
