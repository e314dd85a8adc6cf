"""How PersistentVolumeClaims count against quotas (pkg/quota/v1/evaluator/core in Kubernetes)."""

from collections.abc import Mapping
from typing import Any

from edgekube.api import quantity

CLASS_SUFFIX = ".storageclass.storage.k8s.io/"
CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_NAMES = frozenset({"persistentvolumeclaims", "count/persistentvolumeclaims", "requests.storage"})
_OF_CLASS = tuple(CLASS_SUFFIX + name for name in ("persistentvolumeclaims", "requests.storage"))


def claim_names(name: str) -> bool:
    """Whether a quota name is about claims."""
    return name in _NAMES or name.endswith(_OF_CLASS)


def claim_usage(claim: Mapping[str, Any], _now: float) -> dict[str, str]:
    """Return what one claim uses: its number and its size, also of its class."""
    spec = claim.get("spec") or {}
    usage = {"persistentvolumeclaims": "1", "count/persistentvolumeclaims": "1"}
    annotations = claim["metadata"].get("annotations") or {}
    storage_class = annotations.get(CLASS_ANNOTATION) or spec.get("storageClassName") or ""
    if storage_class:
        usage[f"{storage_class}{CLASS_SUFFIX}persistentvolumeclaims"] = "1"
    sizes = [
        ((spec.get("resources") or {}).get("requests") or {}).get("storage"),
        ((claim.get("status") or {}).get("allocatedResources") or {}).get("storage"),
    ]
    size = max(filter(None, sizes), key=quantity.parse, default=None)
    if size is not None:
        usage["requests.storage"] = size
        if storage_class:
            usage[f"{storage_class}{CLASS_SUFFIX}requests.storage"] = size
    return usage
