"""A Deployment's status: counts and the conditions that `kubectl rollout status` reads."""

from collections.abc import Callable, Sequence

import msgspec

from edgekube.api.types import apps_v1
from edgekube.control.clock import seconds, stamp
from edgekube.controllers.deployment.facts import actual, available, ready, replicas, size, unavailable

Condition = apps_v1.DeploymentCondition
PROGRESSING, AVAILABLE, FAILURE = "Progressing", "Available", "ReplicaFailure"
COMPLETE = "NewReplicaSetAvailable"
TIMED_OUT = "ProgressDeadlineExceeded"
NO_DEADLINE = 2**31 - 1


class Conditions:
    """A draft of status.conditions."""

    def __init__(self, conditions: Sequence[Condition], now: float) -> None:
        self._conditions = {condition.type: condition for condition in conditions}
        self._now = now

    def get(self, kind: str) -> Condition | None:
        """Return the condition of that type."""
        return self._conditions.get(kind)

    def drop(self, kind: str) -> None:
        """Remove the condition of that type."""
        self._conditions.pop(kind, None)

    def set(self, kind: str, status: str, reason: str, message: str, *, touch: bool = False) -> None:
        """Set a condition; the same status and reason again change nothing, unless `touch`."""
        old = self._conditions.get(kind)
        if old and not touch and (old.status, old.reason) == (status, reason):
            return
        time = stamp(self._now)
        since = old.last_transition_time if old and old.status == status else time
        self._conditions[kind] = Condition(
            type=kind,
            status=status,
            reason=reason,
            message=message,
            last_update_time=time,
            last_transition_time=since,
        )

    def all(self) -> tuple[Condition, ...]:
        """Return the conditions."""
        return tuple(self._conditions.values())


def counted(
    deployment: apps_v1.Deployment, new: apps_v1.ReplicaSet | None, sets: Sequence[apps_v1.ReplicaSet],
    conditions: Conditions,
) -> apps_v1.DeploymentStatus:  # fmt: skip
    """Return the status with fresh counts; `conditions` gets Available and is copied."""
    up = sum(map(available, sets))
    if up >= replicas(deployment) - unavailable(deployment):
        conditions.set(AVAILABLE, "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        message = "Deployment does not have minimum availability."
        conditions.set(AVAILABLE, "False", "MinimumReplicasUnavailable", message)
    return apps_v1.DeploymentStatus(
        observed_generation=deployment.metadata.generation,
        replicas=sum(map(actual, sets)) or None,
        updated_replicas=(actual(new) if new else 0) or None,
        ready_replicas=sum(map(ready, sets)) or None,
        available_replicas=up or None,
        unavailable_replicas=max(0, sum(map(size, sets)) - up) or None,
        collision_count=deployment.status.collision_count,
        conditions=conditions.all(),
    )


def complete(deployment: apps_v1.Deployment, status: apps_v1.DeploymentStatus) -> bool:
    """Whether every replica is new and available, and no old one is left."""
    goal = replicas(deployment)
    return (
        (status.updated_replicas or 0) == (status.replicas or 0) == (status.available_replicas or 0) == goal
    )


def rolled(
    deployment: apps_v1.Deployment, new: apps_v1.ReplicaSet | None, status: apps_v1.DeploymentStatus,
    conditions: Conditions, now: float,
) -> apps_v1.DeploymentStatus:  # fmt: skip
    """Return `status` with the Progressing condition brought up to date."""
    current = conditions.get(PROGRESSING)
    if not has_deadline(deployment):
        conditions.drop(PROGRESSING)
    elif not (
        (status.replicas or 0) == (status.updated_replicas or 0) and current and current.reason == COMPLETE
    ):
        _progress(deployment, new, status, conditions, now)
    return msgspec.structs.replace(status, conditions=conditions.all())


def _progress(
    deployment: apps_v1.Deployment, new: apps_v1.ReplicaSet | None, status: apps_v1.DeploymentStatus,
    conditions: Conditions, now: float,
) -> None:  # fmt: skip
    subject = f'ReplicaSet "{new.metadata.name}"' if new else f'Deployment "{deployment.metadata.name}"'
    if complete(deployment, status):
        conditions.set(PROGRESSING, "True", COMPLETE, f"{subject} has successfully progressed.")
    elif _moved(deployment.status, status):
        conditions.set(PROGRESSING, "True", "ReplicaSetUpdated", f"{subject} is progressing.", touch=True)
    elif timed_out(deployment, conditions, now):
        conditions.set(PROGRESSING, "False", TIMED_OUT, f"{subject} has timed out progressing.")


def _moved(old: apps_v1.DeploymentStatus, new: apps_v1.DeploymentStatus) -> bool:
    def left(status: apps_v1.DeploymentStatus) -> int:
        return (status.replicas or 0) - (status.updated_replicas or 0)

    def grew(count: Callable[[apps_v1.DeploymentStatus], int | None]) -> bool:
        return (count(new) or 0) > (count(old) or 0)

    return (
        left(new) < left(old)
        or grew(lambda status: status.updated_replicas)
        or grew(lambda status: status.ready_replicas)
        or grew(lambda status: status.available_replicas)
    )


def has_deadline(deployment: apps_v1.Deployment) -> bool:
    """Whether the rollout may time out."""
    deadline = deployment.spec.progress_deadline_seconds
    return deadline is not None and deadline != NO_DEADLINE


def timed_out(deployment: apps_v1.Deployment, conditions: Conditions, now: float) -> bool:
    """Whether nothing has moved for longer than progressDeadlineSeconds."""
    current = conditions.get(PROGRESSING)
    if current is None or current.reason == COMPLETE:
        return False
    left = seconds_left(deployment, current, now)
    return current.reason == TIMED_OUT or (left is not None and left < 0)


def seconds_left(deployment: apps_v1.Deployment, current: Condition | None, now: float) -> float | None:
    """Return the seconds until the rollout times out; None when it cannot."""
    if current is None or not has_deadline(deployment) or current.reason in {COMPLETE, TIMED_OUT}:
        return None
    return seconds(current.last_update_time) + (deployment.spec.progress_deadline_seconds or 0) - now


def check_paused(deployment: apps_v1.Deployment, conditions: Conditions) -> None:
    """Say that a rollout is paused or goes on, so that the pause does not count as no progress."""
    current = conditions.get(PROGRESSING)
    if not has_deadline(deployment) or (current and current.reason == TIMED_OUT):
        return
    was = current is not None and current.reason == "DeploymentPaused"
    if deployment.spec.paused and not was:
        conditions.set(PROGRESSING, "Unknown", "DeploymentPaused", "Deployment is paused")
    elif was and not deployment.spec.paused:
        conditions.set(PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed")


def copy_failure(
    new: apps_v1.ReplicaSet | None, sets: Sequence[apps_v1.ReplicaSet], conditions: Conditions
) -> None:
    """Show a ReplicaSet's ReplicaFailure, the new one's first."""
    for rs in [*([new] if new else []), *sets]:
        for condition in rs.status.conditions if rs.status else ():
            if condition.type == FAILURE:
                conditions.set(FAILURE, condition.status, condition.reason, condition.message)
                return
    conditions.drop(FAILURE)
