"""Whole lives of pods on the in-memory adapters, in virtual time."""

import asyncio
import base64
import json
import shutil

import msgspec
import pytest

from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.runtime.archive import write_archive
from edgekube.runtime.base import HalfStarted, InvalidSpec, RuntimeFailure

pytestmark = pytest.mark.looptime


def condition(status, kind):
    return next(c for c in status.conditions if c.type == kind)


def config_map(rig, name, **data):
    tree = {
        "metadata": {"name": name, "namespace": "default", "resourceVersion": str(next(rig.versions))},
        "data": data,
    }
    rig.mirror.config_maps.set(msgspec.convert(tree, core_v1.ConfigMap))


async def running(rig, pod):
    rig.put(pod)
    uid = pod.metadata.uid
    await rig.until(lambda: uid in rig.notes.statuses and rig.notes.last(uid).phase == "Running")


async def test_a_pod_runs(rig, pod_of):
    rig.start()
    await running(rig, pod_of())
    status = rig.notes.last()
    assert status.pod_ip == "127.8.0.2"
    assert status.host_ip == "127.0.0.1"
    assert [c.type for c in status.conditions if c.status == "True"] == [
        "PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady",
    ]  # fmt: skip
    assert status.container_statuses[0].state.running is not None
    assert status.container_statuses[0].container_id.startswith("podman://")
    assert (status.container_statuses[0].ready, status.container_statuses[0].started) == (True, True)
    assert status.qos_class == "BestEffort"
    assert status.observed_generation == 1
    assert rig.notes.reasons() == ["Pulling", "Pulled", "Created", "Started"]
    assert rig.notes.events[-1].field_path == "spec.containers{main}"


async def test_a_running_pod_costs_nothing(rig, pod_of):
    rig.start()
    await running(rig, pod_of())
    before = len(rig.notes.statuses["uid-web"])
    await asyncio.sleep(3600)
    assert len(rig.notes.statuses["uid-web"]) == before
    assert len(rig.machine.containers) == 1


async def test_init_containers_go_first_in_order(rig, pod_of):
    init = [{"name": f"init-{i}", "image": "fake/x", "command": ["sh", "-c", "sleep 5"]} for i in (1, 2)]
    rig.start()
    rig.put(pod_of({"initContainers": init}))
    await rig.until(lambda: rig.containers(name="init-2"))
    assert rig.containers(name="main") == []
    pending = rig.notes.last()
    assert pending.phase == "Pending"
    assert condition(pending, "Initialized").reason == "ContainersNotInitialized"
    assert pending.container_statuses[0].state.waiting.reason == "PodInitializing"
    await rig.until(lambda: rig.notes.last().phase == "Running")
    assert [s.state.terminated.reason for s in rig.notes.last().init_container_statuses] == ["Completed"] * 2


async def test_a_failed_init_container_fails_a_pod_that_never_restarts(rig, pod_of):
    init = [{"name": "init", "image": "fake/exit:3"}]
    rig.start()
    rig.put(pod_of({"restartPolicy": "Never", "initContainers": init}))
    await rig.until(lambda: "uid-web" in rig.notes.statuses and rig.notes.last().phase == "Failed")
    assert rig.containers(name="main") == []
    assert rig.notes.last().init_container_statuses[0].state.terminated.exit_code == 3


async def test_a_sidecar_starts_before_and_stops_after(rig, pod_of):
    spec = {
        "restartPolicy": "Never",
        "initContainers": [{"name": "side", "restartPolicy": "Always"}],
        "containers": [{"name": "main", "command": ["sh", "-c", "sleep 5"]}],
    }
    rig.start()
    await running(rig, pod_of(spec))
    assert rig.containers(name="side")[0].phase.value == "running"
    await rig.until(lambda: rig.notes.last().phase == "Succeeded")
    assert rig.containers(name="side")[0].phase.value == "exited"


@pytest.mark.parametrize(
    ("policy", "image", "phase"),
    [
        ("Never", "fake/exit:0", "Succeeded"),
        ("Never", "fake/exit:1", "Failed"),
        ("OnFailure", "fake/exit:0", "Succeeded"),
    ],
)
async def test_a_pod_ends(rig, pod_of, policy, image, phase):
    rig.start()
    rig.put(pod_of({"restartPolicy": policy, "containers": [{"name": "main", "image": image}]}))
    await rig.until(lambda: "uid-web" in rig.notes.statuses and rig.notes.last().phase == phase)
    await asyncio.sleep(700)
    assert rig.notes.last().phase == phase
    assert len(rig.containers()) == 1
    assert await rig.network.list() == []
    assert condition(rig.notes.last(), "Ready").status == "False"


async def test_crash_back_off_doubles_and_says_so(rig, pod_of):
    rig.start()
    rig.put(pod_of({"containers": [{"name": "main", "image": "fake/exit:1"}]}))
    await asyncio.sleep(900)
    begun = {}
    for event in rig.notes.events:
        assert event.reason in {"Pulling", "Pulled", "Created", "Started", "BackOff"}
    for status in rig.notes.statuses["uid-web"]:
        state = status.container_statuses[0].state
        if state.waiting and state.waiting.reason == "CrashLoopBackOff":
            begun.setdefault(status.container_statuses[0].restart_count, state.waiting.message.split()[1])
    assert begun == {1: "10s", 2: "20s", 3: "40s", 4: "1m20s", 5: "2m40s", 6: "5m0s", 7: "5m0s"}
    last = rig.notes.last().container_statuses[0]
    assert last.last_state.terminated.exit_code == 1
    assert last.last_state.terminated.reason == "Error"
    assert len(rig.containers()) == 2


async def test_a_long_run_forgets_the_back_off(rig, pod_of):
    rig.start()
    rig.put(pod_of({"containers": [{"name": "main", "command": ["sh", "-c", "sleep 601; exit 1"]}]}))
    await asyncio.sleep(4 * 602)
    assert rig.notes.last().container_statuses[0].restart_count >= 3
    assert "BackOff" not in rig.notes.reasons()


async def test_oom_is_named(rig, pod_of):
    rig.start()
    await running(rig, pod_of({"restartPolicy": "Never"}))
    rig.machine.oom_kill(rig.containers()[0].id)
    await rig.until(lambda: rig.notes.last().phase == "Failed")
    assert rig.notes.last().container_statuses[0].state.terminated.reason == "OOMKilled"


async def test_an_image_that_cannot_be_had(rig, pod_of):
    rig.start()
    rig.put(pod_of({"containers": [{"name": "main", "image": "127.0.0.1:1/x"}]}))
    await asyncio.sleep(5)
    reasons = [s.container_statuses[0].state.waiting.reason for s in rig.notes.statuses["uid-web"]]
    assert list(dict.fromkeys(reasons)) == ["ContainerCreating", "ErrImagePull", "ImagePullBackOff"]
    await asyncio.sleep(600)
    assert 5 <= len(rig.machine.pulls) <= 7
    del rig.machine.pull_errors["127.0.0.1:1"]
    await rig.until(lambda: rig.notes.last().phase == "Running", seconds=301)


@pytest.mark.parametrize("policy", ["IfNotPresent", "Never"])
async def test_an_image_dropped_on_the_disk_a_moment_ago(rig, pod_of, policy):
    rig.start()
    await asyncio.sleep(1)
    folder = rig.config().images_dir
    folder.mkdir(parents=True, exist_ok=True)
    write_archive(folder / "late.tar", "localhost/late:1")
    rig.put(
        pod_of({"containers": [{"name": "main", "image": "localhost/late:1", "imagePullPolicy": policy}]})
    )
    await rig.until(
        lambda: "uid-web" in rig.notes.statuses and rig.notes.last().phase == "Running", seconds=5
    )
    assert rig.machine.pulls == []


async def test_never_pull(rig, pod_of):
    rig.start()
    rig.put(pod_of({"containers": [{"name": "main", "image": "fake/x", "imagePullPolicy": "Never"}]}))
    await asyncio.sleep(1)
    assert rig.notes.last().container_statuses[0].state.waiting.reason == "ErrImageNeverPull"
    assert rig.machine.pulls == []


async def test_a_missing_config_map_and_its_coming(rig, pod_of):
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}}]
    rig.start()
    rig.put(pod_of({"containers": [{"name": "main", "env": env}]}))
    await asyncio.sleep(1)
    waiting = rig.notes.last().container_statuses[0].state.waiting
    assert (waiting.reason, waiting.message) == (
        "CreateContainerConfigError",
        'configmap "settings" not found',
    )
    config_map(rig, "settings", a="1")
    await rig.until(lambda: rig.notes.last().phase == "Running", seconds=1)
    (container,) = rig.machine.containers.values()
    assert container.spec.env["A"] == "1"


async def test_a_missing_volume_source_and_its_coming(rig, pod_of):
    spec = {
        "volumes": [{"name": "v", "configMap": {"name": "settings"}}],
        "containers": [{"name": "main", "volumeMounts": [{"name": "v", "mountPath": "/etc/v"}]}],
    }
    rig.start()
    rig.put(pod_of(spec))
    await asyncio.sleep(1)
    assert "FailedMount" in rig.notes.reasons()
    assert rig.notes.last().container_statuses[0].state.waiting.reason == "ContainerCreating"
    config_map(rig, "settings", a="1")
    await rig.until(lambda: rig.notes.last().phase == "Running", seconds=1)
    path = rig.folder / "pods/default_web_uid-web/.volumes/v/a"
    assert path.read_text() == "1"
    config_map(rig, "settings", a="2")
    await rig.until(lambda: path.read_text() == "2", seconds=1)
    assert len(rig.machine.containers) == 1


async def test_create_errors(rig, pod_of):
    rig.machine.fail("create", InvalidSpec("no such device"))
    rig.start()
    rig.put(pod_of())
    await asyncio.sleep(1)
    waiting = rig.notes.last().container_statuses[0].state.waiting
    assert (waiting.reason, waiting.message) == ("CreateContainerError", "no such device")
    await rig.until(lambda: rig.notes.last().phase == "Running", seconds=12)


async def test_start_errors_crash_loop(rig, pod_of):
    for _ in range(2):
        rig.machine.fail("start", RuntimeFailure("executable not found"))
    rig.start()
    rig.put(pod_of())
    await asyncio.sleep(1)
    status = rig.notes.last().container_statuses[0]
    assert (status.state.waiting.reason, status.state.waiting.message) == (
        "RunContainerError",
        "executable not found",
    )
    await asyncio.sleep(4)
    status = rig.notes.last().container_statuses[0]
    assert status.state.waiting.reason == "CrashLoopBackOff"
    assert status.last_state.terminated.reason == "StartError"
    await rig.until(
        lambda: rig.notes.last().phase == "Running" and rig.notes.last().container_statuses[0].ready
    )


async def test_a_start_that_was_cut_short_is_no_restart(rig, pod_of):
    rig.machine.fail("start", HalfStarted("container already exists"))
    rig.start()
    await running(rig, pod_of({"restartPolicy": "Never"}))
    assert rig.notes.last().container_statuses[0].restart_count == 0
    assert [i.name.rpartition("_")[2] for i in rig.containers()] == ["0"]


async def test_a_start_error_fails_a_pod_that_never_restarts(rig, pod_of):
    rig.machine.fail("start", RuntimeFailure("executable not found"))
    rig.start()
    rig.put(pod_of({"restartPolicy": "Never"}))
    await rig.until(lambda: "uid-web" in rig.notes.statuses and rig.notes.last().phase == "Failed")
    assert rig.notes.last().container_statuses[0].state.terminated.exit_code == 128


async def test_deletion_leaves_nothing(rig, pod_of):
    pod = pod_of({"volumes": [{"name": "v", "emptyDir": {}}]})
    rig.start()
    await running(rig, pod)
    assert (rig.folder / "pods/default_web_uid-web/.volumes/v").is_dir()
    rig.delete(pod)
    await rig.until(lambda: rig.notes.gone == ["uid-web"])
    assert rig.machine.containers == {}
    assert await rig.network.list() == []
    assert list((rig.folder / "pods").iterdir()) == []
    assert rig.notes.last().phase == "Succeeded"
    assert "Killing" in rig.notes.reasons()
    # It stays gone, though the mirror still has it, and leaves with it.
    await asyncio.sleep(100)
    assert rig.machine.containers == {}
    rig.mirror.pods.drop(Key("default", "web"))
    rig.put(pod_of(uid="uid-2"))
    await rig.until(lambda: "uid-2" in rig.notes.statuses and rig.notes.last("uid-2").phase == "Running")


async def test_grace_then_kill(rig, pod_of):
    pod = pod_of({"containers": [{"name": "main", "image": "fake/stubborn"}]})
    rig.start()
    await running(rig, pod)
    rig.delete(pod, grace=20)
    begun = rig.now()
    await rig.until(lambda: rig.notes.gone)
    assert 20 <= rig.now() - begun < 21
    killed = [s.container_statuses[0].state.terminated for s in rig.notes.statuses["uid-web"]][-1]
    assert killed.exit_code == 137
    assert rig.notes.last().phase == "Failed"


async def test_a_shorter_grace_hurries(rig, pod_of):
    pod = pod_of({"containers": [{"name": "main", "image": "fake/stubborn"}]})
    rig.start()
    await running(rig, pod)
    begun = rig.now()
    rig.delete(pod, grace=300)
    await asyncio.sleep(1)
    rig.delete(pod, grace=0)
    await rig.until(lambda: rig.notes.gone)
    assert rig.now() - begun < 5


async def test_containers_stop_at_once_together(rig, pod_of):
    pod = pod_of({"containers": [{"name": n, "image": "fake/stubborn"} for n in ("a", "b", "c")]})
    rig.start()
    await running(rig, pod)
    begun = rig.now()
    rig.delete(pod, grace=10)
    await rig.until(lambda: rig.notes.gone)
    assert rig.now() - begun < 11


async def test_pre_stop_takes_from_the_grace(rig, pod_of):
    container = {
        "name": "main",
        "image": "fake/stubborn",
        "lifecycle": {"preStop": {"sleep": {"seconds": 6}}},
    }
    pod = pod_of({"containers": [container]})
    rig.start()
    await running(rig, pod)
    begun = rig.now()
    rig.delete(pod, grace=10)
    await rig.until(lambda: rig.notes.gone)
    assert 10 <= rig.now() - begun < 11


async def test_a_failing_post_start_restarts(rig, pod_of):
    hook = {"postStart": {"exec": {"command": ["sh", "-c", "exit 4"]}}}
    rig.start()
    rig.put(pod_of({"containers": [{"name": "main", "lifecycle": hook}]}))
    await rig.until(lambda: "FailedPostStartHook" in rig.notes.reasons())
    await rig.until(lambda: rig.notes.last().container_statuses[0].restart_count == 1)


async def test_deletion_does_not_wait_for_a_pull(rig, pod_of):
    pod = pod_of()
    hanging = asyncio.Event()

    class SlowImages:
        def __init__(self, images):
            self.images = images

        def __getattr__(self, name):
            return getattr(self.images, name)

        async def pull(self, image, credentials=None):
            hanging.set()
            await asyncio.Event().wait()

    def wrap(runtime):
        runtime.images = SlowImages(runtime.images)
        return runtime

    rig.runtime_wrapper = wrap
    rig.start()
    rig.put(pod)
    await hanging.wait()
    rig.delete(pod)
    await rig.until(lambda: rig.notes.gone, seconds=2)


async def test_a_force_deleted_pod_is_killed(rig, pod_of):
    rig.start()
    await running(rig, pod_of())
    rig.mirror.pods.drop(Key("default", "web"))
    await rig.until(lambda: not rig.machine.containers)
    await rig.until(lambda: not list((rig.folder / "pods").iterdir()))


async def test_a_pod_that_was_away_for_a_moment_lives_on(rig, pod_of):
    rig.start()
    await running(rig, pod_of())
    pod = rig.mirror.pods.get(Key("default", "web"))
    rig.mirror.pods.drop(Key("default", "web"))
    rig.mirror.pods.set(pod)
    await asyncio.sleep(100)
    assert rig.notes.last().phase == "Running"
    assert rig.notes.last().container_statuses[0].restart_count == 0


async def test_orphans_go_only_when_the_mirror_is_complete(rig, pod_of):
    rig.start()
    await running(rig, pod_of())
    await rig.stop()
    rig.mirror.pods.drop(Key("default", "web"))
    rig.mirror.pods.synced.clear()
    rig.start()
    await asyncio.sleep(300)
    assert len(rig.machine.containers) == 1
    rig.mirror.pods.synced.set()
    await rig.until(lambda: not rig.machine.containers)
    await rig.until(lambda: not list((rig.folder / "pods").iterdir()))
    assert await rig.network.list() == []


async def test_an_agent_restart_touches_nothing(rig, pod_of):
    rig.start()
    await running(rig, pod_of())
    before, reported = rig.containers(), rig.notes.last()
    await rig.stop()
    rig.notes.statuses.clear()
    await asyncio.sleep(100)
    rig.start()
    await asyncio.sleep(120)
    assert rig.containers() == before
    assert rig.notes.statuses == {"uid-web": [reported]}, "told once more, since it may have been lost"


async def test_a_pod_that_ended_stays_ended_over_restarts(rig, pod_of):
    rig.start()
    rig.put(pod_of({"restartPolicy": "Never", "containers": [{"name": "main", "image": "fake/exit:0"}]}))
    await rig.until(lambda: rig.notes.statuses and rig.notes.last().phase == "Succeeded")
    reported = rig.notes.last()
    await rig.stop()
    for container in tuple(rig.machine.containers):
        del rig.machine.containers[container]
    rig.start()
    await asyncio.sleep(100)
    assert rig.machine.containers == {}
    assert rig.notes.last() == reported


async def test_a_terminal_pod_unknown_here_is_not_talked_about(rig, pod_of):
    pod = msgspec.structs.replace(pod_of(), status=core_v1.PodStatus(phase="Failed"))
    rig.start()
    rig.put(pod)
    await asyncio.sleep(10)
    rig.delete(pod)
    await rig.until(lambda: rig.notes.gone)
    assert rig.notes.statuses == {}
    assert rig.machine.containers == {}


async def test_readiness_gates_decide(rig, pod_of):
    pod = pod_of({"readinessGates": [{"conditionType": "example.com/lb"}]})
    rig.start()
    await running(rig, pod)
    assert condition(rig.notes.last(), "Ready").reason == "ReadinessGatesNotReady"
    gate = core_v1.PodCondition(type="example.com/lb", status="True")
    rig.put(msgspec.structs.replace(pod, status=core_v1.PodStatus(conditions=(gate,))))
    await rig.until(lambda: condition(rig.notes.last(), "Ready").status == "True")
    assert "example.com/lb" not in [c.type for c in rig.notes.last().conditions]


async def test_what_died_while_the_agent_was_away_is_started_anew(rig, pod_of):
    rig.start()
    await running(rig, pod_of())
    await rig.stop()
    rig.machine.end(rig.containers()[0].id, 1)
    await asyncio.sleep(1)
    rig.start()
    await rig.until(lambda: rig.notes.last().container_statuses[0].restart_count == 1)
    assert rig.notes.last().container_statuses[0].last_state.terminated.exit_code == 1


async def test_a_lost_event_is_made_up_by_the_relist(rig, pod_of):
    async def silence():
        await asyncio.Event().wait()
        yield

    def wrap(runtime):
        runtime.containers.events = silence
        return runtime

    rig.runtime_wrapper = wrap
    rig.start()
    await running(rig, pod_of())
    rig.machine.end(rig.containers()[0].id, 1)
    await rig.until(lambda: rig.notes.last().container_statuses[0].restart_count == 1, seconds=70)


async def test_the_runtime_goes_away_and_comes_back(rig, pod_of):
    rig.start()
    await running(rig, pod_of())
    rig.machine.down = True
    rig.put(pod_of(name="other", uid="uid-other"))
    await asyncio.sleep(60)
    assert len(rig.machine.containers) == 1
    rig.machine.down = False
    await rig.until(
        lambda: "uid-other" in rig.notes.statuses and rig.notes.last("uid-other").phase == "Running", 70
    )
    assert rig.notes.last().container_statuses[0].restart_count == 0


async def test_active_deadline(rig, pod_of):
    rig.start()
    await running(rig, pod_of({"activeDeadlineSeconds": 100}))
    await rig.until(lambda: rig.notes.last().phase == "Failed", seconds=110)
    assert rig.notes.last().reason == "DeadlineExceeded"
    assert rig.notes.last().container_statuses[0].state.terminated is not None


async def test_a_new_image_restarts_the_container(rig, pod_of):
    rig.start()
    await running(rig, pod_of())
    rig.put(pod_of({"containers": [{"name": "main", "image": "fake/sleep:2"}]}))
    await rig.until(lambda: rig.notes.last().container_statuses[0].restart_count == 1)
    assert rig.containers()[-1].image == "fake/sleep:2"


async def test_host_network_pods_start_before_the_network(rig, pod_of):
    opened = asyncio.Event()

    rig.start()
    await rig.stop()

    async def wait_open():
        await opened.wait()
        return rig.network

    rig.start()
    rig.kubelet._open_network = wait_open
    rig.put(pod_of())
    rig.put(pod_of({"hostNetwork": True}, name="host", uid="uid-host"))
    await rig.until(
        lambda: "uid-host" in rig.notes.statuses and rig.notes.last("uid-host").phase == "Running"
    )
    assert rig.notes.last("uid-host").pod_ip == "127.0.0.1"
    assert rig.notes.last().phase == "Pending"
    ready = {c.type: c for c in rig.notes.nodes[-1].status.conditions}["Ready"]
    assert (ready.status, ready.reason) == ("False", "KubeletNotReady")
    opened.set()
    await rig.until(lambda: rig.notes.last().phase == "Running")
    ready = {c.type: c for c in rig.notes.nodes[-1].status.conditions}["Ready"]
    assert (ready.status, ready.reason) == ("True", "KubeletReady")


async def test_termination_messages(rig, pod_of):
    containers = [
        {"name": "file", "command": ["sh", "-c", "sleep 1"]},
        {"name": "log", "command": ["sh", "-c", "echo went wrong; exit 1"], "terminationMessagePolicy": "FallbackToLogsOnError"},
    ]  # fmt: skip
    rig.start()
    await running(rig, pod_of({"restartPolicy": "Never", "containers": containers}))
    (rig.folder / "pods/default_web_uid-web/.termination/file.0").write_text("bye")
    await rig.until(lambda: rig.notes.last().phase == "Failed")
    assert [s.state.terminated.message for s in rig.notes.last().container_statuses] == [
        "bye",
        "went wrong\n",
    ]


async def test_a_token_is_rotated(rig, pod_of):
    source = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}
    spec = {
        "serviceAccountName": "robot",
        "volumes": [{"name": "v", "projected": {"sources": [source]}}],
        "containers": [{"name": "main", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
    }
    rig.start()
    await running(rig, pod_of(spec))
    path = rig.folder / "pods/default_web_uid-web/.volumes/v/token"
    assert path.read_text() == "token-1"
    assert rig.notes.tokens == [(Key("default", "robot"), "", 3600)]
    await asyncio.sleep(2870)
    assert path.read_text() == "token-1"
    await asyncio.sleep(20)
    assert path.read_text() == "token-2"


async def test_without_its_master_a_node_goes_on_with_old_pods_only(rig, pod_of):
    source = {"serviceAccountToken": {"path": "token"}}
    spec = {
        "volumes": [{"name": "v", "projected": {"sources": [source]}}],
        "containers": [{"name": "main", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
    }
    rig.start()
    await running(rig, pod_of(spec))
    await rig.stop()
    rig.machine.power_off()
    shutil.rmtree(rig.folder / "pods/default_web_uid-web/.volumes")
    rig.notes.offline = True
    rig.start()
    rig.put(pod_of(spec, name="new", uid="uid-new"))
    await rig.until(lambda: rig.notes.last().container_statuses[0].restart_count == 1)
    await asyncio.sleep(30)
    assert rig.notes.last().phase == "Running"
    assert rig.notes.last("uid-new").phase == "Pending"
    rig.notes.offline = False
    await rig.until(lambda: rig.notes.last("uid-new").phase == "Running", seconds=200)
    await asyncio.sleep(20)
    assert (rig.folder / "pods/default_web_uid-web/.volumes/v/token").read_text().startswith("token-")


async def test_pull_secrets_reach_the_runtime(rig, pod_of):
    seen = []
    auth = {"auths": {"registry.lan:5000": {"auth": base64.b64encode(b"me:pw").decode()}}}
    data = {".dockerconfigjson": base64.b64encode(json.dumps(auth).encode()).decode()}
    secret = {"metadata": {"name": "login", "namespace": "default"}, "data": data}
    rig.mirror.secrets.set(msgspec.convert(secret, core_v1.Secret))

    def wrap(runtime):
        pull = runtime.images.pull

        async def noted(image, credentials=None):
            seen.append(credentials)
            return await pull(image, credentials)

        runtime.images.pull = noted
        return runtime

    rig.runtime_wrapper = wrap
    rig.start()
    container = {"name": "main", "image": "registry.lan:5000/app"}
    await running(rig, pod_of({"imagePullSecrets": [{"name": "login"}], "containers": [container]}))
    assert [(c.username, c.password) for c in seen] == [("me", "pw")]


async def test_stats_and_node(rig, pod_of):
    rig.start()
    await running(rig, pod_of())
    await asyncio.sleep(61)
    (pod,) = rig.notes.summaries[-1]["pods"]
    assert pod["podRef"] == {"name": "web", "namespace": "default", "uid": "uid-web"}
    assert pod["containers"][0]["cpu"]["usageNanoCores"] == pytest.approx(10_000_000, rel=0.01)
    node = rig.notes.nodes[-1]
    assert node.status.capacity == {
        "cpu": "4",
        "memory": "4194304Ki",
        "ephemeral-storage": "33554432Ki",
        "pods": "110",
    }
    assert node.metadata.labels["kubernetes.io/hostname"] == "pi"
    sent = len(rig.notes.nodes)
    await asyncio.sleep(1000)
    assert 3 <= len(rig.notes.nodes) - sent <= 4
