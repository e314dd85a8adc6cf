"""What a Deployment needs next: ReplicaSets to make, to size and to forget, and its status."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from edgekube.api.types import apps_v1, meta_v1
from edgekube.controllers.deployment import facts, rollout, status
from edgekube.controllers.deployment.status import Conditions
from edgekube.controllers.hashing import HASH_LABEL, same_template, template_hash, with_label
from edgekube.controllers.ownership import owned_by

HISTORY = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """Writes in the order they should happen; `again` is in how many seconds the rollout may time out."""

    create: apps_v1.ReplicaSet | None
    updates: tuple[tuple[apps_v1.ReplicaSet, apps_v1.ReplicaSet], ...]
    """Each as it is and as it should be."""
    delete: tuple[apps_v1.ReplicaSet, ...]
    revision: str
    """The revision annotation the Deployment should have; "" leaves it."""
    status: apps_v1.DeploymentStatus
    again: float | None


@dataclass(frozen=True, slots=True)
class _Step:
    """Sizes by name, and whether a new ReplicaSet of that size (None: none) is to be made."""

    sizes: Mapping[str, int]
    create: int | None = None


def plan(
    deployment: apps_v1.Deployment, sets: Sequence[apps_v1.ReplicaSet], running: Mapping[str, int], now: float
) -> Plan:
    """Decide for the ReplicaSets it controls; `running` counts pods that have not ended, by ReplicaSet uid."""
    new = find_new(deployment, sets)
    olds = [rs for rs in facts.oldest_first(sets) if rs is not new]
    conditions = Conditions(deployment.status.conditions, now)
    if deployment.metadata.deletion_timestamp:
        counts = status.counted(deployment, new, sets, conditions)
        return Plan(None, (), (), "", counts, None)
    status.check_paused(deployment, conditions)
    paused = bool(deployment.spec.paused)
    resizing = paused or rollout.is_scaling(deployment, sets)
    step = _Step(rollout.scaled(deployment, new, olds)) if resizing else _step(deployment, new, olds, running)
    number = max([facts.revision(rs) for rs in olds], default=0) + 1
    created = None if step.create is None else new_set(deployment, step.create, number)
    if new is not None:
        number = max(number, facts.revision(new))
    drafts = {rs.metadata.name: _draft(deployment, rs, step.sizes, number if rs is new else 0) for rs in sets}
    updates = tuple((rs, drafts[rs.metadata.name]) for rs in sets if drafts[rs.metadata.name] != rs)
    planned = [*drafts.values(), *([created] if created else [])]
    _note_new(deployment, new, created, conditions)
    wish = _status(
        deployment,
        drafts[new.metadata.name] if new else created,
        planned,
        conditions,
        now,
        rolling=not resizing,
    )
    done = paused or (not resizing and not updates and status.complete(deployment, wish))
    left = status.seconds_left(deployment, conditions.get(status.PROGRESSING), now)
    return Plan(
        create=created,
        updates=updates,
        delete=_history(deployment, olds) if done else (),
        revision=str(number) if new or created else "",
        status=wish,
        again=None if left is None or paused or status.complete(deployment, wish) else max(left, 0) + 1,
    )


def find_new(deployment: apps_v1.Deployment, sets: Sequence[apps_v1.ReplicaSet]) -> apps_v1.ReplicaSet | None:
    """Return the oldest ReplicaSet of the current template."""
    for rs in facts.oldest_first(sets):
        if same_template(rs.spec.template, deployment.spec.template):
            return rs
    return None


def new_set(deployment: apps_v1.Deployment, size: int, revision: int) -> apps_v1.ReplicaSet:
    """Return the ReplicaSet of the current template."""
    value = template_hash(deployment.spec.template, deployment.status.collision_count or 0)
    template = with_label(deployment.spec.template, value)
    selector = deployment.spec.selector
    assert template.metadata is not None
    return apps_v1.ReplicaSet(
        metadata=meta_v1.ObjectMeta(
            name=f"{deployment.metadata.name}-{value}",
            namespace=deployment.metadata.namespace,
            labels=template.metadata.labels,
            annotations={**facts.inherited(deployment), **_sizing(deployment), facts.REVISION: str(revision)},
            owner_references=(owned_by(deployment),),
        ),
        spec=apps_v1.ReplicaSetSpec(
            replicas=size,
            min_ready_seconds=deployment.spec.min_ready_seconds,
            selector=msgspec.structs.replace(
                selector, match_labels={**selector.match_labels, HASH_LABEL: value}
            ),
            template=template,
        ),
    )


def _step(
    deployment: apps_v1.Deployment, new: apps_v1.ReplicaSet | None, olds: Sequence[apps_v1.ReplicaSet],
    running: Mapping[str, int],
) -> _Step:  # fmt: skip
    if rollout.recreates(deployment):
        if sizes := rollout.emptied(olds):
            return _Step(sizes)
        if any(facts.actual(rs) or running.get(rs.metadata.uid) for rs in olds):
            return _Step({})
    size = facts.size(new) if new else 0
    total = size + sum(map(facts.size, olds))
    goal = rollout.grown(deployment, size, total)
    if new is None:
        return _Step({}, create=goal)
    if goal != size:
        return _Step({new.metadata.name: goal})
    return _Step(rollout.shrunk(deployment, new, olds))


def _draft(
    deployment: apps_v1.Deployment, rs: apps_v1.ReplicaSet, sizes: Mapping[str, int], revision: int
) -> apps_v1.ReplicaSet:
    """Return `rs` as it should be; `revision` is 0 for old ones, which keep theirs."""
    annotations, spec = dict(rs.metadata.annotations), rs.spec
    if rs.metadata.name in sizes:
        annotations |= _sizing(deployment)
        spec = msgspec.structs.replace(spec, replicas=sizes[rs.metadata.name])
    if revision:
        annotations |= {**facts.inherited(deployment), facts.REVISION: str(revision)}
        spec = msgspec.structs.replace(spec, min_ready_seconds=deployment.spec.min_ready_seconds)
    meta = msgspec.structs.replace(rs.metadata, annotations=annotations)
    return msgspec.structs.replace(rs, metadata=meta, spec=spec)


def _sizing(deployment: apps_v1.Deployment) -> dict[str, str]:
    goal = facts.replicas(deployment)
    return {facts.DESIRED: str(goal), facts.MAXIMUM: str(goal + facts.surge(deployment))}


def _note_new(
    deployment: apps_v1.Deployment, new: apps_v1.ReplicaSet | None, created: apps_v1.ReplicaSet | None,
    conditions: Conditions,
) -> None:  # fmt: skip
    if not status.has_deadline(deployment):
        return
    if created is not None:
        message = f'Created new replica set "{created.metadata.name}"'
        conditions.set(status.PROGRESSING, "True", "NewReplicaSetCreated", message)
    elif new is not None and conditions.get(status.PROGRESSING) is None:
        message = f'Found new replica set "{new.metadata.name}"'
        conditions.set(status.PROGRESSING, "True", "FoundNewReplicaSet", message)


def _status(
    deployment: apps_v1.Deployment, new: apps_v1.ReplicaSet | None, sets: Sequence[apps_v1.ReplicaSet],
    conditions: Conditions, now: float, *, rolling: bool,
) -> apps_v1.DeploymentStatus:  # fmt: skip
    counts = status.counted(deployment, new, sets, conditions)
    if not rolling:
        return counts
    status.copy_failure(new, sets, conditions)
    return status.rolled(deployment, new, counts, conditions, now)


def _history(
    deployment: apps_v1.Deployment, olds: Sequence[apps_v1.ReplicaSet]
) -> tuple[apps_v1.ReplicaSet, ...]:
    """Return empty old ReplicaSets over revisionHistoryLimit, the lowest revisions."""
    limit = deployment.spec.revision_history_limit
    alive = [rs for rs in olds if not rs.metadata.deletion_timestamp]
    surplus = max(len(alive) - (HISTORY if limit is None else limit), 0)
    ranked = sorted(alive, key=facts.revision)[:surplus]
    return tuple(rs for rs in ranked if _idle(rs))


def _idle(rs: apps_v1.ReplicaSet) -> bool:
    seen = (rs.status.observed_generation or 0) if rs.status else 0
    return facts.size(rs) == 0 and facts.actual(rs) == 0 and (rs.metadata.generation or 0) <= seen
