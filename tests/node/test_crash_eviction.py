"""The agent dies at every boundary of an eviction, of a static pod's life and of a node's shutdown."""

import contextlib
import itertools
from dataclasses import replace

import pytest

from edgekube.runtime.base import Phase
from node.conftest import USAGE, Rig
from node.crash import CHANGES, Knife, Patient, PowerCut
from node.test_crash_points import PLAIN, left, lives, survive
from node.test_static_pods import write

pytestmark = [pytest.mark.looptime, pytest.mark.timeout(180)]


async def evicted(patient):
    rig = patient.rig
    await lives(patient, PLAIN, ["one-0", "two-0"])
    short = replace(USAGE, memory_available=50 << 20)
    # The pressure is over as soon as the first container has ended; the pod goes all the same.
    rig.board.usage = lambda: short if _running(rig) == 2 else USAGE
    await patient.until(lambda: rig.notes.last().phase == "Failed")
    await patient.sleep(30)
    assert (rig.notes.last().phase, rig.notes.last().reason) == ("Failed", "Evicted")
    assert _running(rig) == 0
    assert len(rig.containers()) == 2


def _running(rig):
    return [i.phase for i in rig.containers()].count(Phase.RUNNING)


async def static(patient):
    rig = patient.rig
    path = write(rig, "web.yaml")
    await patient.until(lambda: _running(rig) == 1)
    await patient.sleep(10)
    [before] = rig.containers()
    path.unlink()
    await patient.until(lambda: not rig.containers() and not left(rig))
    assert before.labels["edgekube.io/attempt"] == "0"
    assert await rig.network.list() == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_an_eviction_survives_the_agents_death(tmp_path, after):
    for at in itertools.count(1):
        if not await survive(evicted, tmp_path / str(at), Knife(at, after=after), CHANGES):
            break
    assert at > 10


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_static_pod_survives_the_agents_death(tmp_path, after):
    for at in itertools.count(1):
        rig, knife = Rig(tmp_path / str(at)), Knife(at, after=after)
        rig.folder.mkdir()
        patient = Patient(rig, knife, CHANGES)
        rig.start()
        try:
            await static(patient)
        finally:
            with contextlib.suppress(PowerCut, BaseExceptionGroup):
                await rig.stop()
            rig.machine.power_off()
        if not knife.fell:
            break
    assert at > 6
