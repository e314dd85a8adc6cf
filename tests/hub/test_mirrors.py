"""Static pods as the API shows them."""

import json

from edgekube.api.errors import NotFound
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.node.manifest import read_manifest
from hub.conftest import until
from hub.test_uplink import node_object

KEY = Key("default", "web-n1")
RUNNING = core_v1.PodStatus(phase="Running", pod_ip="10.0.0.1")


def static_pod(**meta):
    tree = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", **meta},
        "spec": {"containers": [{"name": "main", "image": "localhost/x"}], "priorityClassName": "system-node-critical"},
    }  # fmt: skip
    return read_manifest(json.dumps(tree).encode(), path="/m/web", node="n1", now=1e9)


async def there(world, key=KEY):
    try:
        return await world.client.get(core.PODS, key)
    except NotFound:
        return None


async def mirrored(world, link, pod):
    link.node_status(node_object())
    await until(lambda: link.unconfirmed == 0)
    link.mirror_pod(pod)
    return await until(lambda: there(world), "the mirror pod is there")


async def test_a_mirror_is_made_bound_owned_and_sent_back(world):
    async with world.hub_running(), world.node_running() as link:
        pod = static_pod(labels={"app": "web"})
        made = await mirrored(world, link, pod)
        node = await world.client.get(core.NODES, Key("", "n1"))
        assert (made.spec.node_name, made.metadata.labels) == ("n1", {"app": "web"})
        assert made.metadata.uid != pod.metadata.uid
        assert made.metadata.annotations["kubernetes.io/config.mirror"] == pod.metadata.uid
        assert [(o.kind, o.uid, o.controller) for o in made.metadata.owner_references] == [
            ("Node", node.metadata.uid, True)
        ]
        assert made.spec.service_account_name == ""
        assert made.spec.priority == 2_000_001_000
        await until(lambda: link.mirror.pods.get(KEY) is not None)
        link.pod_status(KEY, made.metadata.uid, RUNNING)
        await until(lambda: link.unconfirmed == 0)
        assert (await there(world)).status.phase == "Running"


async def test_a_static_pod_that_ended_with_its_machine_runs_again(world):
    failed = core_v1.PodStatus(phase="Failed", reason="Terminated", message="Pod was terminated.")
    async with world.hub_running(), world.node_running() as link:
        made = await mirrored(world, link, static_pod())
        for status in (failed, RUNNING):
            link.pod_status(KEY, made.metadata.uid, status)
            await until(lambda: link.unconfirmed == 0)
        now = (await there(world)).status
        assert (now.phase, now.reason) == ("Running", "")


async def test_a_mirror_goes_when_its_node_says_so(world):
    async with world.hub_running(), world.node_running() as link:
        made = await mirrored(world, link, static_pod())
        link.pod_gone(KEY, made.metadata.uid)
        await until(lambda: link.unconfirmed == 0)
        assert await there(world) is None


async def test_an_ordinary_pod_of_that_name_is_left_alone(world):
    async with world.hub_running(), world.node_running() as link:
        other = await world.pod("web-n1")
        made = await mirrored(world, link, static_pod())
        await until(lambda: link.unconfirmed == 0)
        assert made.metadata.uid == other.metadata.uid
        link.pod_gone(KEY, other.metadata.uid)
        await until(lambda: link.unconfirmed == 0)
        assert await there(world) is not None


async def test_without_its_namespace_there_is_no_mirror_and_the_hub_goes_on(world):
    async with world.hub_running(), world.node_running() as link:
        link.node_status(node_object())
        await until(lambda: link.unconfirmed == 0)
        link.mirror_pod(static_pod(namespace="nowhere"))
        await until(lambda: link.unconfirmed == 0)
        assert await there(world, Key("nowhere", "web-n1")) is None
