"""
The agent dies at every single boundary of a pod's whole life; the next one must come to the same end.

Every call of the runtime, of its image store and of the network that changes something, before and after;
those that only look; every change to a file: not a sample. Each test goes on until a boundary is not
reached any more.
"""

import asyncio
import contextlib
import itertools
from pathlib import Path

import msgspec
import pytest

from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.node.mounts import unmount
from node.conftest import Rig, make_pod
from node.crash import CHANGES, LOOKS, Knife, Patient, PowerCut

pytestmark = [pytest.mark.looptime, pytest.mark.timeout(180)]

PLAIN = {"containers": [{"name": "one"}, {"name": "two"}]}
ORDERED = {
    "initContainers": [
        {"name": "first", "image": "fake/exit:0"},
        {"name": "side", "restartPolicy": "Always"},
        {"name": "second", "image": "fake/exit:0"},
    ],
    "containers": [{"name": "one"}],
}
FILLED = {
    "volumes": [
        {"name": "scratch", "emptyDir": {}},
        {"name": "config", "configMap": {"name": "settings"}},
        {"name": "secret", "secret": {"secretName": "login"}},
        {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}, {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}},
    ],
    "containers": [
        {"name": "one", "volumeMounts": [{"name": n, "mountPath": f"/{n}"} for n in ("scratch", "config", "secret", "token")]}
    ],
}  # fmt: skip
HOOKED = {
    "containers": [
        {
            "name": "one",
            "lifecycle": {
                "postStart": {"exec": {"command": ["sh", "-c", "sleep 1"]}},
                "preStop": {"exec": {"command": ["sh", "-c", "sleep 1"]}},
            },
            "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
        }
    ]
}
FLAKY = {"containers": [{"name": "one", "command": ["flaky"]}]}
SMALL = {"requests": {"cpu": "100m", "memory": "64Mi"}}
LARGE = {"requests": {"cpu": "200m", "memory": "96Mi"}}
SIZED = {"containers": [{"name": "one", "resources": SMALL}]}
JOB = {"restartPolicy": "Never", "containers": [{"name": "one", "image": "fake/exit:0"}]}


def running(rig, **restarts):
    """Tell whether every container runs and is ready, each having been restarted that often."""
    if "uid-web" not in rig.notes.statuses or rig.notes.last().phase != "Running":
        return False
    status = rig.notes.last()
    return all(c.ready and c.restart_count == restarts.get(c.name, 0) for c in status.container_statuses)


def names(rig):
    """Return the containers there are, by name and attempt."""
    found = (i.labels for i in rig.containers())
    return sorted(f"{one['edgekube.io/container-name']}-{one['edgekube.io/attempt']}" for one in found)


async def lives(patient, spec, wanted, **restarts):
    """Run a pod until it is ready, and let it be for a while."""
    rig = patient.rig
    rig.put(make_pod(spec))
    await patient.until(lambda: running(rig, **restarts))
    await patient.sleep(3)
    assert running(rig, **restarts)
    assert names(rig) == sorted(wanted)
    assert len(await rig.network.list()) == 1


async def plain(patient):
    await lives(patient, PLAIN, ["one-0", "two-0"])


async def ordered(patient):
    await lives(patient, ORDERED, ["first-0", "one-0", "second-0", "side-0"])
    statuses = patient.rig.notes.last().init_container_statuses
    assert [s.restart_count for s in statuses] == [0, 0, 0]


async def filled(patient):
    await lives(patient, FILLED, ["one-0"])
    folder = patient.rig.folder / "pods/default_web_uid-web/.volumes"
    found = {p: (folder / p).read_text() for p in ("config/a", "secret/pw", "token/token")}
    assert (found["config/a"], found["secret/pw"]) == ("1", "hush")
    assert found["token/token"].startswith("token-")
    tree = {
        "metadata": {"name": "settings", "namespace": "default", "resourceVersion": "99"},
        "data": {"a": "2", "b": "3"},
    }
    patient.rig.mirror.config_maps.set(msgspec.convert(tree, core_v1.ConfigMap))
    await patient.until(lambda: (folder / "config/a").read_text() == "2")
    await patient.sleep(3)
    assert (folder / "config/b").read_text() == "3"
    left = [path.name for path in (folder / "config").iterdir() if path.name.startswith("..20")]
    assert len(left) == 1, "what is half written is cleaned up"


async def hooked(patient):
    await lives(patient, HOOKED, ["one-0"])


async def flaky(patient):
    await lives(patient, FLAKY, ["one-0", "one-1"], one=1)
    last = patient.rig.notes.last().container_statuses[0].last_state.terminated
    assert last.exit_code == 3


async def resized(patient):
    await lives(patient, SIZED, ["one-0"])
    rig = patient.rig
    rig.put(make_pod({"containers": [{"name": "one", "resources": LARGE}]}, generation=2))

    def has():
        resources = rig.notes.last().container_statuses[0].resources
        return resources is not None and resources.requests == LARGE["requests"]

    await patient.until(has)
    assert names(rig) == ["one-0"]
    (container,) = rig.machine.containers.values()
    assert container.spec.limits.cpu_shares == 204


async def job(patient):
    rig = patient.rig
    rig.put(make_pod(JOB))
    await patient.until(lambda: "uid-web" in rig.notes.statuses and rig.notes.last().phase == "Succeeded")
    await patient.sleep(3)
    assert rig.notes.last().phase == "Succeeded"
    assert names(rig) == ["one-0"]
    assert await rig.network.list() == []


async def visited(patient):
    visitor = {"name": "visitor", "image": "fake/sleep", "targetContainerName": "one"}
    await lives(patient, PLAIN, ["one-0", "two-0"])
    rig = patient.rig
    rig.put(make_pod({**PLAIN, "ephemeralContainers": [visitor]}, generation=2))
    await patient.until(lambda: any(s.state.running for s in rig.notes.last().ephemeral_container_statuses))
    await patient.sleep(3)
    assert names(rig) == ["one-0", "two-0", "visitor-0"]


SCENES = {s.__name__: s for s in (plain, ordered, filled, hooked, flaky, resized, job, visited)}


def furnish(rig):
    """Give the node what the pods use."""
    secret = {"metadata": {"name": "login", "namespace": "default"}, "data": {"pw": "aHVzaA=="}}
    rig.mirror.secrets.set(msgspec.convert(secret, core_v1.Secret))
    settings = {"metadata": {"name": "settings", "namespace": "default"}, "data": {"a": "1"}}
    rig.mirror.config_maps.set(msgspec.convert(settings, core_v1.ConfigMap))
    runs = itertools.count()

    async def once(process, words, channel):
        if next(runs) == 0:
            await asyncio.sleep(2)
            return 3
        process.traps["SIGTERM"] = "exit 0"
        await asyncio.sleep(10**9)
        return 0

    rig.machine.programs["flaky"] = once
    rig.token_expiry = "2033-11-14T23:13:20Z"


async def end(patient):
    """Delete the pod; nothing of it may be left."""
    rig = patient.rig
    rig.delete(make_pod(PLAIN))
    await patient.until(lambda: rig.notes.gone)
    rig.mirror.pods.drop(Key("default", "web"))
    # What an agent could not finish, the next one's sweep does.
    await patient.until(lambda: rig.machine.containers == {} and not left(rig))
    assert await rig.network.list() == []
    assert rig.notes.last().phase in ("Succeeded", "Failed")
    await patient.sleep(3)
    assert rig.machine.containers == {}


def left(rig):
    """Return what is on the disk of the pod."""
    found = [*(rig.folder / "pods").glob("*"), *(rig.folder / "pod-status").glob("*.json")]
    return [*found, *(rig.folder / "cgroup").glob("**/pod*")]


async def survive(scene, folder, knife, calls, *, tmpfs=False):
    """Live a whole life with one death in it; tell whether there was one."""
    rig = Rig(folder, tmpfs=tmpfs)
    furnish(rig)
    patient = Patient(rig, knife, calls)
    rig.start()
    try:
        await scene(patient)
        await end(patient)
        assert len(knife.starts) == len(set(knife.starts)), "no container is started twice"
    finally:
        with contextlib.suppress(PowerCut, BaseExceptionGroup):
            await rig.stop()
        rig.machine.power_off()
        await asyncio.sleep(0.1)
    return knife.fell


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("scene", SCENES)
async def test_every_call_survives_the_agents_death(tmp_path, scene, after):
    for at in itertools.count(1):
        if not await survive(SCENES[scene], tmp_path / str(at), Knife(at, after=after), CHANGES):
            break
    assert at > 6


async def test_every_look_survives_the_agents_death(tmp_path):
    for at in itertools.count(1):
        if not await survive(ordered, tmp_path / str(at), Knife(at, after=False), LOOKS):
            break
    assert at > 15


@pytest.mark.parametrize("scene", ["plain", "filled", "resized", "job"])
async def test_every_change_to_a_file_survives_the_agents_death(tmp_path, monkeypatch, scene):
    for at in itertools.count(1):
        folder, knife = tmp_path / str(at), Knife(at, after=False)
        folder.mkdir()
        with knife.over_files(folder, monkeypatch):
            if not await survive(SCENES[scene], folder, knife, {}):
                break
    assert at > 15


@pytest.mark.root
async def test_no_mount_is_left_wherever_the_agent_dies(tmp_path, monkeypatch):
    for at in itertools.count(1):
        folder, knife = tmp_path / str(at), Knife(at, after=False)
        folder.mkdir()
        try:
            with knife.over_files(folder, monkeypatch):
                died = await survive(filled, folder, knife, {}, tmpfs=True)
            assert mounts(folder) == []
        finally:
            for mount in mounts(folder):
                unmount(mount)
        if not died:
            break
    assert at > 15


def mounts(folder):
    """Return what is mounted below a folder."""
    points = (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())
    return [Path(point) for point in points if point.startswith(f"{folder}/")]
