"""The scheduling queue, in virtual time."""

import asyncio

import msgspec
import pytest

from edgekube.scheduler.plugins import Change, Plugins
from edgekube.scheduler.queue import LONGEST, SchedulingQueue

pytestmark = pytest.mark.looptime

FIT = frozenset({"NodeResourcesFit"})


@pytest.fixture
def queue():
    return SchedulingQueue([Plugins()])


async def test_priority_then_age(make, queue):
    for name, priority in (("low", 0), ("high", 10), ("late", 0)):
        queue.set(make.pod(name, priority=priority))
    assert [(await queue.get()).key.name for _ in range(3)] == ["high", "low", "late"]


async def test_a_refused_pod_sleeps_until_a_change_that_helps(make, queue, looptime):
    queue.set(make.pod("p"))
    info = await queue.get()
    queue.refused(info.uid, FIT)
    queue.happened(Change.NODE_TAINTS)
    await asyncio.sleep(60)
    queue.happened(Change.POD_GONE)
    assert (await queue.get()).uid == info.uid
    assert looptime == 61


async def test_a_change_while_deciding_is_not_missed(make, queue, looptime):
    queue.set(make.pod("p"))
    info = await queue.get()
    queue.happened(Change.NODE_ADDED)
    queue.refused(info.uid, FIT)
    await queue.get()
    assert looptime == 1


async def test_nothing_sleeps_for_ever(make, queue, looptime):
    queue.set(make.pod("p"))
    queue.refused((await queue.get()).uid, FIT)
    await queue.get()
    assert looptime == LONGEST


async def test_failures_back_off(make, queue, looptime):
    queue.set(make.pod("p"))
    times = []
    for _ in range(6):
        info = await queue.get()
        times.append(float(looptime))
        queue.failed(info.uid)
    assert times == [0, 1, 3, 7, 15, 25]


async def test_a_changed_spec_wakes(make, queue, looptime):
    pod = make.pod("p", requests={"cpu": "9"})
    queue.set(pod)
    queue.refused((await queue.get()).uid, FIT)
    queue.set(msgspec.structs.replace(pod, status=msgspec.structs.replace(pod.status, phase="Pending")))
    await asyncio.sleep(30)
    queue.set(msgspec.structs.replace(pod, spec=make.pod("p").spec))
    assert (await queue.get()).requests == {}
    assert looptime == 31


async def test_a_dropped_pod_is_not_handed_out(make, queue):
    first, second = make.pod("a"), make.pod("b")
    queue.set(first)
    queue.set(second)
    queue.drop(first.metadata.uid)
    assert (await queue.get()).key.name == "b"
    queue.bound(second.metadata.uid)
    assert len(queue) == 0
