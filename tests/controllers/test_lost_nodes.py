"""Lost nodes against the real API server, with a clock of our own."""

import asyncio
import time

import pytest

from edgekube.api.kinds import coordination_v1 as coordination
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import coordination_v1, core_v1, meta_v1
from edgekube.control.clock import micro_stamp
from edgekube.control.events import EventSink
from edgekube.control.informer import Informers
from edgekube.control.taints import NO_EXECUTE, NO_SCHEDULE, NOT_READY, UNREACHABLE
from edgekube.controllers.context import Context, Options
from edgekube.controllers.nodes.eviction import TaintEviction
from edgekube.controllers.nodes.lifecycle import ALL, NodeLifecycle, build


class Lab:
    """Two nodes, their leases, and a clock; reconciles when told."""

    def __init__(self, client, carrier):
        self.now, self.client, self.carrier = time.time(), client, carrier
        informers = Informers(client)
        self.context = Context(
            client, informers, Options(clock=lambda: self.now), EventSink(client, lambda: self.now)
        )
        self.lifecycle, self.eviction = NodeLifecycle(self.context), TaintEviction(self.context)
        self.informers = informers

    async def node(self, name):
        meta = meta_v1.ObjectMeta(name=name)
        made = await self.client.create(core.NODES, core_v1.Node(metadata=meta))
        await self.alive(made)
        meta = meta_v1.ObjectMeta(name=name, namespace="kube-node-lease")
        await self.client.create(coordination.LEASES, coordination_v1.Lease(metadata=meta))

    async def alive(self, node):
        status = {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]}
        await self.client.patch(
            core.NODES, Key("", node.metadata.name), {"status": status}, subresource="status"
        )

    async def renew(self, name):
        key = Key("kube-node-lease", name)
        await self.client.patch(coordination.LEASES, key, {"spec": {"renewTime": micro_stamp(self.now)}})

    async def look(self):
        # The caches are filled by the API's own answers.
        for informer in self.informers:
            await informer._list()
        return await self.lifecycle.reconcile(ALL)

    async def taints(self, name):
        node = await self.client.get(core.NODES, Key("", name))
        return {(taint.key, taint.effect) for taint in node.spec.taints}


@pytest.fixture
async def lab(api_client, api_carrier):
    lab = Lab(api_client, api_carrier)
    for name in ("n1", "n2"):
        await lab.node(name)
    return lab


async def test_a_silent_node_is_lost_and_found(lab):
    again = await lab.look()
    assert 39 < again <= 41
    lab.now += 30
    await lab.renew("n1")
    await lab.look()
    lab.now += 20
    await lab.look()
    assert await lab.taints("n1") == set()
    assert await lab.taints("n2") == {(UNREACHABLE, NO_SCHEDULE), (UNREACHABLE, NO_EXECUTE)}
    node = await lab.client.get(core.NODES, Key("", "n2"))
    assert [c.status for c in node.status.conditions if c.type == "Ready"] == ["Unknown"]
    before = len(lab.carrier.writes)
    await lab.look()
    assert len(lab.carrier.writes) == before
    await lab.alive(node)
    await lab.renew("n2")
    await lab.look()
    assert await lab.taints("n2") == set()


async def test_when_all_are_silent_the_master_is_cut_off(lab):
    await lab.look()
    lab.now += 100
    await lab.look()
    for name in ("n1", "n2"):
        assert await lab.taints(name) == {(UNREACHABLE, NO_SCHEDULE)}
    # One is heard of again: the other gets its full time.
    await lab.renew("n1")
    await lab.alive(await lab.client.get(core.NODES, Key("", "n1")))
    await lab.look()
    assert (UNREACHABLE, NO_EXECUTE) not in await lab.taints("n2")
    lab.now += 30
    await lab.renew("n1")
    await lab.look()
    lab.now += 20
    await lab.look()
    assert (UNREACHABLE, NO_EXECUTE) in await lab.taints("n2")


async def test_the_loop_finds_out_by_itself(api_client):
    names, now = ("n1", "n2"), time.time()
    informers = Informers(api_client)
    clock = [now]
    options = Options(clock=lambda: clock[0], node_grace=40)
    controller = build(Context(api_client, informers, options, EventSink(api_client, options.clock)))
    tasks = [asyncio.create_task(part.run()) for part in (informers, controller)]
    lab = Lab(api_client, None)
    for name in names:
        await lab.node(name)

    async def eventually(check):
        async with asyncio.timeout(20):
            while not await check():
                await asyncio.sleep(0.01)

    async def known():
        leases = [lease.metadata.name for lease in informers.of(coordination.LEASES)]
        return set(leases) == set(controller.reconciler._signs) == set(names) and not len(controller.queue)

    async def lost():
        return (UNREACHABLE, NO_EXECUTE) in await lab.taints("n2")

    async def noticed():
        found = informers.of(coordination.LEASES).get(Key("kube-node-lease", "n1"))
        return found is not None and found.spec.renew_time == micro_stamp(clock[0])

    await eventually(known)
    clock[0] += 41
    lab.now = clock[0]
    await lab.renew("n1")
    await eventually(noticed)
    controller.queue.add(ALL)
    await eventually(lost)
    assert await lab.taints("n1") == set()
    await lab.renew("n2")
    await lab.alive(await api_client.get(core.NODES, Key("", "n2")))
    await eventually(lambda: _none(lab))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _none(lab):
    return await lab.taints("n2") == set()


async def test_stopping_the_only_ready_node_drives_nobody_out(lab):
    stopped = {"conditions": [{"type": "Ready", "status": "False", "reason": "KubeletStopped"}]}
    for name in ("n1", "n2"):
        await lab.client.patch(core.NODES, Key("", name), {"status": stopped}, subresource="status")
    await lab.look()
    assert await lab.taints("n1") == {(NOT_READY, NO_SCHEDULE)}


async def test_pods_of_a_lost_node_go_when_their_patience_is_over(lab):
    await lab.client.create(
        core.SERVICE_ACCOUNTS,
        core_v1.ServiceAccount(metadata=meta_v1.ObjectMeta(name="default", namespace="default")),
    )
    spec = core_v1.PodSpec(node_name="n2", containers=(core_v1.Container(name="c", image="web:1"),))
    made = await lab.client.create(
        core.PODS, core_v1.Pod(metadata=meta_v1.ObjectMeta(name="p", namespace="default"), spec=spec)
    )
    assert {t.toleration_seconds for t in made.spec.tolerations} == {300}
    await lab.look()
    lab.now += 30
    await lab.renew("n1")
    await lab.look()
    lab.now += 20
    await lab.look()
    key = Key("default", "p")
    assert list(lab.eviction.keys_of_pod(made)) == [key]
    again = await lab.eviction.reconcile(key)
    assert 298 <= again <= 300
    lab.now += 301
    await lab.eviction.reconcile(key)
    assert (await lab.client.get(core.PODS, key)).metadata.deletion_timestamp
    await asyncio.sleep(0)
