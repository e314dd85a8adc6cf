"""The proxy's loop over the memory adapter."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import msgspec
import pytest

from edgekube.api.resource import Key
from edgekube.api.types import core_v1, discovery_v1, meta_v1
from edgekube.control.mirror import Mirror
from edgekube.network.base import Backend, Frontend, NetworkError, Transport
from edgekube.network.memory import MemoryServiceRules
from edgekube.proxy.services import ServiceProxy

WEB = Frontend("10.96.0.1", Transport.TCP, 80)


def service(name="web", address="10.96.0.1", version="1"):
    return core_v1.Service(
        metadata=meta_v1.ObjectMeta(namespace="a", name=name, resource_version=version),
        spec=core_v1.ServiceSpec(cluster_ip=address, ports=(core_v1.ServicePort(port=80),)),
    )


def endpoints(*addresses, name="web-1", of="web"):
    labels = {"kubernetes.io/service-name": of}
    return discovery_v1.EndpointSlice(
        metadata=meta_v1.ObjectMeta(namespace="a", name=name, labels=labels),
        address_type="IPv4",
        endpoints=tuple(discovery_v1.Endpoint(addresses=(address,)) for address in addresses),
        ports=(discovery_v1.EndpointPort(port=8080),),
    )


def synced():
    mirror = Mirror()
    for copy in (mirror.services, mirror.endpoint_slices, mirror.nodes, mirror.pods):
        copy.synced.set()
    return mirror


@asynccontextmanager
async def running(part):
    task = asyncio.create_task(part.run())
    try:
        await asyncio.sleep(0.01)
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def addresses(rules, frontend=WEB):
    return [backend.address for backend in rules.rules[frontend].backends]


@pytest.mark.looptime
class TestServiceProxy:
    async def test_waits_until_it_knows_everything(self):
        mirror, rules = Mirror(), MemoryServiceRules()
        async with running(ServiceProxy(mirror, rules, "here")):
            mirror.services.replace([service()])
            await asyncio.sleep(5)
            assert rules.steps == 0
            mirror.endpoint_slices.replace([endpoints("10.244.1.2")])
            await asyncio.sleep(5)
            # Its pods' hostPorts would be swept away.
            assert rules.steps == 0
            mirror.pods.replace(())
            await asyncio.sleep(1)
            assert addresses(rules) == ["10.244.1.2"]
            assert rules.steps == 1

    async def test_follows_changes(self):
        mirror, rules = synced(), MemoryServiceRules()
        async with running(ServiceProxy(mirror, rules, "here")):
            assert rules.rules == {}
            mirror.services.set(service())
            await asyncio.sleep(1)
            assert rules.connect(WEB) is None
            mirror.endpoint_slices.set(endpoints("10.244.1.2", "10.244.1.3"))
            mirror.endpoint_slices.set(endpoints("10.244.1.4", name="web-2"))
            await asyncio.sleep(1)
            chosen = Counter(rules.connect(WEB) for _ in range(30))
            assert chosen == {Backend(f"10.244.1.{number}", 8080): 10 for number in (2, 3, 4)}
            mirror.endpoint_slices.drop(Key("a", "web-1"))
            await asyncio.sleep(1)
            assert addresses(rules) == ["10.244.1.4"]
            mirror.services.drop(Key("a", "web"))
            await asyncio.sleep(1)
            assert rules.rules == {}

    async def test_follows_the_node_to_another_zone(self):
        def node(zone: str) -> core_v1.Node:
            labels = {"topology.kubernetes.io/zone": zone}
            return core_v1.Node(metadata=meta_v1.ObjectMeta(name="here", labels=labels))

        mirror, rules = synced(), MemoryServiceRules()
        given = [
            discovery_v1.Endpoint(
                addresses=(f"10.244.{number}.2",),
                hints=discovery_v1.EndpointHints(for_zones=(discovery_v1.ForZone(name=zone),)),
            )
            for number, zone in enumerate("yz")
        ]
        mirror.services.set(service())
        mirror.endpoint_slices.set(msgspec.structs.replace(endpoints(), endpoints=tuple(given)))
        async with running(ServiceProxy(mirror, rules, "here")):
            await asyncio.sleep(1)
            assert addresses(rules) == ["10.244.0.2", "10.244.1.2"]
            for zone, expected in (
                ("z", ["10.244.1.2"]),
                ("y", ["10.244.0.2"]),
                ("x", ["10.244.0.2", "10.244.1.2"]),
            ):
                mirror.nodes.set(node(zone))
                await asyncio.sleep(1)
                assert addresses(rules) == expected

    async def test_many_changes_become_few_steps(self):
        mirror, rules = synced(), MemoryServiceRules()
        async with running(ServiceProxy(mirror, rules, "here")):
            mirror.services.set(service())
            await asyncio.sleep(1)
            before = rules.steps
            for number in range(500):
                mirror.endpoint_slices.set(endpoints(f"10.244.1.{number % 250 + 1}"))
                await asyncio.sleep(0.002)
            await asyncio.sleep(1)
            assert addresses(rules) == ["10.244.1.250"]
            assert 5 <= rules.steps - before <= 12

    async def test_what_did_not_change_is_not_written(self):
        mirror, rules = synced(), MemoryServiceRules()
        async with running(ServiceProxy(mirror, rules, "here")):
            mirror.services.set(service())
            await asyncio.sleep(1)
            before = rules.steps
            mirror.services.set(service(version="2"))
            await asyncio.sleep(1)
            assert rules.steps == before

    async def test_restores_what_somebody_flushed(self):
        mirror, rules = synced(), MemoryServiceRules()
        async with running(ServiceProxy(mirror, rules, "here")):
            mirror.services.set(service())
            mirror.endpoint_slices.set(endpoints("10.244.1.2"))
            await asyncio.sleep(1)
            rules.flush()
            await asyncio.sleep(31)
            assert addresses(rules) == ["10.244.1.2"]
            # A change that meets the flush does not wait for the look.
            rules.flush()
            mirror.endpoint_slices.set(endpoints("10.244.1.3"))
            await asyncio.sleep(1)
            assert addresses(rules) == ["10.244.1.3"]

    async def test_tries_again_when_the_kernel_refuses(self):
        class Refusing(MemoryServiceRules):
            failures = 2

            async def replace(self, wish):
                if self.failures:
                    self.failures -= 1
                    raise NetworkError("no")
                await super().replace(wish)

        mirror, rules = synced(), Refusing()
        mirror.services.set(service())
        async with running(ServiceProxy(mirror, rules, "here")):
            await asyncio.sleep(5)
            assert list(rules.rules) == [WEB]

    async def test_loses_no_change_when_it_cannot_look(self):
        class Blind(MemoryServiceRules):
            failures = 2

            async def intact(self):
                if self.failures:
                    self.failures -= 1
                    raise NetworkError("no answer")
                return await super().intact()

        mirror, rules = synced(), Blind()
        mirror.services.set(service())
        async with running(ServiceProxy(mirror, rules, "here")):
            await asyncio.sleep(60.001)
            mirror.endpoint_slices.set(endpoints("10.244.1.2"))
            await asyncio.sleep(5)
            assert rules.failures == 0
            assert addresses(rules) == ["10.244.1.2"]

    async def test_leaves_out_the_nodes_own_addresses(self):
        mirror, rules = synced(), MemoryServiceRules()
        mirror.services.set(service("dns", "10.96.0.10"))
        mirror.services.set(service())
        async with running(ServiceProxy(mirror, rules, "here", own_addresses=["10.96.0.10"])):
            assert list(rules.rules) == [WEB]
