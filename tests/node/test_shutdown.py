"""Graceful node shutdown: who goes when, what is told, and that a mere restart ends nothing."""

import asyncio
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.node.eviction.rank import is_critical
from edgekube.node.pod.spec import grace_of
from edgekube.node.shutdown import doom_of, machine_stops, waves
from edgekube.runtime.base import Phase
from node.conftest import make_pod
from node.test_static_pods import runs, write

SYSTEM = {"priority": 2_000_000_000}


class Dummy:
    def __init__(self, pod, active=True):
        self.pod, self.active = pod, active


def test_ordinary_pods_go_before_critical_ones():
    plain, system, over = Dummy(make_pod()), Dummy(make_pod(SYSTEM)), Dummy(make_pod(), active=False)
    first, second = waves([system, over, plain], grace=30, critical=10)
    assert (first.pods, first.seconds) == ((plain,), 20)
    assert (second.pods, second.seconds) == ((system,), 10)
    assert waves([over], grace=30, critical=10) == ()


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 100)), max_size=6),
    st.integers(1, 60),
    st.integers(0, 60),
)
def test_nobody_gets_more_than_there_is(rows, grace, critical):
    critical = min(critical, grace)
    pods = [
        Dummy(make_pod({"priority": 2_000_000_000 if c else 0, "terminationGracePeriodSeconds": g}))
        for c, g in rows
    ]
    found = waves(pods, grace=grace, critical=critical)
    assert sum(wave.seconds for wave in found) <= grace
    assert sorted(id(p) for wave in found for p in wave.pods) == sorted(map(id, pods))
    for wave in found:
        assert len({is_critical(p.pod) for p in wave.pods}) == 1
        assert all(
            doom_of(p.pod, wave.seconds).grace <= min(grace_of(p.pod), max(wave.seconds, 0))
            for p in wave.pods
        )


@pytest.mark.parametrize(
    ("says", "stops"), [("stopping", True), ("running", False), ("degraded", False), ("", False)]
)
async def test_systemd_knows_whether_the_machine_stops(tmp_path, says, stops):
    command = (sys.executable, "-S", "-c", f"print({says!r})")
    assert await machine_stops(tmp_path, command=command) is stops


async def test_without_systemd_a_file_says_so(tmp_path):
    assert await machine_stops(tmp_path, command=("/nonexistent/systemctl",)) is False
    (tmp_path / "shutdown").touch()
    assert await machine_stops(tmp_path, command=("/nonexistent/systemctl",)) is True


async def running(rig, pod):
    rig.put(pod)
    uid = pod.metadata.uid
    await rig.until(lambda: uid in rig.notes.statuses and rig.notes.last(uid).phase == "Running")


def ready(rig):
    return next(c for c in rig.notes.nodes[-1].status.conditions if c.type == "Ready")


@pytest.mark.looptime
async def test_a_shutdown_ends_pods_in_order_and_says_so(rig):
    rig.start()
    stubborn = make_pod({"containers": [{"name": "main", "image": "fake/stubborn"}]})
    system = make_pod(SYSTEM, name="system", uid="uid-system")
    for pod in (stubborn, system):
        await running(rig, pod)
    begun = rig.now()
    ending = asyncio.create_task(rig.kubelet.shut_down(grace=30, critical=10))
    await rig.until(lambda: ready(rig).status == "False")
    assert (ready(rig).reason, ready(rig).message) == ("KubeletNotReady", "node is shutting down")
    late = make_pod(name="late", uid="uid-late")
    rig.put(late)
    await rig.until(lambda: "uid-late" in rig.notes.statuses and rig.notes.last("uid-late").phase == "Failed")
    assert rig.notes.last("uid-late").reason == "NodeShutdown"
    assert rig.notes.last("uid-system").phase == "Running"
    await ending
    assert 19 <= rig.now() - begun <= 34
    for uid in ("uid-web", "uid-system"):
        status = rig.notes.last(uid)
        assert (status.phase, status.reason) == ("Failed", "Terminated")
        assert status.message == "Pod was terminated in response to imminent node shutdown."
        assert any(c.type == "DisruptionTarget" and c.status == "True" for c in status.conditions)
    assert all(i.phase is Phase.EXITED for i in rig.containers())


@pytest.mark.looptime
async def test_a_restart_of_the_agent_ends_nothing(rig):
    rig.start()
    await running(rig, make_pod())
    before = rig.containers()
    await rig.stop()
    assert rig.containers() == before
    rig.start()
    await asyncio.sleep(60)
    assert rig.containers() == before


@pytest.mark.looptime
async def test_static_pods_come_back_with_the_machine(rig):
    write(rig, "web.yaml")
    rig.start()
    await runs(rig)
    await rig.kubelet.shut_down(grace=30, critical=10)
    assert [i.phase for i in rig.containers()] == [Phase.EXITED]
    await rig.stop()
    rig.board.set_facts(boot_id="boot-2")
    rig.start()
    await runs(rig)
    assert msgspec.json.encode(rig.notes.statuses) == b"{}"
