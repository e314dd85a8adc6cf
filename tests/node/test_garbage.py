"""Garbage collection of images and dead containers: tables, properties, and whole runs in virtual time."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.types import core_v1
from edgekube.node.config import ImageGcSettings
from edgekube.node.deadcontainers import superfluous
from edgekube.node.eviction.plan import Observation
from edgekube.node.imagegc import PulledImages, Seen, candidates, in_use, to_free, too_old
from edgekube.runtime.base import ContainerInfo, ImageInfo, Phase
from edgekube.transport.base import STDOUT
from node.conftest import USAGE
from node.test_streams import Pipe, serve

GI = 1 << 30
RULES = ImageGcSettings()


def image(name, size=1 << 20):
    return ImageInfo(id=f"id-{name}", names=(f"{name}:latest",), size=size)


@pytest.mark.parametrize(
    ("available", "wanted"),
    [(16, 0), (15, 5), (14, 6), (0, 20), (20, 0), (100, 0)],
)
def test_how_much_must_go(available, wanted):
    assert to_free(Observation(available * GI, 100 * GI), RULES) == wanted * GI


def test_a_disk_of_no_size_and_collection_switched_off():
    assert to_free(Observation(0, 0), RULES) == 0
    assert to_free(Observation(0, GI), replace(RULES, high=100)) == 0


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("busybox", True), ("docker.io/library/busybox:latest", True), ("docker.io/busybox", False),
        ("busybox:1", False), ("example.org/busybox", False), ("id-docker.io/library/busybox", True),
    ],
)  # fmt: skip
def test_names_are_compared_in_full(named, found):
    assert bool(in_use([image("docker.io/library/busybox")], set(), {named})) is found


def test_an_image_of_a_dead_container_is_in_use():
    assert in_use([image("a"), image("b")], {"id-a"}, set()) == {"id-a"}


def test_the_longest_unused_goes_first_and_the_young_stay():
    images = [image("new"), image("old"), image("never"), image("loaded"), image("pinned"), image("used")]
    seen = {
        "id-new": Seen(950.0), "id-old": Seen(0.0, 500.0), "id-never": Seen(100.0), "id-loaded": Seen(0.0),
        "id-pinned": Seen(0.0), "id-used": Seen(0.0, 1000.0),
    }  # fmt: skip
    found = candidates(
        images,
        seen,
        {"id-used"},
        replace(RULES, pinned=("pin*",)),
        pulled=lambda i: i != "id-loaded",
        now=1000.0,
    )
    assert [i.id for i in found] == ["id-never", "id-old"]
    assert [i.id for i in too_old(found, seen, replace(RULES, max_age=600.0), 1000.0)] == ["id-never"]


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.integers(0, 300)), max_size=10),
)
def test_what_is_used_pinned_or_loaded_never_goes(rows):
    images = [image(f"{'pin' if pinned else 'free'}{n}") for n, (_, _, pinned, _) in enumerate(rows)]
    used = {i.id for i, (is_used, _, _, _) in zip(images, rows, strict=True) if is_used}
    loaded = {i.id for i, (_, is_loaded, _, _) in zip(images, rows, strict=True) if is_loaded}
    seen = {i.id: Seen(float(age)) for i, (_, _, _, age) in zip(images, rows, strict=True)}
    found = candidates(
        images, seen, used, replace(RULES, pinned=("pin*",)), pulled=lambda i: i not in loaded, now=300.0
    )
    for item in found:
        assert item.id not in used | loaded
        assert not item.names[0].startswith("pin")
        assert seen[item.id].first <= 180.0


def test_pulled_images_are_remembered_and_forgotten(tmp_path):
    path = tmp_path / "deep" / "pulled.json"
    first = PulledImages(path, lambda: 5.5)
    for name in ("sha256:a", "b", "b"):
        first.add(name)
    again = PulledImages(path, lambda: 9.0)
    assert ("a" in again, again.at("b"), again.at("c")) == (True, 5.0, None)
    again.keep(["b"])
    assert "a" not in PulledImages(path, lambda: 9.0)
    path.write_bytes(b"{torn")
    assert "b" not in PulledImages(path, lambda: 9.0)


def attempt(number, phase, *, pod="uid", name="main"):
    labels = {
        "edgekube.io/pod-uid": pod, "edgekube.io/container-name": name, "edgekube.io/attempt": str(number),
    }  # fmt: skip
    return ContainerInfo(
        id=f"{pod}-{name}-{number}", name="x", image="x", image_id="x", phase=phase, labels=labels
    )


DEAD, LIVE = Phase.EXITED, Phase.RUNNING


@pytest.mark.parametrize(
    ("phases", "keep", "over", "gone"),
    [
        ([DEAD, DEAD, LIVE], 1, False, [0]),
        ([DEAD, DEAD, LIVE], 0, False, [0, 1]),
        ([DEAD, DEAD, DEAD], 0, False, [0, 1]),
        ([DEAD, DEAD, DEAD], 1, False, [0]),
        ([DEAD, DEAD, DEAD], 1, True, [0, 1]),
        ([DEAD, DEAD], 0, True, [0, 1]),
        ([DEAD], 0, False, []),
        ([LIVE], 0, True, []),
        ([], 0, True, []),
    ],
)
def test_dead_containers(phases, keep, over, gone):
    infos = [attempt(n, phase) for n, phase in enumerate(phases)]
    found = superfluous(infos, keep=keep, over=lambda _: over)
    assert sorted(i.id for i in found) == [f"uid-main-{n}" for n in gone]


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.sampled_from([DEAD, LIVE])), max_size=12
    ),
    st.integers(0, 2),
)
def test_nothing_that_runs_and_no_newest_attempt_goes(rows, keep):
    infos = [attempt(n, phase, pod=pod, name=name) for n, (pod, name, phase) in enumerate(rows)]
    found = superfluous(infos, keep=keep)
    newest = {(pod, name): n for n, (pod, name, _) in enumerate(rows)}
    assert all(i.phase is DEAD for i in found)
    assert not {i.id for i in found} & {f"{pod}-{name}-{n}" for (pod, name), n in newest.items()}


# --- On the in-memory adapters ---


async def pull(rig, name):
    container = core_v1.Container(name="x", image=name, image_pull_policy="Always")
    await rig.kubelet._host.images.ensure(container, (), lambda *_: None)


def names(rig):
    return {name for item in rig.machine.images.values() for name in item.info.names}


@pytest.mark.looptime
async def test_images_go_when_the_disk_fills_and_used_or_loaded_ones_stay(rig, pod_of):
    rig.machine.add_image("example.org/preloaded:1", size=9 * GI)
    rig.start()
    rig.put(pod_of({"containers": [{"name": "main", "image": "example.org/app:1"}]}))
    await rig.until(rig.containers)
    for name in ("one", "two"):
        await pull(rig, f"example.org/{name}:1")
    waits = {
        "containers": [{"name": "main", "image": "example.org/two:1"}],
        "volumes": [{"name": "v", "configMap": {"name": "not-there-yet"}}],
    }
    rig.put(pod_of(waits, name="later", uid="uid-later"))
    await asyncio.sleep(200)
    rig.board.set_usage(disk_available=int(USAGE.disk_capacity * 0.152))
    await asyncio.sleep(400)
    kept = {"example.org/preloaded:1", "example.org/app:1", "example.org/two:1"}
    assert {n for n in names(rig) if n.startswith("example.org")} == kept


@pytest.mark.looptime
async def test_what_cannot_be_freed_is_said_in_the_kubelets_words(rig):
    rig.start()
    await asyncio.sleep(1)
    rig.board.set_usage(disk_available=int(USAGE.disk_capacity * 0.15) + 1)
    await asyncio.sleep(900)
    events = {event.reason: event for event in rig.notes.events}
    assert events["FreeDiskSpaceFailed"].message.startswith(
        "Failed to garbage collect required amount of images. Attempted to free "
    )
    assert events["FreeDiskSpaceFailed"].message.endswith(" bytes, but only found 0 bytes eligible to free.")
    assert events["ImageGCFailed"].message == events["FreeDiskSpaceFailed"].message
    assert events["ImageGCFailed"].path == "v1/nodes"


@pytest.mark.looptime
async def test_an_image_with_two_names_goes_whole(rig):
    rig.start()
    await asyncio.sleep(1)
    await pull(rig, "example.org/one:1")
    [(key, item)] = [(k, i) for k, i in rig.machine.images.items() if "example.org/one:1" in i.info.names]
    rig.machine.images[key] = replace(
        item, info=replace(item.info, names=("example.org/one:1", "example.org/one:2"))
    )
    await asyncio.sleep(300)
    await rig.kubelet._collector.delete_unused()
    assert key not in rig.machine.images


@pytest.mark.looptime
async def test_a_preloaded_image_stays_though_it_was_pulled_as_well(rig):
    rig.start()
    await asyncio.sleep(1)
    await pull(rig, "example.org/both:1")
    rig.kubelet._host.images.preloaded.add("example.org/both:1")
    await asyncio.sleep(300)
    await rig.kubelet._collector.delete_unused()
    assert "example.org/both:1" in names(rig)


@pytest.mark.looptime
async def test_under_pressure_dead_containers_go_and_their_logs_stay(rig, pod_of):
    rig.start()
    spec = {"restartPolicy": "Never", "containers": [{"name": "main", "command": ["sh", "-c", "echo done"]}]}
    rig.put(pod_of(spec))
    await rig.until(lambda: "uid-web" in rig.notes.statuses and rig.notes.last().phase == "Succeeded")
    rig.board.set_usage(disk_available=GI)
    await rig.until(lambda: not rig.containers(), 60)
    await asyncio.sleep(60)
    assert rig.notes.last().phase == "Succeeded"
    pipe = Pipe()
    await serve(rig, pipe, kind="logs", container="main")
    assert b"done" in pipe.of(STDOUT)


@pytest.mark.looptime
async def test_the_image_of_a_pod_that_has_ended_goes_under_pressure(rig, pod_of):
    rig.start()
    spec = {
        "restartPolicy": "Never",
        "containers": [{"name": "main", "image": "example.org/job:1", "command": ["true"]}],
    }
    rig.put(pod_of(spec))
    await rig.until(lambda: "uid-web" in rig.notes.statuses and rig.notes.last().phase == "Succeeded")
    await asyncio.sleep(400)
    assert "example.org/job:1" in names(rig)
    rig.board.set_usage(disk_available=GI)
    await rig.until(lambda: "example.org/job:1" not in names(rig), 60)
