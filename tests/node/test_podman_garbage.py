"""Garbage collection and measuring on real podman."""

import pytest

from edgekube.node.eviction.signals import Meter
from edgekube.runtime.archive import write_archive
from node.test_podman import node
from runtime.machine import IMAGE

__all__ = ["node"]

pytestmark = pytest.mark.root

SPEC = {
    "hostNetwork": True,
    "terminationGracePeriodSeconds": 1,
    "volumes": [{"name": "e", "emptyDir": {}}],
    "containers": [
        {
            "name": "main",
            "image": IMAGE,
            "command": ["sh", "-c", "head -c 5000000 /dev/zero > /layer; head -c 3000000 /dev/zero > /e/file; sleep 1000"],
            "volumeMounts": [{"name": "e", "mountPath": "/e"}],
            "readinessProbe": {"exec": {"command": ["cat", "/e/file"]}, "periodSeconds": 1},
        }
    ],
}  # fmt: skip


async def test_unused_images_go_and_use_is_measured(node, pod_of, tmp_path):
    write_archive(tmp_path / "other.tar", "localhost/other:2", files={"file": b"x"}, command=("sh",))
    pod = pod_of(SPEC)
    node.start()
    node.put(pod)
    await node.until(lambda: "uid-web" in node.notes.statuses and node.notes.last().phase == "Running")
    await node.until(lambda: node.notes.last().container_statuses[0].ready)
    kubelet = node.kubelet
    images = kubelet._host.runtime.images
    await images.load(tmp_path / "other.tar")
    collector = kubelet._collector
    await collector.delete_unused()
    assert (await images.inspect("localhost/other:2")).names == ("localhost/other:2",)
    for image in await images.list():
        collector._pulled.add(image.id)
        collector._pulled._ids[image.id] = 0.0
    collector._seen.clear()
    await collector.delete_unused()
    assert [image.names for image in await images.list()] == [(IMAGE,)]

    [use] = await Meter(kubelet._host).measure([pod], disk=True)
    container = use.containers["main"]
    assert container.disk >= 5_000_000
    assert use.volumes["e"] >= 3_000_000
    assert use.total("ephemeral-storage") >= 8_000_000
    assert container.memory > 0
    assert container.pids >= 1
    node.delete(pod, grace=1)
    await node.until(lambda: node.notes.gone)
