"""Which PersistentVolume a claim may have (component-helpers/storage/volume in Kubernetes), for binder and scheduler."""

from collections.abc import Iterable, Iterator, Mapping

from edgekube.api import quantity
from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1, storage_v1
from edgekube.control.nodeaffinity import selected
from edgekube.control.selectors import matches

CLASS = "volume.beta.kubernetes.io/storage-class"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
WAIT = "WaitForFirstConsumer"

LOCAL = "edgekube.io/local-path"
"""Finalizer of volumes whose directory the node has to remove, and the name of what made them."""

Claim = core_v1.PersistentVolumeClaim
Volume = core_v1.PersistentVolume


def claims_of(pod: core_v1.Pod) -> Iterator[tuple[Key, bool]]:
    """Yield the claims a pod uses, and whether each is made for it alone (generic ephemeral volumes)."""
    for volume in pod.spec.volumes:
        if volume.persistent_volume_claim is not None:
            yield Key(pod.metadata.namespace, volume.persistent_volume_claim.claim_name), False
        elif volume.ephemeral is not None:
            yield Key(pod.metadata.namespace, f"{pod.metadata.name}-{volume.name}"), True


def class_of(obj: Claim | Volume) -> str:
    """Return the StorageClass a claim or volume names, "" for none."""
    return obj.metadata.annotations.get(CLASS) or obj.spec.storage_class_name or ""


def bound(claim: Claim) -> bool:
    """Tell whether the binding is complete in both directions."""
    return bool(claim.spec.volume_name) and BIND_COMPLETED in claim.metadata.annotations


def waits(claim: Claim, classes: Mapping[str, storage_v1.StorageClass]) -> bool:
    """Tell whether the claim is bound only once a pod that uses it has a node."""
    found = classes.get(class_of(claim))
    return found is not None and found.volume_binding_mode == WAIT


def belongs(volume: Volume, claim: Claim) -> bool:
    """Tell whether `volume` is reserved for or bound to this very claim."""
    ref = volume.spec.claim_ref
    return (
        ref is not None
        and (ref.namespace, ref.name) == (claim.metadata.namespace, claim.metadata.name)
        and ref.uid in {"", claim.metadata.uid}
    )


def allows(volume: Volume, node: str, labels: Mapping[str, str]) -> bool:
    """Tell whether the volume can be used on that node."""
    affinity = volume.spec.node_affinity
    return affinity is None or affinity.required is None or selected(affinity.required, node, labels)


def best(
    claim: Claim, volumes: Iterable[Volume], *, node: tuple[str, Mapping[str, str]] | None = None,
    taken: Iterable[str] = (),
) -> Volume | None:  # fmt: skip
    """
    Return the volume reserved for the claim, or else the smallest free one that will do.

    `node` is a name and labels: only volumes it can use. `taken` are names not to consider.
    """
    taken, found = frozenset(taken), None
    for volume in volumes:
        if volume.metadata.name in taken or volume.metadata.deletion_timestamp or not _offers(volume, claim):
            continue
        if node is not None and not allows(volume, *node):
            continue
        if belongs(volume, claim):
            return volume
        if (
            volume.spec.claim_ref is None
            and _open(volume, claim)
            and (found is None or _order(volume) < _order(found))
        ):
            found = volume
    return found


def going(volume: Volume) -> bool:
    """Tell whether a volume only waits for its node to remove the data."""
    return bool(volume.metadata.deletion_timestamp) and LOCAL in volume.metadata.finalizers


def wanted_size(claim: Claim) -> int:
    """Return the bytes a claim requests."""
    requests = claim.spec.resources.requests if claim.spec.resources else {}
    return quantity.value(requests.get("storage", "0"))


def size(volume: Volume) -> int:
    """Return a volume's capacity in bytes."""
    return quantity.value(volume.spec.capacity.get("storage", "0"))


def provisionable(found: storage_v1.StorageClass | None, labels: Mapping[str, str]) -> bool:
    """Tell whether a volume of that class can be made for a node with these labels."""
    if found is None or found.provisioner == NO_PROVISIONER:
        return False
    return not found.allowed_topologies or any(
        all(labels.get(want.key) in want.values for want in term.match_label_expressions)
        for term in found.allowed_topologies
    )


def names(claim: Claim) -> core_v1.ObjectReference:
    """Return the claimRef that says whose a volume is."""
    key = key_of(claim)
    return core_v1.ObjectReference(
        api_version=claim.api_version, kind=claim.kind, namespace=key.namespace, name=key.name,
        uid=claim.metadata.uid, resource_version=claim.metadata.resource_version,
    )  # fmt: skip


def _offers(volume: Volume, claim: Claim) -> bool:
    """Tell whether size, mode and access modes will do."""
    return (
        size(volume) >= wanted_size(claim)
        and (volume.spec.volume_mode or "Filesystem") == (claim.spec.volume_mode or "Filesystem")
        and set(claim.spec.access_modes) <= set(volume.spec.access_modes)
    )


def _open(volume: Volume, claim: Claim) -> bool:
    """Tell whether a volume that nobody has is meant for claims like this."""
    if volume.status is not None and volume.status.phase not in {"", "Available", "Pending"}:
        return False
    if class_of(volume) != class_of(claim):
        return False
    return claim.spec.selector is None or matches(claim.spec.selector, volume.metadata.labels)


def _order(volume: Volume) -> tuple[int, str]:
    return size(volume), volume.metadata.name
