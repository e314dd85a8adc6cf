"""The loop that keeps policies in force, over the memory adapters."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from edgekube.api.resource import Key
from edgekube.api.types import meta_v1
from edgekube.control.mirror import Mirror
from edgekube.control.policies import PeerQuery, PeerSlice
from edgekube.network.base import NetworkError
from edgekube.network.memory import MemoryPodNetwork
from edgekube.network.policy_memory import MemoryPolicyRules
from edgekube.proxy.policies import NodePolicies
from proxy.policy_world import TCP, peers, pod, policy, sel

FROM_APP = policy(podSelector=sel(app="web"), ingress=peers({"podSelector": sel(app="app")}))
APP = PeerQuery(namespace="default", pods=meta_v1.LabelSelector(match_labels={"app": "app"})).name


def piece(*addresses, version="1"):
    meta = meta_v1.ObjectMeta(name=f"{APP}.0", resource_version=version)
    return PeerSlice(metadata=meta, query=APP, peers={"n2": {0: addresses}})


def synced():
    mirror = Mirror()
    for copy in (mirror.policies, mirror.pods, mirror.namespaces, mirror.peer_slices):
        copy.synced.set()
    mirror.pods.set(pod("web", "", app="web"))
    return mirror


class Failing(MemoryPolicyRules):
    """A kernel that refuses everything while `broken`."""

    broken = True

    async def replace(self, wish):
        if self.broken:
            raise NetworkError("no nftables")
        await super().replace(wish)


@asynccontextmanager
async def policed(mirror, rules, network, **options):
    async def opened():
        return network

    made = NodePolicies(mirror, rules, opened, node_name="n1", cluster_cidrs=("10.244.0.0/16",), **options)
    task = asyncio.create_task(made.run())
    try:
        await asyncio.sleep(0.01)
        yield await made.open_network()
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.looptime
class TestNodePolicies:
    async def test_a_pod_is_isolated_before_anybody_knows_its_address(self):
        mirror, rules = synced(), MemoryPolicyRules()
        mirror.policies.set(FROM_APP)
        mirror.peer_slices.set(piece("10.244.2.2"))
        async with policed(mirror, rules, MemoryPodNetwork("10.244.1.0/24")) as network:
            made = await network.attach("default-web", "web", sysctls={})
            assert rules.allows("10.244.2.2", made.address, TCP, 80)
            assert not rules.allows("10.244.2.3", made.address, TCP, 80)
            assert await network.list() == [made]
            await network.detach("default-web")
            await asyncio.sleep(1)
            assert not rules.wish

    async def test_follows_changes_and_gathers_them(self):
        mirror, rules = synced(), MemoryPolicyRules()
        async with policed(mirror, rules, MemoryPodNetwork("10.244.1.0/24")) as network:
            web = (await network.attach("default-web", "web", sysctls={})).address
            assert rules.allows("10.244.2.3", web, TCP, 80)
            mirror.policies.set(FROM_APP)
            await asyncio.sleep(1)
            assert not rules.allows("10.244.2.2", web, TCP, 80)
            steps = rules.steps
            for number in range(2, 50):
                mirror.peer_slices.set(piece(f"10.244.2.{number}", version=str(number)))
            await asyncio.sleep(1)
            assert rules.steps <= steps + 2
            assert rules.allows("10.244.2.49", web, TCP, 80)
            mirror.policies.drop(Key("default", "policy"))
            await asyncio.sleep(1)
            assert rules.allows("10.244.2.3", web, TCP, 80)

    async def test_finds_pods_of_an_earlier_run(self):
        mirror, rules, network = synced(), MemoryPolicyRules(), MemoryPodNetwork("10.244.1.0/24")
        web = (await network.attach("default-web", "web", sysctls={})).address
        mirror.policies.set(FROM_APP)
        async with policed(mirror, rules, network):
            await asyncio.sleep(1)
            assert not rules.allows("10.244.2.3", web, TCP, 80)

    async def test_writes_again_what_somebody_flushed(self):
        mirror, rules = synced(), MemoryPolicyRules()
        mirror.policies.set(FROM_APP)
        async with policed(mirror, rules, MemoryPodNetwork("10.244.1.0/24"), check=10) as network:
            web = (await network.attach("default-web", "web", sysctls={})).address
            rules.flush()
            assert rules.allows("10.244.2.3", web, TCP, 80)
            await asyncio.sleep(25)
            assert not rules.allows("10.244.2.3", web, TCP, 80)

    async def test_a_change_that_fails_is_written_anew(self):
        mirror, rules = synced(), MemoryPolicyRules()
        mirror.policies.set(FROM_APP)
        async with policed(mirror, rules, MemoryPodNetwork("10.244.1.0/24")) as network:
            web = (await network.attach("default-web", "web", sysctls={})).address
            rules.flush()
            mirror.peer_slices.set(piece("10.244.2.2"))
            await asyncio.sleep(1)
            assert rules.allows("10.244.2.2", web, TCP, 80)
            assert not rules.allows("10.244.2.3", web, TCP, 80)

    async def test_without_nftables_only_pods_without_policies_start(self):
        mirror, rules = synced(), Failing()
        async with policed(mirror, rules, MemoryPodNetwork("10.244.1.0/24")) as network:
            await network.attach("default-other", "other", sysctls={})
            mirror.policies.set(FROM_APP)
            with pytest.raises(NetworkError, match="no nftables"):
                await network.attach("default-web", "web", sysctls={})
            rules.broken = False
            web = (await network.attach("default-web", "web", sysctls={})).address
            assert not rules.allows("10.244.2.3", web, TCP, 80)
            await asyncio.sleep(10)

    async def test_a_network_that_is_not_there_yet_is_asked_again(self):
        mirror, rules, network = synced(), MemoryPolicyRules(), MemoryPodNetwork("10.244.1.0/24")
        web = (await network.attach("default-web", "web", sysctls={})).address
        mirror.policies.set(FROM_APP)
        tries = []

        async def opened():
            tries.append(1)
            if len(tries) < 3:
                raise NetworkError("no pod CIDR yet")
            return network

        made = NodePolicies(mirror, rules, opened, node_name="n1", cluster_cidrs=("10.244.0.0/16",))
        task = asyncio.create_task(made.run())
        await asyncio.sleep(60)
        assert not rules.allows("10.244.2.3", web, TCP, 80)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_nothing_to_enforce_is_nothing_to_write(self):
        mirror, rules = synced(), MemoryPolicyRules()
        async with policed(mirror, rules, MemoryPodNetwork("10.244.1.0/24")) as network:
            await network.attach("default-web", "web", sysctls={})
            steps = rules.steps
            for number in range(5):
                mirror.pods.set(pod("web", "", app=f"web{number}"))
                await asyncio.sleep(1)
            assert rules.steps == steps
