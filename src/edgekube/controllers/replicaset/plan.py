"""What a ReplicaSet needs: pods to make or to delete, and its status (pkg/controller/replicaset in Kubernetes)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from edgekube.api.types import apps_v1, core_v1, meta_v1
from edgekube.control.clock import seconds, stamp
from edgekube.control.selectors import subset
from edgekube.controllers.ownership import owned_by
from edgekube.controllers.pods import active, available_at, ready_since, restarts

BURST = 500
"""Pods made or deleted in one pass at most."""
COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


@dataclass(frozen=True, slots=True)
class Plan:
    """`again` is in how many seconds a ready pod becomes available."""

    create: int
    delete: tuple[core_v1.Pod, ...]
    status: apps_v1.ReplicaSetStatus
    again: float | None


def plan(
    replica_set: apps_v1.ReplicaSet, pods: Sequence[core_v1.Pod], related: Iterable[core_v1.Pod], now: float
) -> Plan:
    """Decide for the `pods` it controls; `related` are its owner's pods, to spread what is left over nodes."""
    running = [pod for pod in pods if active(pod)]
    missing = wanted(replica_set) - len(running)
    doomed: tuple[core_v1.Pod, ...] = ()
    if replica_set.metadata.deletion_timestamp:
        missing = 0
    elif missing < 0:
        crowd = Counter(pod.spec.node_name for pod in related if active(pod))
        ranked = sorted(running, key=lambda pod: _rank(pod, crowd[pod.spec.node_name]))
        doomed = tuple(ranked[: min(-missing, BURST)])
    status, again = _status(replica_set, running, now)
    return Plan(min(max(missing, 0), BURST), doomed, status, again)


def wanted(replica_set: apps_v1.ReplicaSet) -> int:
    """Return spec.replicas, 1 when not given."""
    return 1 if replica_set.spec.replicas is None else replica_set.spec.replicas


def new_pod(replica_set: apps_v1.ReplicaSet) -> core_v1.Pod:
    """Return a pod made after the template."""
    template = replica_set.spec.template
    meta = template.metadata or meta_v1.ObjectMeta()
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(
            generate_name=f"{replica_set.metadata.name}-",
            namespace=replica_set.metadata.namespace,
            labels=meta.labels,
            annotations=meta.annotations,
            finalizers=meta.finalizers,
            owner_references=(owned_by(replica_set),),
        ),
        spec=template.spec,
    )


def failed(
    status: apps_v1.ReplicaSetStatus, *, reason: str, message: str, now: float
) -> apps_v1.ReplicaSetStatus:
    """Return `status` with the ReplicaFailure condition."""
    for condition in status.conditions:
        if (condition.type, condition.reason, condition.message) == ("ReplicaFailure", reason, message):
            return status
    failure = apps_v1.ReplicaSetCondition(
        type="ReplicaFailure", status="True", reason=reason, message=message, last_transition_time=stamp(now)
    )
    others = tuple(c for c in status.conditions if c.type != "ReplicaFailure")
    return msgspec.structs.replace(status, conditions=(*others, failure))


def succeeded(status: apps_v1.ReplicaSetStatus) -> apps_v1.ReplicaSetStatus:
    """Return `status` without the ReplicaFailure condition."""
    return msgspec.structs.replace(
        status, conditions=tuple(c for c in status.conditions if c.type != "ReplicaFailure")
    )


def _status(
    replica_set: apps_v1.ReplicaSet, running: Sequence[core_v1.Pod], now: float
) -> tuple[apps_v1.ReplicaSetStatus, float | None]:
    patience = replica_set.spec.min_ready_seconds or 0
    labels = (replica_set.spec.template.metadata or meta_v1.ObjectMeta()).labels
    times = [at for pod in running if (at := available_at(pod, patience)) is not None]
    waits = [at - now for at in times if at > now]
    old = replica_set.status or apps_v1.ReplicaSetStatus(replicas=0)
    status = apps_v1.ReplicaSetStatus(
        replicas=len(running),
        fully_labeled_replicas=sum(subset(labels, pod.metadata.labels) for pod in running) or None,
        ready_replicas=len(times) or None,
        available_replicas=len(times) - len(waits) or None,
        observed_generation=replica_set.metadata.generation,
        conditions=old.conditions,
    )
    return status, min(waits, default=None)


def _rank(pod: core_v1.Pod, crowd: int) -> tuple[float, ...]:
    """Order pods for deletion, first to go first (ActivePodsWithRanks in Kubernetes)."""
    since = ready_since(pod)
    try:
        cost = int(pod.metadata.annotations.get(COST, "0"))
    except ValueError:
        cost = 0
    return (
        bool(pod.spec.node_name),
        _PHASES.get(pod.status.phase, 0),
        since is not None,
        cost,
        -crowd,
        -(since or 0.0),
        -restarts(pod),
        -seconds(pod.metadata.creation_timestamp),
    )
