"""What Deployments and ReplicaSets say, with defaults filled in; the annotations they speak through."""

from collections.abc import Iterable, Mapping

from edgekube.api.intstr import scaled
from edgekube.api.types import apps_v1

REVISION = "deployment.kubernetes.io/revision"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
NOT_COPIED = frozenset({
    REVISION, DESIRED, MAXIMUM, "deployment.kubernetes.io/revision-history",
    "kubectl.kubernetes.io/last-applied-configuration", "deprecated.deployment.rollback.to",
})  # fmt: skip
"""Annotations of a Deployment that its ReplicaSets do not get."""


def replicas(deployment: apps_v1.Deployment) -> int:
    """Return spec.replicas, 1 when not given."""
    return 1 if deployment.spec.replicas is None else deployment.spec.replicas


def size(rs: apps_v1.ReplicaSet) -> int:
    """Return spec.replicas, 1 when not given."""
    return 1 if rs.spec.replicas is None else rs.spec.replicas


def available(rs: apps_v1.ReplicaSet) -> int:
    """Return how many pods are available."""
    return (rs.status.available_replicas or 0) if rs.status else 0


def ready(rs: apps_v1.ReplicaSet) -> int:
    """Return how many pods are ready."""
    return (rs.status.ready_replicas or 0) if rs.status else 0


def actual(rs: apps_v1.ReplicaSet) -> int:
    """Return how many pods there are."""
    return rs.status.replicas if rs.status else 0


def _or_quarter(wish: int | str | None) -> int | str:
    return "25%" if wish is None else wish


def _fenceposts(deployment: apps_v1.Deployment) -> tuple[int, int]:
    strategy = deployment.spec.strategy
    if strategy is not None and strategy.type == "Recreate":
        return 0, 0
    rolling = (strategy and strategy.rolling_update) or apps_v1.RollingUpdateDeployment()
    total = replicas(deployment)
    extra = scaled(_or_quarter(rolling.max_surge), total, round_up=True)
    fewer = scaled(_or_quarter(rolling.max_unavailable), total, round_up=False)
    # Neither up nor down would be no way to move.
    return (extra, fewer) if extra or fewer else (0, 1)


def surge(deployment: apps_v1.Deployment) -> int:
    """Return how many pods there may be above spec.replicas."""
    return _fenceposts(deployment)[0]


def unavailable(deployment: apps_v1.Deployment) -> int:
    """Return how many pods may be unavailable while rolling."""
    return min(_fenceposts(deployment)[1], replicas(deployment))


def active(sets: Iterable[apps_v1.ReplicaSet]) -> list[apps_v1.ReplicaSet]:
    """Return those with replicas."""
    return [rs for rs in sets if size(rs) > 0]


def _age(rs: apps_v1.ReplicaSet) -> tuple[str, str]:
    return rs.metadata.creation_timestamp, rs.metadata.name


def oldest_first(sets: Iterable[apps_v1.ReplicaSet]) -> list[apps_v1.ReplicaSet]:
    """Sort by creation."""
    return sorted(sets, key=_age)


def newest_first(sets: Iterable[apps_v1.ReplicaSet]) -> list[apps_v1.ReplicaSet]:
    """Sort by creation, the newest first."""
    return sorted(sets, key=_age, reverse=True)


def _number(annotations: Mapping[str, str], name: str, default: int) -> int:
    try:
        return int(annotations[name])
    except (KeyError, ValueError):
        return default


def revision(rs: apps_v1.ReplicaSet) -> int:
    """Return the revision, 0 when it has none."""
    return _number(rs.metadata.annotations, REVISION, 0)


def desired_of(rs: apps_v1.ReplicaSet, default: int) -> int:
    """Return the Deployment's spec.replicas when the ReplicaSet was last sized."""
    return _number(rs.metadata.annotations, DESIRED, default)


def max_of(rs: apps_v1.ReplicaSet, default: int) -> int:
    """Return the replicas of all ReplicaSets allowed when this one was last sized."""
    return _number(rs.metadata.annotations, MAXIMUM, default)


def inherited(deployment: apps_v1.Deployment) -> dict[str, str]:
    """Return the annotations that ReplicaSets copy, e.g. kubernetes.io/change-cause."""
    return {name: text for name, text in deployment.metadata.annotations.items() if name not in NOT_COPIED}
