"""
The arithmetic of a rollout: how many replicas each ReplicaSet should have next.

Names: `new` is the ReplicaSet of the current template, `olds` are the others. Every function
returns sizes by name, only for those that change (pkg/controller/deployment in Kubernetes).
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from edgekube.api.types import apps_v1
from edgekube.controllers.deployment.facts import (
    active,
    available,
    desired_of,
    max_of,
    newest_first,
    oldest_first,
    replicas,
    size,
    surge,
    unavailable,
)  # fmt: skip

Sizes = Mapping[str, int]
RECREATE = "Recreate"


def recreates(deployment: apps_v1.Deployment) -> bool:
    """Whether all old pods go before the first new one comes."""
    strategy = deployment.spec.strategy
    return strategy is not None and strategy.type == RECREATE


def grown(deployment: apps_v1.Deployment, size_now: int, total: int) -> int:
    """Return the next size of the new ReplicaSet; `total` counts the replicas of all."""
    goal = replicas(deployment)
    if size_now >= goal or recreates(deployment):
        return goal
    room = goal + surge(deployment) - total
    return size_now + max(0, min(room, goal - size_now))


def shrunk(
    deployment: apps_v1.Deployment, new: apps_v1.ReplicaSet, olds: Iterable[apps_v1.ReplicaSet]
) -> Sizes:
    """Return smaller sizes of the old ones: first pods that do not work, then as availability allows."""
    targets = oldest_first(active(olds))
    floor = replicas(deployment) - unavailable(deployment)
    total = size(new) + sum(map(size, targets))
    spare = total - floor - (size(new) - available(new))
    if not targets or spare <= 0:
        return {}
    sizes = {rs.metadata.name: size(rs) for rs in targets}
    for rs in targets:
        broken = min(spare, max(0, sizes[rs.metadata.name] - available(rs)))
        sizes[rs.metadata.name] -= broken
        spare -= broken
    healthy = available(new) + sum(map(available, targets)) - floor
    for rs in targets:
        fewer = max(0, min(healthy, sizes[rs.metadata.name]))
        sizes[rs.metadata.name] -= fewer
        healthy -= fewer
    return {
        rs.metadata.name: sizes[rs.metadata.name] for rs in targets if sizes[rs.metadata.name] != size(rs)
    }


def emptied(olds: Iterable[apps_v1.ReplicaSet]) -> Sizes:
    """Return size 0 for every old one that has replicas."""
    return {rs.metadata.name: 0 for rs in active(olds)}


def is_scaling(deployment: apps_v1.Deployment, sets: Iterable[apps_v1.ReplicaSet]) -> bool:
    """Whether spec.replicas changed since the ReplicaSets were last sized."""
    return any(desired_of(rs, replicas(deployment)) != replicas(deployment) for rs in active(sets))


def scaled(
    deployment: apps_v1.Deployment, new: apps_v1.ReplicaSet | None, olds: Sequence[apps_v1.ReplicaSet]
) -> Sizes:
    """Return sizes after spec.replicas changed, sharing the change in proportion in mid-rollout."""
    goal = replicas(deployment)
    alone = _active_or_latest(new, olds)
    if alone is not None:
        return {alone.metadata.name: goal}
    if new is not None and size(new) == goal == desired_of(new, -1) and available(new) == goal:
        return emptied(olds)
    if recreates(deployment):
        return {}
    sets = active([*olds, *([new] if new else [])])
    allowed = goal + surge(deployment) if goal > 0 else 0
    add = allowed - sum(map(size, sets))
    if add == 0:
        return {rs.metadata.name: size(rs) for rs in sets}
    ordered = newest_first(sets) if add > 0 else oldest_first(sets)
    return _shared(deployment, sorted(ordered, key=size, reverse=True), add)


def _shared(deployment: apps_v1.Deployment, sets: Sequence[apps_v1.ReplicaSet], add: int) -> Sizes:
    sizes: dict[str, int] = {}
    added = 0
    for rs in sets:
        left = add - added
        share = _fraction(deployment, rs)
        share = min(share, left) if add > 0 else max(share, left)
        sizes[rs.metadata.name] = size(rs) + share
        added += share
    largest = sets[0].metadata.name
    sizes[largest] = max(0, sizes[largest] + add - added)
    return sizes


def _fraction(deployment: apps_v1.Deployment, rs: apps_v1.ReplicaSet) -> int:
    goal = replicas(deployment)
    if goal == 0:
        return -size(rs)
    before = max_of(rs, deployment.status.replicas or 0)
    if before <= 0:
        return 0
    ideal = size(rs) * (goal + surge(deployment)) / before
    return math.floor(ideal + 0.5) - size(rs)


def _active_or_latest(
    new: apps_v1.ReplicaSet | None, olds: Sequence[apps_v1.ReplicaSet]
) -> apps_v1.ReplicaSet | None:
    """Return the only one with replicas; of none with replicas the newest; None when several have."""
    running = active([*olds, *([new] if new else [])])
    if len(running) > 1:
        return None
    if running:
        return running[0]
    return new or next(iter(newest_first(olds)), None)
