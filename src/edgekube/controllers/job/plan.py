"""What a Job needs next (pkg/controller/job in Kubernetes)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from edgekube.api.types import batch_v1, core_v1
from edgekube.control.clock import seconds, stamp
from edgekube.controllers.job.indexes import first_free, index_of, text_of
from edgekube.controllers.job.pods import failures_of, finished_at, indexed, per_index, tracked
from edgekube.controllers.job.tally import Tally, count, replaces_failed_only
from edgekube.controllers.job.verdict import Verdict, ended, verdict
from edgekube.controllers.pods import ready_since, restarts

BURST = 500
FIRST_DELAY, LONGEST_DELAY = 10.0, 600.0
"""Seconds before a failed pod is replaced."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pod to create: its index (None: the Job has none) and how many of that index failed before."""

    index: int | None
    failures: int = 0


@dataclass(slots=True)
class Plan:
    """First the status, then finalizers, then pods to delete and to create; look again in `again` seconds."""

    status: batch_v1.JobStatus
    release: list[core_v1.Pod] = field(default_factory=list)
    """Counted pods that may go."""
    withdraw: list[core_v1.Pod] = field(default_factory=list)
    """Pods to delete without counting them."""
    delete: list[core_v1.Pod] = field(default_factory=list)
    """Pods to delete that count as failed."""
    create: list[Wanted] = field(default_factory=list)
    again: float | None = None


def plan(job: batch_v1.Job, pods: Sequence[core_v1.Pod], now: float) -> Plan:
    """Decide the next step."""
    if ended(job.status):
        return Plan(job.status, release=[pod for pod in pods if tracked(pod)])
    suspended = bool(job.spec.suspend)
    started = _started(job, now, suspended=suspended)
    decided_before = verdict(job, Tally(), now, started=0.0, old_only=True)
    tally = count(job, pods, ending=decided_before is not None or bool(job.metadata.deletion_timestamp))
    found = decided_before or verdict(
        job, tally, now, started=seconds(started), restarts=_restarts(job, tally)
    )
    decided = Plan(job.status)
    decided.release = _countable(job, tally, ending=found is not None)
    if job.metadata.deletion_timestamp:
        pass
    elif found is not None:
        decided.delete = list(tally.active)
    elif suspended:
        decided.withdraw = list(tally.active)
    else:
        _manage(job, decided, tally, now)
    decided.status = _status(job, tally, found, now, started=started)
    _look_again(job, decided, now, started=seconds(started))
    return decided


def _started(job: batch_v1.Job, now: float, *, suspended: bool) -> str:
    """Return startTime: when the Job began, or was resumed."""
    resumed = any(c.type == "Suspended" and c.status == "True" for c in job.status.conditions)
    if suspended or (job.status.start_time and not resumed):
        return job.status.start_time
    return stamp(now)


def _restarts(job: batch_v1.Job, tally: Tally) -> int:
    if job.spec.template.spec.restart_policy != "OnFailure":
        return 0
    return sum(restarts(pod) for pod in tally.active)


def _countable(job: batch_v1.Job, tally: Tally, *, ending: bool) -> list[core_v1.Pod]:
    """Return the ended pods that need not be kept: the last failure of an index waits for its successor."""
    if not per_index(job) or ending:
        return list(tally.ended)
    settled = tally.completed | tally.failed_indexes | {index_of(pod) for pod in tally.active}
    return [
        pod
        for pod in tally.ended
        if pod.status.phase == "Succeeded" or index_of(pod) in settled or _outdone(pod, tally)
    ]


def _outdone(pod: core_v1.Pod, tally: Tally) -> bool:
    return any(
        index_of(other) == index_of(pod) and failures_of(other) > failures_of(pod) for other in tally.ended
    )


def _manage(job: batch_v1.Job, decided: Plan, tally: Tally, now: float) -> None:
    parallelism = 1 if job.spec.parallelism is None else job.spec.parallelism
    active = len(tally.active)
    if indexed(job):
        active -= _drop_duplicates(decided, tally)
    goal = _goal(job, tally, active, parallelism)
    if active > goal:
        young = sorted(
            (pod for pod in tally.active if pod not in decided.withdraw),
            key=lambda pod: (ready_since(pod) is not None, -seconds(pod.metadata.creation_timestamp)),
        )
        decided.withdraw += young[: active - goal]
        return
    missing = min(goal - active, BURST)
    if replaces_failed_only(job):
        missing -= len(tally.terminating)
    if missing <= 0:
        return
    if per_index(job):
        _create_by_index(job, decided, tally, now, missing)
        return
    wait = _delay(tally, now)
    if wait > 0:
        decided.again = wait
    elif indexed(job):
        decided.create = [
            Wanted(index) for index in first_free(missing, _taken(job, tally), job.spec.completions or 0)
        ]
    else:
        decided.create = [Wanted(None)] * missing


def _goal(job: batch_v1.Job, tally: Tally, active: int, parallelism: int) -> int:
    if job.spec.completions is None:
        # A work queue: one success means that no new ones are needed.
        return min(active, parallelism) if tally.successes else parallelism
    left = job.spec.completions - tally.successes - len(tally.failed_indexes)
    return max(0, min(parallelism, left))


def _drop_duplicates(decided: Plan, tally: Tally) -> int:
    seen: set[int] = set()
    for pod in sorted(tally.active, key=lambda pod: seconds(pod.metadata.creation_timestamp)):
        index = index_of(pod)
        if index in seen or index < 0 or index in tally.completed:
            decided.withdraw.append(pod)
        seen.add(index)
    return len(decided.withdraw)


def _taken(job: batch_v1.Job, tally: Tally) -> set[int]:
    busy = [*tally.active, *(tally.terminating if replaces_failed_only(job) else ())]
    return tally.completed | tally.failed_indexes | {index_of(pod) for pod in busy}


def _create_by_index(job: batch_v1.Job, decided: Plan, tally: Tally, now: float, missing: int) -> None:
    taken, waits = _taken(job, tally), []
    last: dict[int, core_v1.Pod] = {}
    for pod in tally.failed_pods:
        index = index_of(pod)
        if index not in last or failures_of(pod) >= failures_of(last[index]):
            last[index] = pod
    for index in first_free(missing + len(last), taken, job.spec.completions or 0):
        before = last.get(index)
        failures = failures_of(before) + 1 if before else 0
        wait = finished_at(before) + _pause(failures) - now if before else 0.0
        if wait > 0:
            waits.append(wait)
        elif len(decided.create) < missing:
            decided.create.append(Wanted(index, failures))
    decided.again = min(waits, default=None)


def _pause(failures: int) -> float:
    return min(FIRST_DELAY * 2.0 ** min(failures - 1, 10), LONGEST_DELAY)


def _delay(tally: Tally, now: float) -> float:
    """Return the seconds until failed pods are replaced: longer with every failure since the last success."""
    failed = [at for pod in tally.failed_pods if (at := finished_at(pod)) > tally.last_success]
    return max(failed) + _pause(len(failed)) - now if failed else 0.0


def _look_again(job: batch_v1.Job, decided: Plan, now: float, *, started: float) -> None:
    deadline = job.spec.active_deadline_seconds
    if deadline is not None and started and not ended(decided.status):
        left = max(0.0, started + deadline - now)
        decided.again = left if decided.again is None else min(decided.again, left)


def _status(
    job: batch_v1.Job, tally: Tally, found: Verdict | None, now: float, *, started: str
) -> batch_v1.JobStatus:
    uncounted = batch_v1.UncountedTerminatedPods(
        succeeded=tuple(uid for uid, success in tally.waiting.items() if success),
        failed=tuple(uid for uid, success in tally.waiting.items() if not success),
    )
    status = msgspec.structs.replace(
        job.status,
        active=len(tally.active) or None,
        ready=sum(ready_since(pod) is not None for pod in tally.active),
        terminating=len(tally.terminating),
        succeeded=tally.succeeded or None,
        failed=tally.failed or None,
        start_time=started,
        uncounted_terminated_pods=uncounted,
        completed_indexes=text_of(tally.completed) if indexed(job) else "",
        failed_indexes=text_of(tally.failed_indexes) if per_index(job) else "",
        conditions=_suspension(job, now),
    )
    if found is None:
        return status
    status = found.announce(status, now)
    over = not (tally.active or tally.terminating or tally.waiting)
    return found.conclude(status, now) if over else status


def _suspension(job: batch_v1.Job, now: float) -> tuple[batch_v1.JobCondition, ...]:
    """Return the conditions with Suspended brought up to date."""
    conditions, wished = job.status.conditions, bool(job.spec.suspend)
    old = next((c for c in conditions if c.type == "Suspended"), None)
    if (old is not None and old.status == "True") == wished:
        return conditions
    words = ("JobSuspended", "Job suspended") if wished else ("JobResumed", "Job resumed")
    new = batch_v1.JobCondition(
        type="Suspended", status=str(wished), reason=words[0], message=words[1],
        last_probe_time=stamp(now), last_transition_time=stamp(now),
    )  # fmt: skip
    return (*(c for c in conditions if c is not old), new)
