"""The pods and claims of a StatefulSet: names, labels and volumes by ordinal."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from edgekube.api.types import apps_v1, core_v1, meta_v1
from edgekube.controllers.ownership import owned_by
from edgekube.controllers.revisions import LABEL

POD_NAME = "statefulset.kubernetes.io/pod-name"
POD_INDEX = "apps.kubernetes.io/pod-index"
RETAIN = "Retain"


def wanted(owner: apps_v1.StatefulSet) -> int:
    """Return spec.replicas, 1 when not given."""
    return 1 if owner.spec.replicas is None else owner.spec.replicas


def start(owner: apps_v1.StatefulSet) -> int:
    """Return the first ordinal."""
    return (owner.spec.ordinals.start or 0) if owner.spec.ordinals else 0


def pod_name(owner: apps_v1.StatefulSet, ordinal: int) -> str:
    """Return the name of the pod of that ordinal."""
    return f"{owner.metadata.name}-{ordinal}"


def ordinal_of(owner: apps_v1.StatefulSet, pod: core_v1.Pod) -> int:
    """Return the ordinal in the pod's name, -1 when the name is not the set's."""
    parent, _, number = pod.metadata.name.rpartition("-")
    if parent != owner.metadata.name or not number.isdecimal() or str(int(number)) != number:
        return -1
    return int(number)


def new_pod(
    owner: apps_v1.StatefulSet, ordinal: int, revision: str, template: core_v1.PodTemplateSpec
) -> core_v1.Pod:
    """Return the pod of that ordinal made after `template`, which is that of `revision`."""
    meta, spec = template.metadata or meta_v1.ObjectMeta(), template.spec
    name = pod_name(owner, ordinal)
    claims = {template.metadata.name for template in owner.spec.volume_claim_templates}
    volumes = (
        *(volume for volume in spec.volumes if volume.name not in claims),
        *(_volume(owner, template, ordinal) for template in owner.spec.volume_claim_templates),
    )
    identity = {POD_NAME: name, POD_INDEX: str(ordinal), LABEL: revision}
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(
            name=name, namespace=owner.metadata.namespace, labels={**meta.labels, **identity},
            annotations=meta.annotations, finalizers=meta.finalizers, owner_references=(owned_by(owner),),
        ),
        spec=msgspec.structs.replace(spec, hostname=name, subdomain=owner.spec.service_name, volumes=volumes),
    )  # fmt: skip


def _volume(
    owner: apps_v1.StatefulSet, template: core_v1.PersistentVolumeClaim, ordinal: int
) -> core_v1.Volume:
    source = core_v1.PersistentVolumeClaimVolumeSource(claim_name=claim_name(owner, template, ordinal))
    return core_v1.Volume(name=template.metadata.name, persistent_volume_claim=source)


def claim_name(owner: apps_v1.StatefulSet, template: core_v1.PersistentVolumeClaim, ordinal: int) -> str:
    """Return `<template>-<set>-<ordinal>`."""
    return f"{template.metadata.name}-{owner.metadata.name}-{ordinal}"


def claims_of(owner: apps_v1.StatefulSet, ordinal: int) -> Sequence[core_v1.PersistentVolumeClaim]:
    """Return the claims the pod of that ordinal uses, as they are made."""
    made = []
    for template in owner.spec.volume_claim_templates:
        meta = meta_v1.ObjectMeta(
            name=claim_name(owner, template, ordinal),
            namespace=owner.metadata.namespace,
            labels={**template.metadata.labels, **owner.spec.selector.match_labels},
            annotations=template.metadata.annotations,
        )
        made.append(core_v1.PersistentVolumeClaim(metadata=meta, spec=template.spec))
    return made


def claim_owners(
    owner: apps_v1.StatefulSet,
    claim: core_v1.PersistentVolumeClaim,
    pod: core_v1.Pod | None,
    *,
    condemned: bool,
) -> tuple[meta_v1.OwnerReference, ...]:
    """Return the owners a claim should have under the retention policy (KEP-1847)."""
    policy = owner.spec.persistent_volume_claim_retention_policy
    deleted = (policy.when_deleted if policy else "") or RETAIN
    scaled = (policy.when_scaled if policy else "") or RETAIN
    others = tuple(
        reference
        for reference in claim.metadata.owner_references
        if not (
            reference.uid == owner.metadata.uid
            or (reference.kind == "Pod" and reference.api_version == "v1" and _ours(owner, reference.name))
        )
    )
    if condemned and scaled != RETAIN:
        # The claim goes with its pod.
        return (*others, _plain(pod)) if pod is not None else claim.metadata.owner_references
    return others if deleted == RETAIN else (*others, owned_by(owner))


def _ours(owner: apps_v1.StatefulSet, name: str) -> bool:
    parent, _, number = name.rpartition("-")
    return parent == owner.metadata.name and number.isdecimal()


def _plain(pod: core_v1.Pod) -> meta_v1.OwnerReference:
    return meta_v1.OwnerReference(api_version="v1", kind="Pod", name=pod.metadata.name, uid=pod.metadata.uid)


def by_ordinal(owner: apps_v1.StatefulSet, pods: Iterable[core_v1.Pod]) -> Mapping[int, core_v1.Pod]:
    """Return the pods with an ordinal, lowest first."""
    found = {ordinal_of(owner, pod): pod for pod in pods}
    return {ordinal: found[ordinal] for ordinal in sorted(found) if ordinal >= 0}
