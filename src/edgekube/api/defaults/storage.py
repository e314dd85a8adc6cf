"""Storage classes and CSI drivers."""

from edgekube.api.defaults.fill import Tree, fill


def storage_class(tree: Tree) -> None:
    """Fill a StorageClass."""
    fill(tree, {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"})


def csi_driver(tree: Tree) -> None:
    """Fill a CSIDriver."""
    spec = tree.setdefault("spec", {})
    fill(spec, {
        "attachRequired": True, "fsGroupPolicy": "ReadWriteOnceWithFSType", "podInfoOnMount": False,
        "requiresRepublish": False, "seLinuxMount": False, "storageCapacity": False,
    })  # fmt: skip
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]
