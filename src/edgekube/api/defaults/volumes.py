"""Volumes of pods, persistent volumes and claims."""

from typing import Any

from edgekube.api.defaults.container import pull_policy, references
from edgekube.api.defaults.fill import Tree, fill, fill_empty, items

FILE_MODE = 0o644
_BY_SOURCE: dict[str, dict[str, Any]] = {
    "secret": {"defaultMode": FILE_MODE},
    "configMap": {"defaultMode": FILE_MODE},
    "downwardAPI": {"defaultMode": FILE_MODE},
    "projected": {"defaultMode": FILE_MODE},
    "hostPath": {"type": ""},
    "iscsi": {"iscsiInterface": "default"},
    "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
    "scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
    "azureDisk": {"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4", "readOnly": False},
}


def volume(tree: Tree) -> None:
    """Fill a pod's volume; one without a source is an emptyDir."""
    if not tree.keys() - {"name"}:
        tree["emptyDir"] = {}
    _sources(tree)
    for file in items(tree.get("downwardAPI", {}), "items"):
        references(file)
    for source in items(tree.get("projected", {}), "sources"):
        _projection(source)
    if "image" in tree:
        fill_empty(tree["image"], {"pullPolicy": pull_policy(tree["image"].get("reference", ""))})
    if "ephemeral" in tree:
        claim = tree["ephemeral"].get("volumeClaimTemplate", {})
        fill(claim.setdefault("spec", {}), {"volumeMode": "Filesystem"})


def persistent_volume(tree: Tree) -> None:
    """Fill a PersistentVolume."""
    spec = tree.setdefault("spec", {})
    fill_empty(spec, {"persistentVolumeReclaimPolicy": "Retain"})
    fill(spec, {"volumeMode": "Filesystem"})
    _sources(spec)
    fill_empty(tree.setdefault("status", {}), {"phase": "Pending"})


def persistent_volume_claim(tree: Tree) -> None:
    """Fill a PersistentVolumeClaim."""
    fill(tree.setdefault("spec", {}), {"volumeMode": "Filesystem"})
    fill_empty(tree.setdefault("status", {}), {"phase": "Pending"})


def _sources(tree: Tree) -> None:
    for name, values in _BY_SOURCE.items():
        if name in tree:
            fill(tree[name], values)


def _projection(source: Tree) -> None:
    for file in items(source.get("downwardAPI", {}), "items"):
        references(file)
    if "serviceAccountToken" in source:
        fill(source["serviceAccountToken"], {"expirationSeconds": 3600})
