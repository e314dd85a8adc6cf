"""Nodes get their shares of the cluster's pod addresses, of both families in a dual-stack cluster."""

import asyncio

import pytest

from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1
from edgekube.control.informer import Informers
from edgekube.controllers.context import Options
from edgekube.controllers.table import build

DUAL = Options(cluster_cidr="10.42.0.0/22,fd00:42::/62")


@pytest.fixture
async def client(api_client):
    informers = Informers(api_client)
    ipam = [part for part in build(api_client, informers, DUAL) if getattr(part, "name", "") == "node-ipam"]
    assert len(ipam) == 1
    tasks = [asyncio.create_task(part.run()) for part in (*ipam, informers)]
    yield api_client
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def share(client, name):
    """Make a node and return what it is given."""
    await client.create(core.NODES, core_v1.Node(metadata=meta_v1.ObjectMeta(name=name)))
    async with asyncio.timeout(30):
        while True:
            spec = (await client.get(core.NODES, Key("", name))).spec
            if spec.pod_cidrs:
                assert spec.pod_cidr == spec.pod_cidrs[0]
                return spec.pod_cidrs
            await asyncio.sleep(0.02)


async def test_every_node_gets_a_share_of_both(client):
    assert await share(client, "a") == ("10.42.0.0/24", "fd00:42::/64")
    assert await share(client, "b") == ("10.42.1.0/24", "fd00:42:0:1::/64")
    await client.delete(core.NODES, Key("", "a"))
    assert await share(client, "c") in {
        ("10.42.0.0/24", "fd00:42::/64"),
        ("10.42.2.0/24", "fd00:42:0:2::/64"),
    }
