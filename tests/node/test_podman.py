"""One pod's life on real podman (in namespaces of its own), in real time."""

import asyncio
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from edgekube.api.types import core_v1
from edgekube.node.cgroups import pod_cgroups
from edgekube.runtime.podman import open_runtime
from edgekube.transport.base import STDOUT, StreamRequest
from node.conftest import Rig
from node.test_streams import Pipe
from runtime.machine import IMAGE, PodmanMachine, make_image

pytestmark = pytest.mark.root

SPEC = {
    "hostNetwork": True,
    "restartPolicy": "OnFailure",
    "terminationGracePeriodSeconds": 5,
    "volumes": [{"name": "v", "configMap": {"name": "settings"}}, {"name": "e", "emptyDir": {}}],
    "initContainers": [
        {"name": "init", "image": IMAGE, "command": ["sh", "-c", "echo from-init > /e/made"], "volumeMounts": [{"name": "e", "mountPath": "/e"}]}
    ],
    "containers": [
        {
            "name": "main",
            "image": IMAGE,
            "command": ["sh", "-c", "trap 'exit 0' TERM; cat /v/a /e/made; echo $WHO; sleep 1000 & wait"],
            "env": [{"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "e", "mountPath": "/e"}],
            "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}},
            "readinessProbe": {"exec": {"command": ["cat", "/v/a"]}, "periodSeconds": 1},
        }
    ],
}  # fmt: skip


class PodmanRig(Rig):
    """The same node with podman for a runtime, and the wall's clock."""

    cgroup = ""

    def now(self):
        return time.time()

    def config(self):
        return replace(super().config(), cgroup_root=self.cgroup, cgroup_mount=Path("/sys/fs/cgroup"))

    async def until(self, true, seconds=50.0):
        await super().until(true, seconds)


@pytest.fixture
async def node(tmp_path):
    machine = PodmanMachine()
    try:
        machine.start()
        with tempfile.TemporaryDirectory(prefix="ekn-") as folder:
            rig = PodmanRig(Path(folder))
            runtime = open_runtime(f"unix://{machine.paths.socket}")
            await runtime.images.load(make_image(tmp_path))
            rig.runtime_wrapper = lambda _fake: runtime
            rig.cgroup = machine.cgroup
            yield rig
            await rig.stop()
            await runtime.close()
    finally:
        machine.close()


async def test_a_pod_lives_and_leaves_nothing(node, pod_of):
    data = {"metadata": {"name": "settings", "namespace": "default"}, "data": {"a": "hello\n"}}
    node.mirror.config_maps.set(msgspec.convert(data, core_v1.ConfigMap))
    pod = pod_of(SPEC)
    node.start()
    node.put(pod)
    await node.until(lambda: node.notes.statuses and node.notes.last().container_statuses[0].ready)
    status = node.notes.last()
    assert status.qos_class == "Burstable"
    assert status.init_container_statuses[0].state.terminated.reason == "Completed"

    logs, identity = Pipe(), status.container_statuses[0].container_id
    handler = node.kubelet.stream_handler
    await handler(StreamRequest(kind="logs", namespace="default", pod="web", uid="uid-web"), logs)
    assert logs.of(STDOUT) == b"hello\nfrom-init\nweb\n"
    told = Pipe()
    command = ("sh", "-c", "cat /etc/hostname; exit 3")
    await handler(
        StreamRequest(kind="exec", namespace="default", pod="web", uid="uid-web", command=command), told
    )
    assert told.of(STDOUT) == b"pi\n"
    assert told.status()["details"]["causes"][0]["message"] == "3"

    await node.stop()
    node.notes.statuses.clear()
    node.start()
    await asyncio.sleep(2)
    assert node.notes.statuses == {"uid-web": [status]}, "the next agent takes up what runs"

    node.delete(pod, grace=5)
    await node.until(lambda: node.notes.gone == ["uid-web"])
    final = node.notes.last()
    assert final.container_statuses[0].container_id == identity
    assert (final.phase, final.container_statuses[0].state.terminated.exit_code) == ("Succeeded", 0)
    assert list((node.folder / "pods").iterdir()) == []
    await node.until(lambda: not pod_cgroups(Path("/sys/fs/cgroup"), node.cgroup))
