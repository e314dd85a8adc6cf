"""The runtime's service killed or hung: told, waited for, and no pod is touched."""

import asyncio

import pytest

from edgekube.runtime.base import Phase
from node.conftest import make_pod

pytestmark = pytest.mark.looptime


def ready(rig):
    return next(c for c in rig.notes.nodes[-1].status.conditions if c.type == "Ready")


async def running(rig, pod):
    rig.put(pod)
    uid = pod.metadata.uid
    await rig.until(lambda: uid in rig.notes.statuses and rig.notes.last(uid).phase == "Running")


async def test_a_runtime_that_is_down_makes_the_node_not_ready_and_harms_no_pod(rig):
    rig.start()
    await running(rig, make_pod())
    before, told = rig.containers(), len(rig.notes.statuses["uid-web"])
    rig.machine.down = True
    await rig.until(lambda: ready(rig).status == "False", 80)
    assert (ready(rig).reason, ready(rig).message) == ("KubeletNotReady", "container runtime is down")
    late = make_pod(name="late", uid="uid-late")
    rig.put(late)
    await asyncio.sleep(600)
    assert rig.notes.last("uid-late").phase == "Pending"
    rig.machine.down = False
    await rig.until(lambda: ready(rig).status == "True", 60)
    await rig.until(lambda: rig.notes.last("uid-late").phase == "Running", 90)
    assert before[0] in rig.containers()
    assert len(rig.notes.statuses["uid-web"]) == told
    assert all(i.phase is Phase.RUNNING for i in rig.containers())


async def test_a_short_absence_is_not_told(rig):
    rig.start()
    await running(rig, make_pod())
    await asyncio.sleep(60)
    reports = len(rig.notes.nodes)
    for _ in range(10):
        rig.machine.down = True
        await asyncio.sleep(25)
        rig.machine.down = False
        await asyncio.sleep(25)
    assert all(
        c.status == "True"
        for node in rig.notes.nodes[reports:]
        for c in node.status.conditions
        if c.type == "Ready"
    )


async def test_what_happened_meanwhile_is_found_out(rig):
    rig.start()
    await running(rig, make_pod())
    [info] = rig.containers()
    rig.machine.down = True
    await asyncio.sleep(5)
    rig.machine.end(info.id, 3)
    await asyncio.sleep(60)
    assert rig.notes.last().container_statuses[0].restart_count == 0
    rig.machine.down = False
    await rig.until(lambda: rig.notes.last().container_statuses[0].restart_count == 1, 120)
    assert rig.notes.last().container_statuses[0].last_state.terminated.exit_code == 3
