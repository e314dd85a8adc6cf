"""CronJob: its decisions as a table, its days as a simulation, and the loop against the real API server."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekube.api.kinds import batch_v1 as batch
from edgekube.api.kinds import core_v1 as core
from edgekube.api.types import batch_v1, core_v1, meta_v1
from edgekube.control.clock import seconds, stamp
from edgekube.controllers.cronjob.plan import job_name, plan, started

NOW = seconds("2026-11-23T10:30:20Z")
HOURLY = "0 * * * *"
TEN = seconds("2026-11-23T10:00:00Z")
NIGHT = 8 * 3600.0


def cron_job(make, *, last=None, created=NOW - 86400, active=(), schedule=HOURLY, **spec):
    template = core_v1.PodTemplateSpec(
        spec=core_v1.PodSpec(containers=(core_v1.Container(name="c", image="i"),), restart_policy="OnFailure")
    )
    return batch_v1.CronJob(
        metadata=make.meta("backup", created=created),
        spec=batch_v1.CronJobSpec(
            schedule=schedule,
            job_template=batch_v1.JobTemplateSpec(spec=batch_v1.JobSpec(template=template)),
            **spec,
        ),
        status=batch_v1.CronJobStatus(
            active=tuple(core_v1.ObjectReference(name=job.metadata.name, uid=job.metadata.uid) for job in active),
            last_schedule_time="" if last is None else stamp(last),
        ),
    )  # fmt: skip


def job(make, owner, due, *, how="", ended=None):
    conditions = (batch_v1.JobCondition(type=how, status="True"),) if how else ()
    return batch_v1.Job(
        metadata=make.meta(job_name(owner, due), owner=owner, created=due),
        spec=owner.spec.job_template.spec,
        status=batch_v1.JobStatus(
            conditions=conditions,
            start_time=stamp(due),
            completion_time="" if ended is None else stamp(ended),
        ),
    )


@pytest.mark.parametrize(("fields", "running", "starts", "stops", "reasons"), [
    ({"last": TEN - 3600}, False, TEN, False, set()),
    ({"last": TEN}, False, None, False, set()),
    ({"last": None, "created": NOW - 60}, False, None, False, set()),
    ({"last": TEN - 3600, "suspend": True}, False, None, False, set()),
    # A night without power: one run, the latest, and not one for each hour.
    ({"last": TEN - NIGHT}, False, TEN, False, set()),
    ({"last": TEN - NIGHT, "starting_deadline_seconds": 600}, False, None, False, set()),
    ({"last": TEN - NIGHT, "starting_deadline_seconds": 3600}, False, TEN, False, set()),
    ({"last": TEN - 3600, "concurrency_policy": "Allow"}, True, TEN, False, set()),
    ({"last": TEN - 3600, "concurrency_policy": "Forbid"}, True, None, False, {"JobAlreadyActive"}),
    ({"last": TEN - 3600, "concurrency_policy": "Replace"}, True, TEN, True, set()),
    ({"last": TEN - 3600, "schedule": "bad"}, False, None, False, {"UnparseableSchedule"}),
    ({"last": TEN - 3600, "time_zone": "Mars/Olympus"}, False, None, False, {"UnknownTimeZone"}),
    ({"last": NOW - NIGHT, "schedule": "* * * * *"}, False, NOW // 60 * 60, False, {"TooManyMissedTimes"}),
    # Berlin is an hour ahead: its eleven o'clock is ten here.
    ({"last": TEN - NIGHT, "schedule": "0 11 * * *", "time_zone": "Europe/Berlin"}, False, TEN, False, set()),
    # Written under a clock that was years ahead.
    ({"last": NOW + 1e8, "schedule": "0 10 * * *"}, False, None, False, set()),
])  # fmt: skip
def test_what_it_starts(make, fields, running, starts, stops, reasons):
    owner = cron_job(make, **fields)
    jobs = [job(make, owner, TEN - 3600)] if running else []
    owner = msgspec.structs.replace(
        owner,
        status=msgspec.structs.replace(
            owner.status, active=tuple(core_v1.ObjectReference(uid=j.metadata.uid) for j in jobs)
        ),
    )
    decided = plan(owner, jobs, NOW)
    assert decided.start == starts
    assert bool(decided.stop) == stops
    assert {note.reason for note in decided.notes} == reasons


def test_it_looks_again_when_the_next_is_due_even_under_a_clock_that_was_ahead(make):
    for last in (TEN, NOW + 1e8):
        assert plan(cron_job(make, last=last), [], NOW).again == pytest.approx(TEN + 3600 - NOW, abs=1)


def test_a_run_that_was_made_but_not_written_down_is_not_made_twice(make):
    owner = cron_job(make, last=TEN - 3600)
    for how in ("", "Complete"):
        twin = job(make, owner, TEN, how=how, ended=NOW if how else None)
        decided = plan(owner, [twin], NOW)
        assert decided.start is None
        assert decided.status.last_schedule_time == stamp(TEN)
        assert len(decided.status.active) == (not how)


def test_history_and_what_it_tells_of_ended_jobs(make):
    owner = cron_job(make, last=TEN)
    good = [job(make, owner, TEN - 3600 * n, how="Complete", ended=TEN - 3600 * n + 60) for n in range(5)]
    bad = [job(make, owner, TEN - 3600 * n - 1800, how="Failed") for n in range(3)]
    gone = job(make, owner, TEN - 90000)
    owner = msgspec.structs.replace(
        owner,
        status=batch_v1.CronJobStatus(
            active=tuple(core_v1.ObjectReference(name=j.metadata.name, uid=j.metadata.uid) for j in (good[0], gone)),
            last_schedule_time=stamp(TEN),
        ),
    )  # fmt: skip
    decided = plan(owner, [*good, *bad], NOW)
    assert decided.clean == (good[4], good[3], bad[2], bad[1])
    assert decided.status.active == ()
    assert decided.status.last_successful_time == stamp(TEN + 60)
    assert [note.reason for note in decided.notes] == ["SawCompletedJob", "MissingJob"]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(1, 5000), st.booleans(), st.booleans()), min_size=1, max_size=60),
    policy=st.sampled_from(["Allow", "Forbid", "Replace"]),
)
def test_every_run_starts_once_however_it_is_interrupted(make_any, steps, policy):
    owner = cron_job(
        make_any, schedule="*/20 * * * *", concurrency_policy=policy, created=NOW,
        successful_jobs_history_limit=100,
    )  # fmt: skip
    jobs, now, ever = {}, NOW, []
    for step, dies, ends in steps:
        now += step
        decided = plan(owner, list(jobs.values()), now)
        for stopped in decided.stop:
            del jobs[stopped.metadata.name]
        status = decided.status
        if decided.start is not None:
            made = job(make_any, owner, decided.start)
            assert made.metadata.name not in ever
            ever.append(made.metadata.name)
            jobs[made.metadata.name] = made
            status = started(status, made, decided.start)
        if not dies:
            owner = msgspec.structs.replace(owner, status=status)
        unfinished = [found for found in jobs.values() if not found.status.conditions]
        assert policy == "Allow" or len(unfinished) <= 1
        for found in unfinished if ends else ():
            done = batch_v1.JobStatus(conditions=(batch_v1.JobCondition(type="Complete", status="True"),), start_time=found.status.start_time)  # fmt: skip
            jobs[found.metadata.name] = msgspec.structs.replace(found, status=done)
    if policy == "Allow" and sum(step for step, _, _ in steps) > 1200:
        assert ever


async def test_the_loop_starts_what_was_missed_and_writes_it_down(world):
    template = core_v1.PodTemplateSpec(
        spec=core_v1.PodSpec(containers=(core_v1.Container(name="c", image="i"),), restart_policy="OnFailure")
    )
    await world.client.create(
        batch.CRON_JOBS,
        batch_v1.CronJob(
            metadata=meta_v1.ObjectMeta(name="tick", namespace="default"),
            spec=batch_v1.CronJobSpec(
                schedule="@every 1s",
                job_template=batch_v1.JobTemplateSpec(
                    metadata=meta_v1.ObjectMeta(labels={"from": "tick"}),
                    spec=batch_v1.JobSpec(template=template),
                ),
            ),
        ),
    )  # fmt: skip

    async def made():
        return await world.list(batch.JOBS, namespace="default") or None

    found = (await world.eventually(made))[0]
    assert found.metadata.labels["from"] == "tick"
    assert found.metadata.name.startswith("tick-")
    assert "batch.kubernetes.io/cronjob-scheduled-timestamp" in found.metadata.annotations

    async def written():
        owner = (await world.list(batch.CRON_JOBS, namespace="default"))[0]
        return owner.status.last_schedule_time and owner.status.active

    await world.eventually(written)

    async def told():
        return {e.reason for e in await world.list(core.EVENTS, namespace="default")} >= {"SuccessfulCreate"}

    await world.eventually(told)
