"""Eviction, image and dead-container garbage collection and admission on the in-memory adapters, in virtual time."""

import asyncio
from collections import deque
from dataclasses import replace

import msgspec
import pytest

from edgekube.api.types import core_v1
from edgekube.node.eviction.settings import EvictionSettings
from edgekube.runtime.base import Phase, RuntimeFailure
from node.conftest import USAGE
from node.test_static_pods import write

pytestmark = pytest.mark.looptime

MI, GI = 1 << 20, 1 << 30
SHORT = {"memory_available": 50 * MI}


async def running(rig, pod):
    rig.put(pod)
    await phase(rig, pod, "Running")


async def phase(rig, pod, wanted, seconds=60.0):
    uid = pod.metadata.uid
    await rig.until(lambda: uid in rig.notes.statuses and rig.notes.last(uid).phase == wanted, seconds)


def container_of(rig, uid):
    return next(c for c in rig.machine.containers.values() if c.info.labels["edgekube.io/pod-uid"] == uid)


def conditions(rig):
    return {c.type for c in rig.notes.nodes[-1].status.conditions if c.status == "True"}


async def three_pods(rig, pod_of):
    pods = {
        "within": pod_of({"containers": [{"name": "main", "resources": {"requests": {"memory": "64Mi"}}}]}, name="within", uid="uid-within"),
        "hungry": pod_of(name="hungry", uid="uid-hungry"),
        "small": pod_of(name="small", uid="uid-small"),
    }  # fmt: skip
    for pod in pods.values():
        await running(rig, pod)
    container_of(rig, "uid-hungry").working_set = 40 * MI
    return pods


async def test_memory_pressure_evicts_one_pod_and_recovers(rig, pod_of):
    rig.start()
    pods = await three_pods(rig, pod_of)
    rig.board.set_usage(**SHORT)
    await rig.until(lambda: container_of(rig, "uid-hungry").info.phase is not Phase.RUNNING)
    rig.board.set_usage(memory_available=2 * GI)
    await phase(rig, pods["hungry"], "Failed")
    status = rig.notes.last("uid-hungry")
    assert status.reason == "Evicted"
    assert status.message == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        "Container main was using 40Mi, request is 0, has larger consumption of memory. "
    )
    disrupted = next(c for c in status.conditions if c.type == "DisruptionTarget")
    assert (disrupted.status, disrupted.reason, disrupted.message) == (
        "True",
        "TerminationByKubelet",
        status.message,
    )
    reasons = rig.notes.reasons()
    assert reasons.index("EvictionThresholdMet") < reasons.index("Evicted") < reasons.index("Killing")
    assert conditions(rig) == {"Ready", "MemoryPressure"}
    await asyncio.sleep(120)
    assert [rig.notes.last(f"uid-{name}").phase for name in ("within", "small")] == ["Running"] * 2
    await asyncio.sleep(300)
    assert conditions(rig) == {"Ready"}


async def test_an_evicted_pod_stays_so_after_a_restart_of_the_agent(rig, pod_of):
    rig.start()
    pods = await three_pods(rig, pod_of)
    rig.board.set_usage(**SHORT)
    await phase(rig, pods["hungry"], "Failed")
    rig.board.set_usage(memory_available=2 * GI)
    await rig.stop()
    rig.start()
    await asyncio.sleep(60)
    assert (rig.notes.last("uid-hungry").phase, rig.notes.last("uid-hungry").reason) == ("Failed", "Evicted")
    assert container_of(rig, "uid-hungry").info.phase is Phase.EXITED


async def test_a_soft_threshold_gives_pods_time(rig, pod_of):
    rig.settings["eviction"] = EvictionSettings(
        hard={}, soft={"memory.available": "200Mi"}, soft_grace={"memory.available": 60}, max_pod_grace=20
    )
    rig.start()
    pod = pod_of({"containers": [{"name": "main", "image": "fake/stubborn"}]})
    await running(rig, pod)
    begun = rig.now()
    rig.board.set_usage(**SHORT)
    await phase(rig, pod, "Failed", 200)
    # A look every 10 s, a minute of grace for the threshold, 20 s for a pod that will not end.
    assert 75 <= rig.now() - begun <= 105


async def test_critical_and_static_pods_are_never_evicted(rig, pod_of):
    rig.start()
    pods = [
        pod_of({"priority": 2_000_001_000}, name="system", uid="uid-system"),
    ]
    write(rig, "static.yaml")
    for pod in pods:
        await running(rig, pod)
    await rig.until(lambda: len(rig.containers()) == 2)
    rig.board.set_usage(**SHORT)
    await asyncio.sleep(300)
    assert [i.phase for i in rig.containers()] == [Phase.RUNNING] * 2
    assert "EvictionThresholdMet" in rig.notes.reasons()


async def test_pressure_keeps_new_pods_out(rig, pod_of):
    rig.start()
    rig.board.set_usage(**SHORT)
    await rig.until(lambda: "MemoryPressure" in conditions(rig) if rig.notes.nodes else False)
    best_effort = pod_of(name="besteffort", uid="uid-besteffort")
    rig.put(best_effort)
    await phase(rig, best_effort, "Failed")
    status = rig.notes.last("uid-besteffort")
    assert (status.reason, status.message) == (
        "Evicted",
        "Pod was rejected: The node had condition: [MemoryPressure]. ",
    )
    assert rig.containers() == []
    rig.board.set_usage(memory_available=2 * GI)
    burstable = pod_of(
        {"containers": [{"name": "main", "resources": {"requests": {"memory": "1Mi"}}}]},
        name="b",
        uid="uid-b",
    )
    await running(rig, burstable)


async def test_a_full_disk_is_freed_before_anybody_is_evicted(rig, pod_of):
    rig.start()
    pod = pod_of()
    await running(rig, pod)
    await rig.kubelet._host.images.ensure(
        core_v1.Container(name="x", image="example.org/big:1", image_pull_policy="Always"),
        (),
        lambda *_: None,
    )
    await asyncio.sleep(400)
    full = replace(USAGE, disk_available=GI)

    def usage():
        gone = all("example.org/big:1" not in image.info.names for image in rig.machine.images.values())
        return replace(full, disk_available=10 * GI) if gone else full

    rig.board.usage = usage
    await rig.until(lambda: usage().disk_available > GI, 60)
    await asyncio.sleep(60)
    assert rig.notes.last().phase == "Running"
    assert "Evicted" not in rig.notes.reasons()
    assert "DiskPressure" in conditions(rig)


async def test_a_full_disk_evicts_the_largest_user(rig, pod_of):
    rig.start()
    volumes = {"volumes": [{"name": "data", "emptyDir": {}}]}
    writer = pod_of(volumes, name="writer", uid="uid-writer")
    other = pod_of(name="other", uid="uid-other")
    for pod in (writer, other):
        await running(rig, pod)
    container_of(rig, "uid-other").layer = MI
    folder = rig.folder / "pods" / "default_writer_uid-writer" / ".volumes" / "data"
    (folder / "much").write_bytes(bytes(4 * MI))
    full = replace(USAGE, disk_available=GI)
    rig.board.usage = lambda: full if (folder / "much").exists() else USAGE
    await phase(rig, writer, "Failed")
    assert "low on resource: ephemeral-storage" in rig.notes.last("uid-writer").message
    await asyncio.sleep(60)
    assert rig.notes.last("uid-other").phase == "Running"
    assert not folder.exists()


async def test_an_empty_dir_over_its_limit_ends_its_pod(rig, pod_of):
    rig.start()
    pod = pod_of({"volumes": [{"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}]})
    await running(rig, pod)
    folder = rig.folder / "pods" / "default_web_uid-web" / ".volumes" / "data"
    await asyncio.sleep(200)
    assert rig.notes.last().phase == "Running"
    (folder / "much").write_bytes(bytes(2 * MI))
    await phase(rig, pod, "Failed", 120)
    assert rig.notes.last().reason == "Evicted"
    assert rig.notes.last().message == 'Usage of EmptyDir volume "data" exceeds the limit "1Mi". '


async def test_looking_costs_no_call_of_the_runtime_while_there_is_enough(rig, pod_of):
    rig.start()
    await running(rig, pod_of())
    await asyncio.sleep(30)
    rig.machine.failures["sizes"] = deque([RuntimeFailure("measured")])
    await asyncio.sleep(600)
    assert len(rig.machine.failures["sizes"]) == 1


# --- Admission ---


@pytest.mark.parametrize(
    ("spec", "reason", "message"),
    [
        (
            {"containers": [{"name": "main", "resources": {"requests": {"cpu": "4", "memory": "1Gi"}}}]},
            "OutOfcpu",
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 4000, used: 500, capacity: 4000",
        ),
        (
            {"containers": [{"name": "main", "resources": {"requests": {"memory": "5Gi"}}}]},
            "OutOfmemory",
            f"Pod was rejected: Node didn't have enough resource: memory, requested: {5 * GI}, used: 0, capacity: {4 * GI - 100 * MI}",
        ),
        (
            {"nodeSelector": {"disk": "ssd"}},
            "NodeAffinity",
            "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        ),
        (
            {"containers": [{"name": "main", "ports": [{"containerPort": 1, "hostPort": 80}]}]},
            "NodePorts",
            "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
        ),
        ({"os": {"name": "windows"}}, "PodOSNotSupported", "Pod was rejected: Failed to admit pod as the OS field doesn't match node OS"),
    ],
)  # fmt: skip
async def test_a_pod_that_does_not_fit_is_refused(rig, pod_of, spec, reason, message):
    rig.start()
    first = {
        "name": "main",
        "resources": {"requests": {"cpu": "500m"}},
        "ports": [{"containerPort": 1, "hostPort": 80}],
    }
    await running(rig, pod_of({"containers": [first]}, name="first", uid="uid-first"))
    pod = pod_of(spec)
    rig.put(pod)
    await phase(rig, pod, "Failed")
    assert (rig.notes.last().reason, rig.notes.last().message) == (reason, message)
    assert len(rig.containers()) == 1
    assert reason in rig.notes.reasons()


async def test_a_running_pod_is_not_asked_again(rig, pod_of):
    spec = {"containers": [{"name": "main", "resources": {"requests": {"cpu": "3"}}}]}
    rig.start()
    for name in ("a",):
        await running(rig, pod_of(spec, name=name, uid=f"uid-{name}"))
    await rig.stop()
    rig.settings["kube_reserved"] = {"cpu": "2"}
    rig.start()
    await asyncio.sleep(60)
    assert rig.notes.last("uid-a").phase == "Running"
    late = pod_of(spec, name="late", uid="uid-late")
    rig.put(late)
    await phase(rig, late, "Failed")


async def test_a_label_that_comes_after_its_pod_is_waited_for(rig, pod_of):
    rig.start()
    pod = pod_of({"nodeSelector": {"disk": "ssd"}})
    rig.put(pod)
    await asyncio.sleep(1)
    rig.mirror.nodes.set(
        msgspec.convert({"metadata": {"name": "pi", "labels": {"disk": "ssd"}}}, core_v1.Node)
    )
    await phase(rig, pod, "Running")


async def test_a_pod_that_ends_makes_room(rig, pod_of):
    spec = {"containers": [{"name": "main", "resources": {"requests": {"cpu": "3"}}}]}
    rig.start()
    first, second = (pod_of(spec, name=name, uid=f"uid-{name}") for name in ("first", "second"))
    await running(rig, first)
    rig.delete(first)
    await rig.until(lambda: "uid-first" in rig.notes.gone)
    await running(rig, second)


async def test_an_agent_killed_amid_an_eviction_finishes_it(rig, pod_of):
    rig.start()
    pod = pod_of({"containers": [{"name": "main", "image": "fake/stubborn"}]})
    await running(rig, pod)
    rig.board.set_usage(**SHORT)
    await rig.until(lambda: rig.notes.last().reason == "Evicted")
    assert rig.notes.last().phase == "Running"
    await rig.stop()
    rig.board.set_usage(memory_available=2 * GI)
    rig.start()
    await phase(rig, pod, "Failed")
    assert rig.notes.last().message.startswith("The node was low on resource: memory. ")
    assert any(c.type == "DisruptionTarget" for c in rig.notes.last().conditions)
    await asyncio.sleep(700)
    assert [i.phase for i in rig.containers()] == [Phase.EXITED]


async def test_a_pod_that_takes_its_time_to_go_is_hurried(rig, pod_of):
    rig.start()
    pod = pod_of({"containers": [{"name": "main", "image": "fake/stubborn"}]})
    await running(rig, pod)
    rig.delete(pod, grace=3600)
    await asyncio.sleep(5)
    rig.board.set_usage(**SHORT)
    await rig.until(lambda: "uid-web" in rig.notes.gone, 60)
    assert rig.notes.last().reason == "Evicted"


async def test_the_next_pod_is_spared_until_the_first_has_given_back_its_space(rig, pod_of):
    rig.start()
    volumes = {"volumes": [{"name": "data", "emptyDir": {}}]}
    for name in ("one", "two", "three"):
        await running(rig, pod_of(volumes, name=name, uid=f"uid-{name}"))
    files = [
        rig.folder / "pods" / f"default_{n}_uid-{n}" / ".volumes" / "data" / "much"
        for n in ("one", "two", "three")
    ]
    for size, path in enumerate(files, 1):
        path.write_bytes(bytes(size * MI))
    free = {3: GI, 2: 2 * GI, 1: 8 * GI}
    rig.board.usage = lambda: replace(USAGE, disk_available=free.get(sum(f.exists() for f in files), 20 * GI))
    await phase(rig, pod_of(name="two", uid="uid-two"), "Failed")
    await asyncio.sleep(120)
    assert [f.exists() for f in files] == [True, False, False]
    assert rig.notes.last("uid-one").phase == "Running"


async def test_a_lack_of_processes_evicts_by_priority(rig, pod_of):
    rig.settings["eviction"] = EvictionSettings(hard={"pid.available": "10%"})
    rig.start()
    important = pod_of({"priority": 1000}, name="important", uid="uid-important")
    plain = pod_of(name="plain", uid="uid-plain")
    for pod in (important, plain):
        await running(rig, pod)
    free = replace(USAGE, processes=100, processes_limit=1000)
    short = replace(free, processes=950)
    rig.board.usage = lambda: short if container_of(rig, "uid-plain").info.phase is Phase.RUNNING else free
    await phase(rig, plain, "Failed")
    await asyncio.sleep(60)
    assert (
        rig.notes.last("uid-plain").message
        == "The node was low on resource: pids. Threshold quantity: 100, available: 50. "
    )
    assert rig.notes.last("uid-important").phase == "Running"
    assert conditions(rig) == {"Ready", "PIDPressure"}


@pytest.mark.parametrize(
    ("short", "stays"), [({"disk_available": GI}, True), ({"image_disk_available": 1}, False)]
)
async def test_images_on_a_disk_of_their_own_go_only_when_that_is_short(rig, short, stays):
    rig.board.set_usage(
        image_disk_capacity=8 * GI, image_disk_available=4 * GI, image_inodes=1000, image_inodes_free=900
    )
    rig.start()
    await asyncio.sleep(1)
    container = core_v1.Container(name="x", image="example.org/big:1", image_pull_policy="Always")
    await rig.kubelet._host.images.ensure(container, (), lambda *_: None)
    await asyncio.sleep(200)
    rig.board.set_usage(**short)
    await asyncio.sleep(60)
    assert "DiskPressure" in conditions(rig)
    assert any("example.org/big:1" in image.info.names for image in rig.machine.images.values()) is stays
