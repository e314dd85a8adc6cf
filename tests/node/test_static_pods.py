"""Static pods and their mirrors: files, whole lives without a master, and what is refused."""

import asyncio
import json
import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.types import core_v1
from edgekube.node.manifest import BadManifest, read_manifest
from edgekube.runtime.base import Phase

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  priorityClassName: system-node-critical
  containers:
  - name: main
    image: fake/sleep
    resources: {requests: {cpu: 0.5}}
    ports: [{containerPort: 80, hostPort: 8080}]
"""


def read(text, path="/m/web.yaml", node="pi"):
    return read_manifest(text.encode(), path=path, node=node, now=1e9)


def test_a_manifest_becomes_the_pod_the_api_would_have():
    pod = read(POD)
    meta, spec = pod.metadata, pod.spec
    assert (meta.name, meta.namespace, spec.node_name) == ("web-pi", "default", "pi")
    assert meta.annotations == {
        "kubernetes.io/config.hash": meta.uid, "kubernetes.io/config.seen": "2001-09-09T01:46:40Z",
        "kubernetes.io/config.source": "file",
    }  # fmt: skip
    assert spec.tolerations[-1] == core_v1.Toleration(operator="Exists", effect="NoExecute")
    assert spec.containers[0].resources.requests == {"cpu": "500m"}
    assert (spec.restart_policy, spec.dns_policy) == ("Always", "ClusterFirst")
    assert (spec.containers[0].termination_message_path, spec.priority) == (
        "/dev/termination-log",
        2_000_001_000,
    )


def test_the_uid_is_the_files_and_the_nodes():
    assert read(POD).metadata.uid == read(POD).metadata.uid
    others = {
        read(POD + "# x\n").metadata.uid,
        read(POD, path="/m/y").metadata.uid,
        read(POD, node="b").metadata.uid,
    }
    assert len(others | {read(POD).metadata.uid}) == 4


def test_json_is_read_too():
    tree = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "j", "namespace": "x"},
        "spec": {"containers": [{"name": "a", "image": "b"}]},
    }
    assert read(json.dumps(tree)).metadata.namespace == "x"


def spec(**changes):
    fields = {"containers": [{"name": "a", "image": "b"}], **changes}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": fields})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "no YAML"),
        ("", "one Pod is wanted"),
        (POD + "---" + POD, "2 documents"),
        ("[1]", "one Pod is wanted"),
        ("apiVersion: apps/v1\nkind: Deployment", "not apps/v1 Deployment"),
        ("apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a, image: b}]}", "metadata.name: Required value"),
        (POD.replace("name: web", "name: Web_1"), "metadata.name"),
        (POD.replace("image:", "imagee:"), "unknown field spec.containers[0].imagee"),
        (POD.replace("fake/sleep", "''"), "spec.containers[0].image"),
        (spec(containers=[]), "spec.containers"),
        (spec(serviceAccountName="x"), "serviceaccounts"),
        (spec(imagePullSecrets=[{"name": "x"}]), "secrets"),
        (spec(volumes=[{"name": "v", "configMap": {"name": "c"}}]), "configmaps"),
        (spec(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]), "persistentvolumeclaims"),
        ("\x00\xff", "no YAML"),
    ],
)  # fmt: skip
def test_what_is_no_static_pod_is_explained(text, words):
    with pytest.raises(BadManifest) as caught:
        read(text)
    assert words in str(caught.value)


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_any_bytes_are_a_pod_or_refused(data):
    with pytest.raises(BadManifest):
        read_manifest(data, path="x", node="n", now=0.0)


# --- On the in-memory adapters ---

pytest_looptime = pytest.mark.looptime


def write(rig, name, text=POD):
    folder = rig.folder / "manifests"
    folder.mkdir(exist_ok=True)
    fresh = folder / f".{name}"
    fresh.write_text(text)
    fresh.rename(folder / name)
    return folder / name


def uid_of(rig, name="web-pi"):
    return next(p.metadata.uid for p in rig.kubelet._static if p.metadata.name == name)


async def runs(rig, count=1):
    await rig.until(lambda: [i.phase for i in rig.containers()].count(Phase.RUNNING) == count)


def mirror_of(rig, pod, uid, **meta):
    annotations = {**pod.metadata.annotations, "kubernetes.io/config.mirror": pod.metadata.uid}
    fields = {"uid": uid, "annotations": annotations, "creation_timestamp": "", **meta}
    return msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, **fields))


@pytest_looptime
async def test_static_pods_run_without_a_master_and_end_with_their_file(rig):
    rig.mirror.pods.synced.clear()
    path = write(rig, "web.yaml")
    rig.start()
    await runs(rig)
    assert rig.notes.mirrors == []
    path.unlink()
    await runs(rig, 0)
    await rig.until(lambda: not rig.containers())
    assert not list((rig.folder / "pods").iterdir())


@pytest_looptime
async def test_a_restarted_agent_adopts_static_pods(rig):
    write(rig, "web.yaml")
    rig.start()
    await runs(rig)
    before = rig.containers()
    await rig.stop()
    rig.start()
    await asyncio.sleep(120)
    assert rig.containers() == before


@pytest_looptime
async def test_a_changed_file_replaces_the_pod_after_the_former_has_ended(rig):
    write(rig, "web.yaml", POD.replace("fake/sleep", "fake/stubborn"))
    rig.start()
    await runs(rig)
    [old] = rig.containers()
    write(rig, "web.yaml")
    await asyncio.sleep(20)
    assert [i.id for i in rig.containers()] == [old.id]
    await rig.until(lambda: rig.containers() and rig.containers()[0].id != old.id, 60)
    await runs(rig)
    assert rig.containers()[0].image == "fake/sleep"


@pytest_looptime
async def test_a_bad_file_is_told_and_the_others_go_on(rig):
    write(rig, "bad.yaml", "kind: [")
    write(rig, "web.yaml")
    write(rig, "twin.yaml")
    rig.start()
    await runs(rig)
    await asyncio.sleep(60)
    events = [event for event in rig.notes.events if event.reason == "InvalidManifest"]
    assert [event.path for event in events] == ["v1/nodes"] * 2
    assert "bad.yaml: no YAML" in events[0].message
    assert "web.yaml: twin.yaml has a pod of that name" in events[1].message
    assert len(rig.containers()) == 1
    (rig.folder / "manifests" / "twin.yaml").unlink()
    await rig.until(
        lambda: (
            uid_of(rig) == read(POD, path=str(rig.folder / "manifests" / "web.yaml"), node="pi").metadata.uid
        ),
        60,
    )


@pytest_looptime
async def test_the_mirror_is_asked_for_and_gets_the_status(rig):
    write(rig, "web.yaml")
    rig.start()
    await rig.until(lambda: rig.notes.mirrors)
    [pod] = rig.notes.mirrors
    await runs(rig)
    assert rig.notes.statuses == {}
    await asyncio.sleep(130)
    assert len(rig.notes.mirrors) == 3
    rig.mirror.pods.set(mirror_of(rig, pod, "mirror-1"))
    await rig.until(lambda: "mirror-1" in rig.notes.statuses)
    assert rig.notes.last("mirror-1").phase == "Running"
    assert len(rig.containers()) == 1
    await asyncio.sleep(130)
    assert len(rig.notes.mirrors) == 3


@pytest_looptime
async def test_deleting_the_mirror_does_not_stop_the_pod(rig):
    write(rig, "web.yaml")
    rig.start()
    await rig.until(lambda: rig.notes.mirrors)
    pod = rig.notes.mirrors.pop()
    mirror = mirror_of(rig, pod, "mirror-1")
    rig.mirror.pods.set(mirror)
    await runs(rig)
    [before] = rig.containers()
    rig.mirror.pods.set(mirror_of(rig, pod, "mirror-1", deletion_timestamp="2023-11-14T22:14:00Z"))
    await rig.until(lambda: "mirror-1" in rig.notes.gone)
    rig.mirror.pods.drop(("default", "web-pi"))
    await rig.until(lambda: rig.notes.mirrors)
    rig.mirror.pods.set(mirror_of(rig, pod, "mirror-2"))
    await rig.until(lambda: "mirror-2" in rig.notes.statuses)
    assert [i.id for i in rig.containers()] == [before.id]
    assert pod.metadata.uid not in rig.notes.gone


@pytest_looptime
async def test_mirrors_of_what_is_not_here_any_more_go(rig):
    path = write(rig, "web.yaml")
    rig.start()
    await rig.until(lambda: rig.notes.mirrors)
    rig.mirror.pods.set(mirror_of(rig, rig.notes.mirrors[0], "mirror-1"))
    await runs(rig)
    path.unlink()
    await rig.until(lambda: "mirror-1" in rig.notes.gone)


@pytest_looptime
async def test_hidden_files_and_folders_are_no_pods(rig):
    write(rig, ".web.yaml.swp")
    (rig.folder / "manifests" / "more").mkdir()
    os.mkfifo(rig.folder / "manifests" / "pipe")
    rig.start()
    await asyncio.sleep(30)
    assert rig.containers() == []
    assert rig.notes.events == []


@pytest_looptime
async def test_a_pod_that_calls_itself_static_is_an_ordinary_one(rig, pod_of):
    rig.start()
    pod = pod_of(
        {"containers": [{"name": "main", "resources": {"requests": {"cpu": "64"}}}]},
        annotations={"kubernetes.io/config.source": "file"},
    )
    rig.put(pod)
    await rig.until(lambda: "uid-web" in rig.notes.statuses and rig.notes.last().phase == "Failed")
    assert rig.notes.last().reason == "OutOfcpu"
    fake = pod_of(name="fake", uid="uid-fake", annotations={"kubernetes.io/config.mirror": "x"})
    rig.put(fake)
    await rig.until(lambda: "uid-fake" in rig.notes.gone)
    assert rig.containers() == []
