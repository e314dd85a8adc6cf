"""Filters for volumes: where a pod's claims are or can be bound, and what binding them takes."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.control import volumes as rules
from edgekube.scheduler.filters import GOOD, Check, Refusal
from edgekube.scheduler.infos import NodeInfo, PodInfo, Snapshot, Storage

UNBOUND = "pod has unbound immediate PersistentVolumeClaims"
NODE_CONFLICT = ("node(s) didn't match PersistentVolume's node affinity",)
NOTHING = ("node(s) didn't find available persistent volumes to bind",)
MISSING = ("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",)
EXCLUSIVE = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
ZONE = ("node(s) had no available volume zone",)
ZONES = (
    "topology.kubernetes.io/zone", "topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
)  # fmt: skip
Claims = tuple[rules.Claim, ...]


@dataclass(frozen=True, slots=True)
class Bindings:
    """What to write before a pod can go to its node: volumes for claims, and claims to provision for it."""

    volumes: tuple[tuple[rules.Volume, rules.Claim], ...] = ()
    provision: Claims = ()

    def __bool__(self) -> bool:
        return bool(self.volumes or self.provision)


def binding(pod: PodInfo, snapshot: Snapshot) -> Check | Refusal | None:
    """Only nodes where every claim is usable, or can be bound (VolumeBinding)."""
    found = _claims(pod, snapshot.storage)
    if isinstance(found, Refusal):
        return found
    if not found:
        return None
    storage = snapshot.storage
    if any(not rules.bound(claim) and not rules.waits(claim, storage.classes) for claim in found):
        return Refusal(UNBOUND)
    ready = [claim for claim in found if rules.bound(claim)]
    waiting = tuple(claim for claim in found if not rules.bound(claim))

    def check(node: NodeInfo) -> Sequence[str]:
        for claim in ready:
            volume = storage.volumes.get(claim.spec.volume_name)
            if volume is None:
                return MISSING
            if not rules.allows(volume, node.name, node.labels):
                return NODE_CONFLICT
        return GOOD if not waiting or bindings(waiting, node, storage) is not None else NOTHING

    return check


def bindings(waiting: Claims, node: NodeInfo, storage: Storage) -> Bindings | None:
    """Return how the claims can be bound for `node`, None when they cannot."""
    matched: list[tuple[rules.Volume, rules.Claim]] = []
    provision: list[rules.Claim] = []
    # The largest choose last, so that none takes a volume that is larger than it needs.
    for claim in sorted(waiting, key=rules.wanted_size):
        chosen = claim.metadata.annotations.get(rules.SELECTED_NODE)
        if chosen and chosen != node.name:
            return None
        taken = [volume.metadata.name for volume, _ in matched]
        volume = None
        if not chosen:
            volume = rules.best(claim, storage.volumes.values(), node=(node.name, node.labels), taken=taken)
        if volume is not None:
            matched.append((volume, claim))
        elif rules.provisionable(storage.classes.get(rules.class_of(claim)), node.labels):
            provision.append(claim)
        else:
            return None
    return Bindings(tuple(matched), tuple(provision))


def needed(pod: PodInfo, node: NodeInfo, storage: Storage) -> Bindings | None:
    """Return what has to be bound before `pod` runs on `node`; None when it can no more."""
    found = _claims(pod, storage)
    if isinstance(found, Refusal):
        return None
    return bindings(tuple(claim for claim in found if not rules.bound(claim)), node, storage)


def all_bound(pod: PodInfo, storage: Storage) -> bool:
    """Tell whether every claim of the pod has its volume."""
    found = _claims(pod, storage)
    return not isinstance(found, Refusal) and all(map(rules.bound, found))


def restrictions(pod: PodInfo, snapshot: Snapshot) -> Check | None:
    """Keep a claim for one pod (ReadWriteOncePod) from being used by two (VolumeRestrictions)."""
    storage = snapshot.storage
    keys = {
        key
        for key, _ in rules.claims_of(pod.pod)
        if (claim := storage.claims.get(key)) is not None and "ReadWriteOncePod" in claim.spec.access_modes
    }
    if not keys:
        return None
    return lambda node: (EXCLUSIVE,) if _uses(node, keys) else GOOD


def zone(pod: PodInfo, snapshot: Snapshot) -> Check | None:
    """Only nodes in the zone that a bound volume's labels name (VolumeZone)."""
    found = _claims(pod, snapshot.storage)
    if isinstance(found, Refusal):
        return None
    wishes: list[tuple[str, frozenset[str]]] = []
    for claim in found:
        volume = snapshot.storage.volumes.get(claim.spec.volume_name)
        labels: Mapping[str, str] = volume.metadata.labels if volume is not None else {}
        wishes += [(key, frozenset(labels[key].split("__"))) for key in ZONES if key in labels]
    if not wishes:
        return None

    def check(node: NodeInfo) -> Sequence[str]:
        # A board without any zone label belongs to no zone, and so is never in the wrong one.
        if not any(key in node.labels for key in ZONES):
            return GOOD
        return GOOD if all(node.labels.get(key) in values for key, values in wishes) else ZONE

    return check


def _claims(pod: PodInfo, storage: Storage) -> Claims | Refusal:
    found: list[rules.Claim] = []
    for key, ephemeral in rules.claims_of(pod.pod):
        claim = storage.claims.get(key)
        if claim is None:
            if ephemeral:
                why = f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{key.name}"'
                return Refusal(why)
            return Refusal(f'persistentvolumeclaim "{key.name}" not found')
        if claim.metadata.deletion_timestamp:
            return Refusal(f'persistentvolumeclaim "{key.name}" is being deleted')
        if claim.status is not None and claim.status.phase == "Lost":
            return Refusal(f'persistentvolumeclaim "{key.name}" bound to non-existent persistentvolume "{claim.spec.volume_name}"')  # fmt: skip
        if ephemeral and not _owned(claim, pod.pod):
            return Refusal(f"PVC {key} was not created for pod {pod.key} (pod is not owner)")
        found.append(claim)
    return tuple(found)


def _owned(claim: rules.Claim, pod: core_v1.Pod) -> bool:
    return any(ref.controller and ref.uid == pod.metadata.uid for ref in claim.metadata.owner_references)


def _uses(node: NodeInfo, keys: AbstractSet[Key]) -> bool:
    return any(key in keys for other in node.pods.values() for key, _ in rules.claims_of(other.pod))
