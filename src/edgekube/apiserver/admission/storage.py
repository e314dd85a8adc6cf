"""What new claims, volumes and Ingresses get: protection and default classes."""

from collections.abc import Sequence

from edgekube.api import quantity
from edgekube.api.kinds.networking_v1 import INGRESS_CLASSES
from edgekube.api.kinds.storage_v1 import STORAGE_CLASSES
from edgekube.api.resource import AnyResource, Key
from edgekube.apiserver.admission.base import Attributes, Objects
from edgekube.apiserver.registry.storage import Storage
from edgekube.apiserver.request import Tree

CREATE = frozenset({"create"})
CLAIMS = frozenset({"persistentvolumeclaims"})
FINALIZERS = {
    "persistentvolumeclaims": "kubernetes.io/pvc-protection", "persistentvolumes": "kubernetes.io/pv-protection",
}  # fmt: skip
DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
DEFAULT_INGRESS = ("ingressclass.kubernetes.io/is-default-class",)
OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
OLD_INGRESS = "kubernetes.io/ingress.class"


class StorageProtection:
    """Put a finalizer on claims and volumes that keeps them while they are used (StorageObjectInUseProtection)."""

    verbs, resources = CREATE, frozenset(FINALIZERS)

    async def admit(self, attributes: Attributes) -> None:
        """Add it."""
        name = FINALIZERS[attributes.target.row.plural]
        finalizers = attributes.obj["metadata"].setdefault("finalizers", [])
        if name not in finalizers:
            finalizers.append(name)


class ClaimResize:
    """Let only claims grow whose class can make volumes grow (PersistentVolumeClaimResize)."""

    verbs, resources = frozenset({"update"}), CLAIMS

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def validate(self, attributes: Attributes) -> None:
        """Raise Forbidden when the volume cannot grow."""
        if attributes.old is None or attributes.subresource:
            return
        wanted, had = _asked(attributes.obj), _asked(attributes.old)
        if not wanted or not had or quantity.parse(wanted) <= quantity.parse(had):
            return
        if (attributes.old.get("status") or {}).get("phase") != "Bound":
            raise attributes.forbid("Only bound persistent volume claims can be expanded")
        name = attributes.obj["spec"].get("storageClassName") or (
            attributes.obj["metadata"].get("annotations") or {}
        ).get(OLD_CLASS)
        found = await self._objects.find(STORAGE_CLASSES, Key("", name)) if name else None
        if not (found or {}).get("allowVolumeExpansion"):
            raise attributes.forbid(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must "
                "support resize"
            )


def _asked(claim: Tree) -> str:
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    return str(requests.get("storage", ""))


class DefaultStorageClass:
    """Give claims that name no class the default one; of several the newest."""

    verbs, resources = CREATE, CLAIMS

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def admit(self, attributes: Attributes) -> None:
        """Fill in spec.storageClassName; "" says on purpose that there is none."""
        obj = attributes.obj
        if "storageClassName" in obj.get("spec", {}) or OLD_CLASS in (
            obj["metadata"].get("annotations") or {}
        ):
            return
        found = await _defaults(self._storage, STORAGE_CLASSES, DEFAULT_CLASS)
        if found:
            obj.setdefault("spec", {})["storageClassName"] = found[0]["metadata"]["name"]


class DefaultIngressClass:
    """Give Ingresses that name no class the default one."""

    verbs, resources = CREATE, frozenset({"ingresses.networking.k8s.io"})

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def admit(self, attributes: Attributes) -> None:
        """Fill in spec.ingressClassName; raises Forbidden when several are the default."""
        obj = attributes.obj
        if obj.get("spec", {}).get("ingressClassName") or OLD_INGRESS in (
            obj["metadata"].get("annotations") or {}
        ):
            return
        found = await _defaults(self._storage, INGRESS_CLASSES, DEFAULT_INGRESS)
        if len(found) > 1:
            raise attributes.forbid(f"{len(found)} default IngressClasses were found, only 1 allowed")
        if found:
            obj.setdefault("spec", {})["ingressClassName"] = found[0]["metadata"]["name"]


async def _defaults(storage: Storage, row: AnyResource, marks: Sequence[str]) -> list[Tree]:
    """Return the classes marked as default, the newest first."""
    found = [
        tree
        for tree in await storage.all(row)
        if any((tree["metadata"].get("annotations") or {}).get(mark) == "true" for mark in marks)
    ]
    found.sort(key=lambda tree: str(tree["metadata"]["name"]))
    found.sort(key=lambda tree: str(tree["metadata"].get("creationTimestamp", "")), reverse=True)
    return found
