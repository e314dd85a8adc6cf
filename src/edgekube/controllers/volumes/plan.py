"""What a claim and a volume need next (pkg/controller/volume/persistentvolume in Kubernetes). Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from edgekube.api.types import core_v1, storage_v1
from edgekube.control import volumes as rules
from edgekube.control.volumes import Claim, Volume

PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
PROVISIONER = "volume.kubernetes.io/storage-provisioner"
NORMAL, WARNING = "Normal", "Warning"


@dataclass(frozen=True, slots=True)
class Note:
    """An Event to tell."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimPlan:
    """What to write: the claim's volume (bind), its mark for a provisioner, its phase."""

    bind: Volume | None = None
    provisioner: str = ""
    lost: bool = False
    note: Note | None = None


def claim_plan(
    claim: Claim, volumes: Mapping[str, Volume], classes: Mapping[str, storage_v1.StorageClass]
) -> ClaimPlan:
    """Decide for one claim."""
    if rules.bound(claim):
        return _bound(claim, volumes)
    if claim.spec.volume_name:
        volume = volumes.get(claim.spec.volume_name)
        free = volume is not None and (volume.spec.claim_ref is None or rules.belongs(volume, claim))
        return ClaimPlan(bind=volume if free else None)
    selected = claim.metadata.annotations.get(rules.SELECTED_NODE, "")
    waiting = rules.waits(claim, classes) and not selected
    if selected or waiting:
        # Its own volume only: which other one will do is the scheduler's choice, or none.
        volume = next((v for v in volumes.values() if v.spec.claim_ref and rules.belongs(v, claim)), None)
    else:
        volume = rules.best(claim, volumes.values())
    if volume is not None:
        return ClaimPlan(bind=volume)
    if waiting:
        return ClaimPlan(note=Note(NORMAL, "WaitForFirstConsumer", "waiting for first consumer to be created before binding"))  # fmt: skip
    return _provision(claim, classes)


def _bound(claim: Claim, volumes: Mapping[str, Volume]) -> ClaimPlan:
    volume = volumes.get(claim.spec.volume_name)
    if volume is None:
        text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
        return ClaimPlan(lost=True, note=Note(WARNING, "ClaimLost", text))
    ref = volume.spec.claim_ref
    if ref is None or rules.belongs(volume, claim):
        return ClaimPlan(bind=volume)
    text = "Two claims are bound to the same volume, this one is bound incorrectly"
    return ClaimPlan(lost=True, note=Note(WARNING, "ClaimMisbound", text))


def _provision(claim: Claim, classes: Mapping[str, storage_v1.StorageClass]) -> ClaimPlan:
    name = rules.class_of(claim)
    if not name:
        text = "no persistent volumes available for this claim and no storage class is set"
        return ClaimPlan(note=Note(NORMAL, "FailedBinding", text))
    found = classes.get(name)
    if found is None:
        text = f'storageclass.storage.k8s.io "{name}" not found'
        return ClaimPlan(note=Note(WARNING, "ProvisioningFailed", text))
    if found.provisioner == rules.NO_PROVISIONER:
        text = "no persistent volumes available for this claim and the storage class has no provisioner"
        return ClaimPlan(note=Note(NORMAL, "FailedBinding", text))
    text = (
        "Waiting for a volume to be created either by the external provisioner "
        f"'{found.provisioner}' or manually by the system administrator. If volume creation is delayed, "
        "please verify that the provisioner is running and correctly registered."
    )
    return ClaimPlan(provisioner=found.provisioner, note=Note(NORMAL, "ExternalProvisioning", text))


def claimed(volume: Volume, claim: Claim) -> Volume:
    """Return the volume as it is once it belongs to the claim."""
    ref = volume.spec.claim_ref
    if ref is not None and ref.uid == claim.metadata.uid:
        return volume
    marks = volume.metadata.annotations
    if ref is None:
        marks = {**marks, rules.BOUND_BY_CONTROLLER: "yes"}
    return msgspec.structs.replace(
        volume, metadata=msgspec.structs.replace(volume.metadata, annotations=marks),
        spec=msgspec.structs.replace(volume.spec, claim_ref=rules.names(claim)),
    )  # fmt: skip


def satisfied(claim: Claim, volume: Volume) -> Claim:
    """Return the claim as it is once the volume is its own."""
    marks = dict(claim.metadata.annotations)
    if not claim.spec.volume_name:
        marks[rules.BOUND_BY_CONTROLLER] = "yes"
    marks[rules.BIND_COMPLETED] = "yes"
    return msgspec.structs.replace(
        claim, metadata=msgspec.structs.replace(claim.metadata, annotations=marks),
        spec=msgspec.structs.replace(claim.spec, volume_name=volume.metadata.name),
    )  # fmt: skip


def claim_status(claim: Claim, volume: Volume) -> core_v1.PersistentVolumeClaimStatus:
    """Return a bound claim's status."""
    old = claim.status or core_v1.PersistentVolumeClaimStatus()
    return msgspec.structs.replace(
        old,
        phase="Bound",
        access_modes=volume.spec.access_modes,
        capacity=old.capacity or volume.spec.capacity,
    )


@dataclass(frozen=True, slots=True)
class VolumePlan:
    """The volume's phase; whether it is to be deleted, or to be free again."""

    phase: str
    delete: bool = False
    free: bool = False
    message: str = ""


def volume_plan(volume: Volume, claim: Claim | None) -> VolumePlan:
    """Decide for one volume; `claim` is what its claimRef names, if that is still there and the same."""
    ref = volume.spec.claim_ref
    if ref is None or not ref.uid:
        return VolumePlan("Available")
    if claim is None:
        return _reclaimed(volume)
    if claim.spec.volume_name == volume.metadata.name:
        return VolumePlan("Bound")
    if not claim.spec.volume_name:
        # The claim's own turn is about to come.
        return VolumePlan(volume.status.phase if volume.status and volume.status.phase else "Available")
    if PROVISIONED_BY in volume.metadata.annotations:
        return _reclaimed(volume)
    return VolumePlan("Available", free=rules.BOUND_BY_CONTROLLER in volume.metadata.annotations)


def _reclaimed(volume: Volume) -> VolumePlan:
    policy = volume.spec.persistent_volume_reclaim_policy
    if policy == "Recycle":
        return VolumePlan("Failed", message="No recycler plugin found for the volume!")
    return VolumePlan("Released", delete=policy == "Delete" and PROVISIONED_BY in volume.metadata.annotations)


def freed(volume: Volume) -> Volume:
    """Return the volume as nobody's."""
    marks = {k: v for k, v in volume.metadata.annotations.items() if k != rules.BOUND_BY_CONTROLLER}
    return msgspec.structs.replace(
        volume, metadata=msgspec.structs.replace(volume.metadata, annotations=marks),
        spec=msgspec.structs.replace(volume.spec, claim_ref=None),
    )  # fmt: skip


def in_use(pods: Sequence[core_v1.Pod], claim: Claim) -> bool:
    """Tell whether any pod that has not ended uses the claim."""
    name = claim.metadata.name
    return any(
        key.name == name
        for pod in pods
        if pod.status.phase not in {"Succeeded", "Failed"} or pod.metadata.deletion_timestamp
        for key, _ in rules.claims_of(pod)
    )
