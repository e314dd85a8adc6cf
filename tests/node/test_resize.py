"""In-place resize (KEP-1287): granted, deferred, infeasible, by restart, refused by the kernel, over restarts."""

import json

import msgspec
import pytest

from edgekube.api.resource import key_of
from edgekube.runtime.base import RuntimeFailure

pytestmark = pytest.mark.looptime

SMALL = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}}
LARGE = {"requests": {"cpu": "200m", "memory": "96Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}


@pytest.fixture
def sized(pod_of):
    """Return the maker of pods with one container of that size."""

    def make(resources=SMALL, generation=1, **container):
        pod = pod_of({"containers": [{"name": "main", "resources": resources, **container}]})
        meta = msgspec.structs.replace(pod.metadata, generation=generation)
        return msgspec.structs.replace(pod, metadata=meta)

    return make


def condition(rig, kind):
    return next((c for c in rig.notes.last().conditions if c.type == kind), None)


def main(rig):
    return rig.notes.last().container_statuses[0]


async def running(rig, pod):
    rig.start()
    rig.put(pod)
    await rig.until(lambda: rig.notes.statuses and rig.notes.last().phase == "Running")


def has(rig):
    """Return what the status says the running container has, as JSON says it."""
    return msgspec.to_builtins(main(rig).resources)


async def test_a_status_tells_what_containers_have(rig, sized):
    await running(rig, sized())
    assert has(rig) == SMALL
    assert main(rig).allocated_resources == SMALL["requests"]
    assert condition(rig, "PodResizePending") is None


async def test_a_resize_changes_the_cgroup_and_nothing_else(rig, sized):
    await running(rig, sized())
    (before,) = rig.containers()
    rig.put(sized(LARGE, 2))
    await rig.until(lambda: has(rig) == LARGE)
    (after,) = rig.containers()
    assert (after.id, after.started_at) == (before.id, before.started_at)
    limits = rig.machine.containers[after.id].spec.limits
    assert (limits.memory, limits.cpu_quota, limits.cpu_shares) == (256 << 20, 100_000, 204)
    status = rig.notes.last()
    assert (main(rig).allocated_resources, main(rig).restart_count) == (LARGE["requests"], 0)
    assert status.observed_generation == 2
    assert condition(rig, "PodResizeInProgress") is None
    in_progress = [
        c for s in rig.notes.statuses["uid-web"] for c in s.conditions if c.type == "PodResizeInProgress"
    ]
    assert [(c.status, c.reason, c.observed_generation) for c in in_progress] == [("True", "", 2)]
    told = {e.reason: e.message for e in rig.notes.events}
    text = told["ResizeCompleted"].removeprefix("Pod resize completed: ")
    assert json.loads(text) == {"containers": [{"name": "main", "resources": LARGE}], "generation": 2}
    assert "ResizeStarted" in told


async def test_a_resource_may_say_that_it_needs_a_restart(rig, sized):
    policy = [
        {"resourceName": "memory", "restartPolicy": "RestartContainer"},
        {"resourceName": "cpu", "restartPolicy": "NotRequired"},
    ]
    await running(rig, sized(resizePolicy=policy))
    more_cpu = {**SMALL, "limits": {**SMALL["limits"], "cpu": "600m"}}
    rig.put(sized(more_cpu, 2, resizePolicy=policy))
    await rig.until(lambda: main(rig).resources and has(rig) == more_cpu)
    assert main(rig).restart_count == 0
    rig.put(sized(LARGE, 3, resizePolicy=policy))
    await rig.until(lambda: main(rig).restart_count == 1 and main(rig).resources and has(rig) == LARGE)
    assert rig.machine.containers[rig.containers()[-1].id].spec.limits.memory == 256 << 20
    assert any(e.message == "Container main resize requires restart" for e in rig.notes.events)


@pytest.mark.parametrize(
    ("cpu", "memory", "message"),
    [
        ("5", "64Mi", "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000"),
        ("5", "5Gi", f"Node didn't have enough capacity: memory, requested: {5 << 30}, capacity: "),
    ],
)
async def test_what_never_fits_is_infeasible(rig, sized, cpu, memory, message):
    await running(rig, sized())
    amounts = {"cpu": cpu, "memory": memory}
    rig.put(sized({"requests": amounts, "limits": amounts}, 2))
    await rig.until(lambda: condition(rig, "PodResizePending"))
    found = condition(rig, "PodResizePending")
    assert (found.status, found.reason) == ("True", "Infeasible")
    assert found.message.startswith(message)
    assert found.observed_generation == 2
    assert has(rig) == SMALL
    rig.put(sized(SMALL, 3))
    await rig.until(lambda: condition(rig, "PodResizePending") is None)


async def test_what_does_not_fit_now_is_deferred(rig, sized, pod_of):
    other = {"name": "main", "resources": {"requests": {"cpu": "3"}}}
    await running(rig, sized())
    neighbour = pod_of({"containers": [other]}, name="other", uid="uid-other")
    rig.put(neighbour)
    wish = {"requests": {"cpu": "2", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "128Mi"}}
    rig.put(sized(wish, 2))
    await rig.until(lambda: condition(rig, "PodResizePending"))
    found = condition(rig, "PodResizePending")
    text = "Node didn't have enough resource: cpu, requested: 2000, used: 3000, capacity: 4000"
    assert (found.reason, found.message) == ("Deferred", text)
    await rig.stop()
    rig.start()
    await rig.until(lambda: rig.now() > 1_700_000_100, seconds=200)
    assert condition(rig, "PodResizePending").reason == "Deferred"
    assert main(rig).allocated_resources == SMALL["requests"], (
        "what a container was made with is on its label"
    )
    rig.mirror.pods.drop(key_of(neighbour))
    await rig.until(lambda: has(rig) == wish, seconds=60)


async def test_memory_is_not_taken_from_who_uses_it(rig, sized):
    await running(rig, sized())
    tiny = {"requests": {"cpu": "100m", "memory": "1Mi"}, "limits": {"cpu": "500m", "memory": "1Mi"}}
    rig.put(sized(tiny, 2))
    await rig.until(lambda: (c := condition(rig, "PodResizeInProgress")) and c.reason)
    found = condition(rig, "PodResizeInProgress")
    text = f"attempting to set container memory limit ({1 << 20}) below current usage ({4 << 20})"
    assert (found.reason, found.message) == ("Error", text)
    assert has(rig) == SMALL
    assert main(rig).allocated_resources == tiny["requests"]
    await rig.until(lambda: rig.now() > 1_700_000_400, seconds=900)
    assert rig.notes.reasons().count("ResizeError") == 1
    rig.put(sized(SMALL, 3))
    await rig.until(lambda: condition(rig, "PodResizeInProgress") is None)


async def test_a_refusal_is_tried_again(rig, sized):
    await running(rig, sized())
    rig.machine.fail("update", RuntimeFailure("device or resource busy"))
    rig.put(sized(LARGE, 2))
    await rig.until(lambda: has(rig) == LARGE, seconds=60)


async def test_the_next_agent_goes_on_with_what_was_granted(rig, sized):
    await running(rig, sized())
    rig.put(sized(LARGE, 2))
    await rig.until(lambda: has(rig) == LARGE)
    await rig.stop()
    rig.machine.power_off()
    amounts = {"cpu": "5", "memory": "5Gi"}
    rig.put(sized({"requests": amounts, "limits": amounts}, 3))
    rig.start()
    await rig.until(lambda: main(rig).restart_count == 1 and main(rig).state.running)
    assert has(rig) == LARGE
    assert condition(rig, "PodResizePending").reason == "Infeasible"
