"""What a node that has nothing to do costs: calls of the runtime in an hour of virtual time."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import pytest

from edgekube.runtime.fake import FakeMachine

pytestmark = pytest.mark.looptime


@dataclass
class CountingMachine(FakeMachine):
    """Counts calls by verb."""

    calls: Counter = field(default_factory=Counter)

    def check(self, verb):
        self.calls[verb] += 1
        super().check(verb)


async def hour(rig):
    rig.machine.calls.clear()
    await asyncio.sleep(3600)
    return rig.machine.calls.copy()


@pytest.fixture
def counted(rig):
    rig.machine = CountingMachine()
    rig.machine.now = rig.now
    return rig


async def test_a_crash_looping_pod_costs_a_dozen_starts_an_hour(counted, pod_of):
    rig = counted
    rig.start()
    await asyncio.sleep(60)
    idle = await hour(rig)
    rig.put(pod_of({"containers": [{"name": "main", "image": "fake/exit:1"}]}))
    await asyncio.sleep(1800)  # By then the back-off is five minutes.
    looping = await hour(rig)
    assert 11 <= looping["start"] <= 13
    extra = looping - idle
    # Image, remove, create, start, and a look after each step and event.
    assert sum(extra.values()) <= 13 * 15
    assert looping["pull"] == 0
    assert rig.notes.last().container_statuses[0].state.waiting.reason == "CrashLoopBackOff"
    assert len(rig.containers()) <= 2


async def test_a_pod_whose_image_is_not_to_be_had_costs_a_dozen_pulls_an_hour(counted, pod_of):
    rig = counted
    rig.machine.pull_errors["example.org"] = "no route to host"
    rig.start()
    await asyncio.sleep(60)
    idle = await hour(rig)
    rig.put(pod_of({"containers": [{"name": "main", "image": "example.org/x:1"}]}))
    await asyncio.sleep(1800)
    missing = await hour(rig)
    assert 11 <= missing["pull"] <= 13
    assert sum((missing - idle).values()) <= 13 * 4


async def test_an_idle_node_hardly_asks(counted, pod_of):
    rig = counted
    rig.start()
    for number in range(30):
        rig.put(pod_of(name=f"p{number}", uid=f"uid-{number}"))
    await rig.until(lambda: len(rig.containers()) == 30, 120)
    await asyncio.sleep(60)
    calls = await hour(rig)
    # Usage every 15 s, is it there every 20 s, a list every minute, images every 5 minutes.
    assert calls["usage"] <= 241
    assert calls["info"] <= 181
    assert calls["list"] <= 61
    assert calls.keys() <= {"usage", "info", "list", "list_images"}, calls
