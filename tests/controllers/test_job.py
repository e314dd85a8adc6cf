"""Job: its counting as a simulation, its decisions as a table, and the loop against the real API server."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekube.api.kinds import batch_v1 as batch
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import batch_v1, core_v1, meta_v1
from edgekube.control.clock import stamp
from edgekube.controllers.job.indexes import COMPLETION_INDEX, parse, text_of
from edgekube.controllers.job.plan import plan
from edgekube.controllers.job.pods import FAILURES, TRACKING, new_pod
from edgekube.controllers.job.verdict import ended
from edgekube.controllers.ttl import expires

NOW = 10_000.0
LABELS = {"batch.kubernetes.io/controller-uid": "u"}


def job(make, *, restart="Never", status=None, **spec):
    template = core_v1.PodTemplateSpec(
        metadata=meta_v1.ObjectMeta(labels=LABELS),
        spec=core_v1.PodSpec(containers=(core_v1.Container(name="c", image="i"),), restart_policy=restart),
    )
    return batch_v1.Job(
        metadata=make.meta("sum"),
        spec=batch_v1.JobSpec(
            selector=meta_v1.LabelSelector(match_labels=LABELS),
            template=template,
            **{"completions": 1, **spec},
        ),
        status=status or batch_v1.JobStatus(start_time=stamp(NOW - 100)),
    )


def pod(make, owner, name, *, phase="Running", index=None, failures=0, ago=1000.0, code=1, **meta):
    made = new_pod(owner, index, failures=failures)
    state = core_v1.ContainerState()
    if phase in {"Succeeded", "Failed"}:
        ended_at = stamp(NOW - ago)
        code = 0 if phase == "Succeeded" else code
        state = core_v1.ContainerState(
            terminated=core_v1.ContainerStateTerminated(exit_code=code, finished_at=ended_at)
        )
    found = core_v1.ContainerStatus(
        name="c", image="i", image_id="", ready=False, restart_count=0, state=state
    )
    fields = {
        "labels": made.metadata.labels, "annotations": made.metadata.annotations, "finalizers": (TRACKING,), **meta
    }  # fmt: skip
    return core_v1.Pod(
        metadata=make.meta(name, owner=owner, created=NOW - 2000, **fields),
        spec=made.spec,
        status=core_v1.PodStatus(phase=phase, container_statuses=(found,)),
    )


@given(st.sets(st.integers(0, 40)))
def test_indexes_survive_being_text(indexes):
    assert parse(text_of(indexes), 41) == indexes


def test_indexes_as_kubernetes_writes_them():
    assert text_of([1, 3, 4, 5, 7, 9, 10]) == "1,3-5,7,9,10"


@pytest.mark.parametrize(("spec", "phases", "creates"), [
    ({}, "", 1),
    ({"completions": 5, "parallelism": 2}, "", 2),
    ({"completions": 5, "parallelism": 2}, "R", 1),
    ({"completions": 5, "parallelism": 9}, "RS", 3),
    ({"completions": 2, "parallelism": 2}, "SS", 0),
    ({"completions": None, "parallelism": 3}, "", 3),
    ({"completions": None, "parallelism": 3}, "SR", 0),
    ({"completions": 2, "parallelism": 0}, "", 0),
    ({"completions": 2, "suspend": True}, "", 0),
    ({"completions": 2, "parallelism": 2}, "F", 2),
])  # fmt: skip
def test_how_many_pods_come(make, spec, phases, creates):
    owner = job(make, **spec)
    names = {"R": "Running", "S": "Succeeded", "F": "Failed"}
    pods = [pod(make, owner, f"p{n}", phase=names[letter]) for n, letter in enumerate(phases)]
    assert len(plan(owner, pods, NOW).create) == creates


def test_a_failed_pod_is_replaced_after_a_pause_that_doubles(make):
    owner = job(make)
    failed = [pod(make, owner, f"p{n}", phase="Failed", ago=5) for n in range(3)]
    decided = plan(owner, failed, NOW)
    assert decided.create == []
    assert decided.again == 35.0
    assert len(plan(owner, failed, NOW + 36).create) == 1


@pytest.mark.parametrize(("spec", "failures", "reason"), [
    ({"backoff_limit": 0}, 1, "BackoffLimitExceeded"),
    ({"backoff_limit": 2}, 2, ""),
    ({"backoff_limit": 2}, 3, "BackoffLimitExceeded"),
    ({"active_deadline_seconds": 100}, 0, "DeadlineExceeded"),
    ({"active_deadline_seconds": 101}, 0, ""),
])  # fmt: skip
def test_how_it_fails(make, spec, failures, reason):
    owner = job(make, **spec)
    pods = [pod(make, owner, f"p{n}", phase="Failed") for n in range(failures)]
    pods.append(pod(make, owner, "running"))
    decided = plan(owner, pods, NOW)
    conditions = {c.type: c.reason for c in decided.status.conditions}
    assert conditions == ({"FailureTarget": reason} if reason else {})
    # Its last word waits until every pod is gone.
    assert [p.metadata.name for p in decided.delete] == (["running"] if reason else [])
    if not reason and spec.get("active_deadline_seconds"):
        assert decided.again == 1.0


def rules(*found):
    return batch_v1.PodFailurePolicy(
        rules=tuple(msgspec.convert(rule, batch_v1.PodFailurePolicyRule) for rule in found)
    )


@pytest.mark.parametrize(("rule", "code", "verdict", "failed"), [
    ({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}, 42, "PodFailurePolicy", 1),
    ({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}, 1, "", 1),
    ({"action": "Ignore", "onExitCodes": {"operator": "NotIn", "values": [42]}}, 1, "", 0),
    ({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}, 1, "", 1),
])  # fmt: skip
def test_what_a_failed_pod_means(make, rule, code, verdict, failed):
    owner = job(make, pod_failure_policy=rules(rule), backoff_limit=3)
    decided = plan(owner, [pod(make, owner, "p", phase="Failed", code=code)], NOW)
    assert [c.reason for c in decided.status.conditions] == ([verdict] if verdict else [])
    assert len(decided.status.uncounted_terminated_pods.failed) == failed
    if verdict:
        assert decided.status.conditions[0].message == (
            "Container c for pod default/p failed with exit code 42 matching FailJob rule at index 0"
        )


def test_indexed_pods_have_an_index_and_each_index_succeeds_once(make):
    owner = job(make, completions=4, parallelism=3, completion_mode="Indexed")
    assert [wanted.index for wanted in plan(owner, [], NOW).create] == [0, 1, 2]
    made = new_pod(owner, 2)
    assert made.metadata.generate_name == "sum-2-"
    assert made.spec.hostname == "sum-2"
    assert made.spec.containers[0].env[0].name == "JOB_COMPLETION_INDEX"
    pods = [
        pod(make, owner, "a", phase="Succeeded", index=1),
        pod(make, owner, "b", index=0),
        pod(make, owner, "c", index=0),
    ]
    decided = plan(owner, pods, NOW)
    assert decided.status.completed_indexes == "1"
    assert decided.status.succeeded == 1
    assert [p.metadata.name for p in decided.withdraw] == ["c"]
    assert [wanted.index for wanted in decided.create] == [2, 3]


def test_failures_are_limited_index_by_index(make):
    owner = job(make, completions=3, parallelism=3, completion_mode="Indexed", backoff_limit_per_index=1,
                backoff_limit=100, max_failed_indexes=5)  # fmt: skip
    pods = [
        pod(make, owner, "a", phase="Failed", index=0, failures=0),
        pod(make, owner, "b", phase="Failed", index=1, failures=1),
        pod(make, owner, "c", phase="Succeeded", index=2),
    ]
    decided = plan(owner, pods, NOW)
    assert decided.status.failed_indexes == "1"
    assert decided.status.completed_indexes == "2"
    assert [(wanted.index, wanted.failures) for wanted in decided.create] == [(0, 1)]
    # The failure that its successor must know of is kept.
    assert sorted(p.metadata.name for p in decided.release) == ["b", "c"]
    over = plan(owner, [*pods[1:], pod(make, owner, "d", phase="Succeeded", index=0)], NOW)
    assert [(c.type, c.reason) for c in over.status.conditions] == [("FailureTarget", "FailedIndexes")]


def test_a_success_policy_ends_the_job_early(make):
    policy = batch_v1.SuccessPolicy(
        rules=(batch_v1.SuccessPolicyRule(succeeded_indexes="0,2", succeeded_count=1),)
    )
    owner = job(make, completions=3, parallelism=3, completion_mode="Indexed", success_policy=policy)
    pods = [pod(make, owner, "a", phase="Succeeded", index=2), pod(make, owner, "b", index=1)]
    decided = plan(owner, pods, NOW)
    assert [(c.type, c.reason) for c in decided.status.conditions] == [
        ("SuccessCriteriaMet", "SuccessPolicy")
    ]
    assert [p.metadata.name for p in decided.delete] == ["b"]


def test_suspending_stops_the_pods_and_resuming_starts_the_clock_anew(make):
    owner = job(make, suspend=True)
    decided = plan(owner, [pod(make, owner, "a")], NOW)
    assert [p.metadata.name for p in decided.withdraw] == ["a"]
    assert [(c.type, c.status) for c in decided.status.conditions] == [("Suspended", "True")]
    resumed = msgspec.structs.replace(
        owner, spec=msgspec.structs.replace(owner.spec, suspend=False), status=decided.status
    )
    again = plan(resumed, [], NOW + 50)
    assert again.status.start_time == stamp(NOW + 50)
    assert [(c.type, c.status) for c in again.status.conditions] == [("Suspended", "False")]


@given(
    completions=st.integers(1, 4), parallelism=st.integers(1, 4), indexed=st.booleans(),
    outcomes=st.lists(st.booleans(), min_size=30, max_size=30), crashes=st.lists(st.booleans(), min_size=60, max_size=60),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_every_pod_counts_once_whenever_the_controller_dies(
    make_any, completions, parallelism, indexed, outcomes, crashes
):
    owner = job(make_any, completions=completions, parallelism=parallelism, backoff_limit=8,
                completion_mode="Indexed" if indexed else "NonIndexed", status=batch_v1.JobStatus())  # fmt: skip
    pods, now, results, dies = {}, NOW, iter(outcomes), iter(crashes)
    failed = succeeded = 0
    for _ in range(60):
        decided = plan(owner, list(pods.values()), now)
        assert len(decided.create) <= parallelism
        owner = msgspec.structs.replace(owner, status=decided.status)
        if ended(owner.status) and not decided.release:
            break
        if next(dies):  # between the status and everything else
            continue
        for found in decided.release:
            meta = msgspec.structs.replace(pods[found.metadata.name].metadata, finalizers=())
            pods[found.metadata.name] = msgspec.structs.replace(found, metadata=meta)
            if found.metadata.deletion_timestamp:
                del pods[found.metadata.name]
        for found in decided.withdraw:
            del pods[found.metadata.name]
        for found in decided.delete:
            # Its finalizer keeps it until it is counted.
            meta = msgspec.structs.replace(found.metadata, deletion_timestamp=stamp(now))
            pods[found.metadata.name] = msgspec.structs.replace(found, metadata=meta)
            failed += 1
        for wanted in decided.create:
            name = f"p{len(pods)}-{now}"
            pods[name] = pod(make_any, owner, name, index=wanted.index, failures=wanted.failures)
        for name, found in list(pods.items()):
            if found.status.phase == "Running" and not found.metadata.deletion_timestamp:
                success = next(results, True)
                failed, succeeded = failed + (not success), succeeded + success
                made = pod(make_any, owner, name, phase="Succeeded" if success else "Failed", ago=NOW - now)
                pods[name] = msgspec.structs.replace(found, status=made.status)
                break
        now += 700
    status = owner.status
    assert ended(status)
    assert (status.failed or 0) == failed
    if {c.type for c in status.conditions} & {"Complete"}:
        assert status.succeeded == completions
    assert not any(TRACKING in found.metadata.finalizers for found in pods.values())


# --- the loop


async def test_a_job_runs_to_its_end(world):
    await world.node("n1")
    template = core_v1.PodTemplateSpec(
        spec=core_v1.PodSpec(containers=(core_v1.Container(name="c", image="i"),), restart_policy="Never")
    )
    spec = batch_v1.JobSpec(template=template, completions=3, parallelism=2, completion_mode="Indexed")
    meta = meta_v1.ObjectMeta(name="sum", namespace="default")
    await world.client.create(batch.JOBS, batch_v1.Job(metadata=meta, spec=spec))

    async def finish():
        for found in await world.list(core.PODS, namespace="default"):
            if found.status.phase == "Running":
                status = {"status": {"phase": "Succeeded"}}
                key = Key("default", found.metadata.name)
                await world.client.patch(core.PODS, key, status, subresource="status")
        current = await world.client.get(batch.JOBS, Key("default", "sum"))
        return current if ended(current.status) else None

    done = await world.eventually(finish)
    assert done.status.succeeded == 3
    assert done.status.completed_indexes == "0-2"
    assert done.status.completion_time
    assert [c.type for c in done.status.conditions] == ["SuccessCriteriaMet", "Complete"]
    await world.quiet()
    pods = await world.list(core.PODS, namespace="default")
    assert sorted(p.metadata.annotations[COMPLETION_INDEX] for p in pods) == ["0", "1", "2"]
    assert all(not p.metadata.finalizers for p in pods)
    # Its pods go with it, the unfinished ones too.
    await world.client.delete(batch.JOBS, Key("default", "sum"), propagation="Background")

    async def gone():
        return not await world.list(core.PODS, namespace="default")

    await world.eventually(gone)


def test_failures_are_told_to_the_successor(make):
    owner = job(make, completions=1, completion_mode="Indexed", backoff_limit_per_index=3)
    assert new_pod(owner, 0, failures=2).metadata.annotations[FAILURES] == "2"


@pytest.mark.parametrize(("how", "ttl", "deleted", "expected"), [
    ("Complete", 60, "", NOW + 60), ("Failed", 0, "", NOW), ("Suspended", 60, "", None), ("Complete", None, "", None),
    ("Complete", 60, "2026-01-01T00:00:00Z", None),
])  # fmt: skip
def test_when_an_ended_job_goes(make, how, ttl, deleted, expected):
    ended_job = job(make, ttl_seconds_after_finished=ttl)
    condition = batch_v1.JobCondition(type=how, status="True", last_transition_time=stamp(NOW))
    ended_job = msgspec.structs.replace(
        ended_job,
        status=batch_v1.JobStatus(conditions=(condition,)),
        metadata=msgspec.structs.replace(ended_job.metadata, deletion_timestamp=deleted),
    )
    assert expires(ended_job) == expected
