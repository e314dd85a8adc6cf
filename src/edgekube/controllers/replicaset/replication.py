"""A ReplicationController seen as a ReplicaSet (pkg/controller/replication/conversion.go does the same)."""

import msgspec

from edgekube.api.types import apps_v1, core_v1, meta_v1


def view(owner: core_v1.ReplicationController) -> apps_v1.ReplicaSet:
    """Show it as the ReplicaSet that asks for the same."""
    spec = owner.spec
    status = None
    if owner.status is not None:
        status = msgspec.convert(owner.status, apps_v1.ReplicaSetStatus, from_attributes=True)
    return apps_v1.ReplicaSet(
        api_version=owner.api_version,
        kind=owner.kind,
        metadata=owner.metadata,
        spec=apps_v1.ReplicaSetSpec(
            selector=meta_v1.LabelSelector(match_labels=spec.selector), replicas=spec.replicas,
            min_ready_seconds=spec.min_ready_seconds, template=spec.template,
        ),
        status=status,
    )  # fmt: skip


def with_status(
    owner: core_v1.ReplicationController, status: apps_v1.ReplicaSetStatus
) -> core_v1.ReplicationController:
    """Return it with the status of its view."""
    same = {name: getattr(status, name) for name in core_v1.ReplicationControllerStatus.__struct_fields__}
    same["conditions"] = tuple(
        msgspec.convert(c, core_v1.ReplicationControllerCondition, from_attributes=True)
        for c in status.conditions
    )
    return msgspec.structs.replace(owner, status=core_v1.ReplicationControllerStatus(**same))
