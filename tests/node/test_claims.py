"""Claims on a temporary folder: from the claim to the path, and the end of released volumes."""

import asyncio
from contextlib import suppress

import msgspec
import pytest

from edgekube.api.types import core_v1
from edgekube.control.mirror import Mirror
from edgekube.control.reader import Copy
from edgekube.control.volumes import LOCAL
from edgekube.node.config import KubeletConfig
from edgekube.node.env.downward import Place
from edgekube.node.volumes.base import VolumeError
from edgekube.node.volumes.manager import Volumes
from edgekube.node.volumes.reclaim import Reclaimer, directory_of

CLAIMED = {"name": "data", "persistentVolumeClaim": {"claimName": "web"}}
EPHEMERAL = {"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}


def claim(name="web", volume="pv1", uid="c1"):
    tree = {"metadata": {"name": name, "namespace": "default", "uid": uid}, "spec": {"volumeName": volume}}
    return msgspec.convert(tree, core_v1.PersistentVolumeClaim)


def volume(source, *, uid="c1", claim_name="web", **meta):
    tree = {
        "metadata": {"name": "pv1", "uid": "v1", **meta},
        "spec": {**source, "claimRef": {"name": claim_name, "namespace": "default", "uid": uid}},
    }
    return msgspec.convert(tree, core_v1.PersistentVolume)


def local_path(folder, kind="DirectoryOrCreate"):
    return {"hostPath": {"path": str(folder), "type": kind}}


async def token(audience, seconds):
    return "token", "2023-11-14T23:13:20Z"


async def made(tmp_path, pod_of, claims=(), volumes=(), source=CLAIMED):
    config = KubeletConfig(node_name="pi", node_ip="10.0.0.1", data_dir=tmp_path / "ek")
    manager = Volumes(
        config, Mirror(claims=Copy(claims), volumes=Copy(volumes)), clock=lambda: 0.0, tmpfs=False
    )
    await manager.make(pod_of({"volumes": [source]}), Place("10.244.0.5", "10.0.0.1"), token)


async def test_our_directory_is_made_with_the_pod_for_any_user(tmp_path, pod_of):
    folder = tmp_path / "storage" / "pv1_default_web"
    await made(tmp_path, pod_of, [claim()], [volume(local_path(folder), finalizers=[LOCAL])])
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o777 == 0o777


async def test_a_directory_that_is_there_keeps_its_mode(tmp_path, pod_of):
    folder = tmp_path / "pv1_default_web"
    folder.mkdir(mode=0o700)
    (folder / "kept").touch()
    await made(tmp_path, pod_of, [claim()], [volume(local_path(folder), finalizers=[LOCAL])])
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "kept").exists()


async def test_a_generic_ephemeral_volume_is_the_claim_of_the_pod_and_the_volume(tmp_path, pod_of):
    folder, name = tmp_path / "e", f"{pod_of({}).metadata.name}-data"
    found = volume(local_path(folder), claim_name=name)
    await made(tmp_path, pod_of, [claim(name)], [found], EPHEMERAL)
    assert folder.is_dir()


@pytest.mark.parametrize(
    ("claims", "source", "message"),
    [
        ([], {}, 'persistentvolumeclaim "web" not found'),
        ([claim(volume="")], {}, 'persistentvolumeclaim "web" is not bound'),
        ([claim(volume="other")], {}, 'persistentvolumeclaim "web" is not bound'),
        ([claim(uid="c2")], {}, 'persistentvolumeclaim "web" is not bound'),
        ([claim()], {"local": {"path": "/nonexistent/disk"}}, 'path "/nonexistent/disk" does not exist'),
        ([claim()], {"nfs": {"server": "s", "path": "/"}}, "only hostPath and local volumes"),
    ],
)
async def test_claims_that_cannot_be_mounted(tmp_path, pod_of, claims, source, message):
    with pytest.raises(VolumeError, match=message):
        await made(tmp_path, pod_of, claims, [volume(source)])


@pytest.mark.parametrize("path", ["/data/other", "/data/pv1", "/", "storage/pv1_x", "/data/pv10_default_web"])
def test_only_what_was_made_for_the_volume_is_removed(path):
    assert directory_of(volume(local_path(path))) is None
    assert directory_of(volume({"local": {"path": "/data/pv1_default_web"}})) is None


class Notes:
    def __init__(self):
        self.gone = []

    def volume_gone(self, name, uid):
        self.gone.append((name, uid))


async def reclaimed(mirror):
    """Let the reclaimer look; return what it reported."""
    notes = Notes()
    mirror.pods.synced.set()
    task = asyncio.create_task(Reclaimer(mirror, notes).run())
    with suppress(TimeoutError):
        async with asyncio.timeout(20):
            while not notes.gone:
                await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return notes.gone


GOING = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [LOCAL]}


@pytest.mark.parametrize("present", [True, False])
async def test_a_released_volume_is_removed_and_reported(tmp_path, present):
    folder = tmp_path / "pv1_default_web"
    if present:
        folder.mkdir()
        (folder / "file").write_text("x")
    neighbour = tmp_path / "pv2_default_web"
    neighbour.mkdir()
    mirror = Mirror(volumes=Copy([volume(local_path(folder), **GOING)]))
    assert await reclaimed(mirror) == [("pv1", "v1")]
    assert not folder.exists()
    assert neighbour.is_dir()


@pytest.mark.looptime
async def test_a_volume_that_a_pod_still_uses_or_nobody_deleted_stays(tmp_path, pod_of):
    folder = tmp_path / "pv1_default_web"
    folder.mkdir()
    pod = pod_of({"volumes": [CLAIMED]})
    used = Mirror(pods=Copy([pod]), volumes=Copy([volume(local_path(folder), **GOING)]))
    kept = Mirror(volumes=Copy([volume(local_path(folder), finalizers=[LOCAL])]))
    assert await reclaimed(used) == []
    assert await reclaimed(kept) == []
    assert folder.is_dir()
