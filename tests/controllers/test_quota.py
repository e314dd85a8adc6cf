"""ResourceQuota status through the whole control plane."""

import pytest

from edgekube.api.errors import Forbidden
from edgekube.api.kinds import apps_v1 as apps
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1

QUOTA = Key("default", "q")


async def limited(world, **hard):
    spec = core_v1.ResourceQuotaSpec(hard={k.replace("__", "/"): v for k, v in hard.items()})
    meta = meta_v1.ObjectMeta(name="q", namespace="default")
    await world.client.create(core.RESOURCE_QUOTAS, core_v1.ResourceQuota(metadata=meta, spec=spec))


async def used(world, **wanted):
    wanted = {k.replace("__", "/"): v for k, v in wanted.items()}

    async def check():
        return (await world.client.get(core.RESOURCE_QUOTAS, QUOTA)).status.used == wanted

    await world.eventually(check)


async def test_what_is_gone_or_ended_is_given_back(world):
    await world.node("n1")
    await limited(world, pods="3", count__pods="9", count__configmaps="9")
    await used(world, pods="0", count__pods="0", count__configmaps="1")
    await world.deploy(replicas=5)
    await used(world, pods="3", count__pods="3", count__configmaps="1")
    await world.client.patch(apps.DEPLOYMENTS, Key("default", "web"), {"spec": {"replicas": 1}})
    await used(world, pods="1", count__pods="1", count__configmaps="1")
    assert len(await world.list(core.PODS, namespace="default")) == 1


async def test_a_finished_pod_frees_its_share(world):
    await world.node("n1")
    await limited(world, pods="1")
    await used(world, pods="0")
    container = core_v1.Container(name="c", image="web:1")

    def pod(name):
        meta = meta_v1.ObjectMeta(name=name, namespace="default")
        return core_v1.Pod(metadata=meta, spec=core_v1.PodSpec(containers=(container,)))

    await world.client.create(core.PODS, pod("a"))
    await used(world, pods="1")
    with pytest.raises(Forbidden, match="exceeded quota: q"):
        await world.client.create(core.PODS, pod("b"))
    await world.client.patch(
        core.PODS, Key("default", "a"), {"status": {"phase": "Succeeded"}}, subresource="status"
    )
    await used(world, pods="0")
    await world.client.create(core.PODS, pod("b"))
