"""Whole lives of pods on the in-memory adapters, in virtual time."""


import pytest

pytestmark = pytest.mark.looptime


def condition(status, kind):
    return next(c for c in status.conditions if c.type == kind)


async def test_a_pod_runs(rig, pod_of):
    rig.start()
    rig.put(pod_of())
    await rig.until(lambda: "uid-web" in rig.notes.statuses and rig.notes.last().phase == "Running")
    status = rig.notes.last()
    assert status.pod_ip == "127.8.0.2"
    assert status.host_ip == "127.0.0.1"
    assert condition(status, "Ready").status == "True"
    assert status.container_statuses[0].state.running is not None
    assert status.container_statuses[0].container_id.startswith("podman://")
    assert status.qos_class == "BestEffort"
    assert status.observed_generation == 1
    assert rig.notes.reasons() == ["Pulling", "Pulled", "Created", "Started"]
