"""When a CronJob starts its next Job, and which of its Jobs go (pkg/controller/cronjob in Kubernetes)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from edgekube.api import cron
from edgekube.api.types import batch_v1, core_v1
from edgekube.control.clock import seconds, stamp

SLACK = 0.1
"""Seconds to look again after the time has come, so that the clock has surely passed it."""
MANY = 100
"""Missed times worth a warning."""
AHEAD = 3600.0
"""A last run so many seconds from now was written under a wrong clock: it is not waited for."""
NORMAL, WARNING = "Normal", "Warning"
KEPT = {"Complete": 3, "Failed": 1}
"""Ended Jobs kept when the CronJob does not say."""


@dataclass(frozen=True, slots=True)
class Note:
    """An Event to tell."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, in this order: tell, clean away, stop the Jobs to replace, start one, write the status."""

    status: batch_v1.CronJobStatus
    notes: tuple[Note, ...] = ()
    clean: tuple[batch_v1.Job, ...] = ()
    stop: tuple[batch_v1.Job, ...] = ()
    start: float | None = None
    """The scheduled time (Unix seconds) of the Job to start."""
    again: float | None = None


def plan(owner: batch_v1.CronJob, jobs: Sequence[batch_v1.Job], now: float) -> Plan:
    """Decide for the `jobs` it controls."""
    done = Plan(status=_status(owner, jobs), notes=tuple(_seen(owner, jobs)), clean=_surplus(owner, jobs))
    if owner.metadata.deletion_timestamp or owner.spec.suspend:
        return done
    try:
        schedule = cron.parse(owner.spec.schedule, owner.spec.time_zone)
    except cron.CronError as error:
        reason = "UnknownTimeZone" if "time zone" in str(error) else "UnparseableSchedule"
        return _noted(done, WARNING, reason, f"invalid schedule: {owner.spec.schedule}: {error}")
    earliest = _earliest(owner, now)
    following = schedule.next(now)
    done = replace(done, again=None if following is None else following - now + SLACK)
    due = schedule.latest(earliest, now)
    if due is None:
        return done
    if _many(schedule, earliest, now):
        done = _noted(done, WARNING, "TooManyMissedTimes", TOO_MANY)
    return _start(owner, jobs, due, now=now, done=done)


TOO_MANY = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"


def outcome(job: batch_v1.Job) -> str:
    """Return Complete or Failed, "" while it runs."""
    return next((c.type for c in job.status.conditions if c.type in KEPT and c.status == "True"), "")


def job_name(owner: batch_v1.CronJob, due: float) -> str:
    """Return the one name a run has, so that it cannot start twice."""
    return f"{owner.metadata.name}-{int(due // 60)}"


def started(status: batch_v1.CronJobStatus, job: batch_v1.Job, due: float) -> batch_v1.CronJobStatus:
    """Return the status after the Job for `due` was made."""
    active = status.active
    if all(ref.uid != job.metadata.uid for ref in active):
        active = (*active, _reference(job))
    return batch_v1.CronJobStatus(
        active=active, last_schedule_time=stamp(due), last_successful_time=status.last_successful_time
    )


def _start(
    owner: batch_v1.CronJob, jobs: Sequence[batch_v1.Job], due: float, *, now: float, done: Plan
) -> Plan:
    deadline, policy = owner.spec.starting_deadline_seconds, owner.spec.concurrency_policy
    running = [job for job in jobs if not outcome(job) and not job.metadata.deletion_timestamp]
    twin = next((job for job in jobs if job.metadata.name == job_name(owner, due)), None)
    if twin is not None:
        # Made before, but it was not written down (the server died between the two).
        return replace(
            done, status=started(done.status, twin, due) if twin in running else _ran(done.status, due)
        )
    if deadline is not None and due + deadline < now:
        missed = f"Missed scheduled time to start a job: {stamp(due)}"
        return _noted(done, WARNING, "MissSchedule", missed)
    if policy == "Forbid" and done.status.active:
        return _noted(done, NORMAL, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")  # fmt: skip
    stop = tuple(running) if policy == "Replace" else ()
    return replace(done, start=due, stop=stop)


def _ran(status: batch_v1.CronJobStatus, due: float) -> batch_v1.CronJobStatus:
    return batch_v1.CronJobStatus(
        active=status.active, last_schedule_time=stamp(due), last_successful_time=status.last_successful_time
    )


def _earliest(owner: batch_v1.CronJob, now: float) -> float:
    """Return the time after which runs are looked for."""
    last = seconds(owner.status.last_schedule_time) or seconds(owner.metadata.creation_timestamp)
    if last > now + AHEAD:
        last = now
    deadline = owner.spec.starting_deadline_seconds
    return last if deadline is None else max(last, now - deadline)


def _many(schedule: cron.Schedule, after: float, until: float) -> bool:
    def missed() -> Iterator[float]:
        at = schedule.next(after)
        while at is not None and at <= until:
            yield at
            at = schedule.next(at)

    return sum(1 for _ in islice(missed(), MANY + 1)) > MANY


def _status(owner: batch_v1.CronJob, jobs: Sequence[batch_v1.Job]) -> batch_v1.CronJobStatus:
    running = {job.metadata.uid: _reference(job) for job in jobs if not outcome(job)}
    known = tuple(ref for ref in owner.status.active if ref.uid in running)
    uids = {ref.uid for ref in known}
    ended = [job.status.completion_time for job in jobs if outcome(job) == "Complete"]
    return batch_v1.CronJobStatus(
        active=(*known, *(ref for uid, ref in running.items() if uid not in uids)),
        last_schedule_time=owner.status.last_schedule_time,
        last_successful_time=max([owner.status.last_successful_time, *ended], key=seconds),
    )


def _seen(owner: batch_v1.CronJob, jobs: Sequence[batch_v1.Job]) -> Iterator[Note]:
    by_uid = {job.metadata.uid: job for job in jobs}
    for ref in owner.status.active:
        job = by_uid.get(ref.uid)
        if job is None:
            yield Note(NORMAL, "MissingJob", f"Active job went missing: {ref.name}")
        elif how := outcome(job):
            yield Note(NORMAL, "SawCompletedJob", f"Saw completed job: {ref.name}, condition: {how}")


def _surplus(owner: batch_v1.CronJob, jobs: Sequence[batch_v1.Job]) -> tuple[batch_v1.Job, ...]:
    """Return the ended Jobs beyond the history limits, oldest first."""
    spec = owner.spec
    limits = {"Complete": spec.successful_jobs_history_limit, "Failed": spec.failed_jobs_history_limit}
    surplus: list[batch_v1.Job] = []
    for how, limit in limits.items():
        ended = [job for job in jobs if outcome(job) == how and not job.metadata.deletion_timestamp]
        ended.sort(key=lambda job: (seconds(job.status.start_time), job.metadata.name))
        surplus += ended[: max(0, len(ended) - (KEPT[how] if limit is None else limit))]
    return tuple(surplus)


def _reference(job: batch_v1.Job) -> core_v1.ObjectReference:
    meta = job.metadata
    return core_v1.ObjectReference(
        api_version=job.api_version, kind=job.kind, namespace=meta.namespace, name=meta.name, uid=meta.uid,
        resource_version=meta.resource_version,
    )  # fmt: skip


def _noted(done: Plan, type_: str, reason: str, message: str) -> Plan:
    return replace(done, notes=(*done.notes, Note(type_, reason, message)))
