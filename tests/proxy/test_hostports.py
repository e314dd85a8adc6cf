"""hostPort of pods, as a function of the pod; and through the proxy's loop."""

import asyncio
from contextlib import asynccontextmanager

import msgspec
import pytest

from edgekube.api.types import core_v1, meta_v1
from edgekube.control.mirror import Mirror
from edgekube.network.base import ANY, ANY6, Backend, Forwarding, Frontend, Transport
from edgekube.network.memory import MemoryPodNetwork, MemoryServiceRules
from edgekube.proxy.hostports import plan_host_ports
from edgekube.proxy.services import ServiceProxy

TCP, UDP = Transport.TCP, Transport.UDP
PORT = Frontend(ANY, TCP, 8080)


def pod(*ports, name="web", uid="uid-web", address="", **spec) -> core_v1.Pod:
    containers = (core_v1.Container(name="c", ports=tuple(core_v1.ContainerPort(**port) for port in ports)),)
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(namespace="a", name=name, uid=uid),
        spec=core_v1.PodSpec(node_name="here", containers=containers, **spec),
        status=core_v1.PodStatus(pod_ip=address),
    )


@pytest.mark.parametrize(
    ("port", "frontend"),
    [
        ({"host_port": 8080}, PORT),
        ({"host_port": 8080, "host_ip": "0.0.0.0"}, PORT),
        ({"host_port": 53, "protocol": "UDP"}, Frontend(ANY, UDP, 53)),
        ({"host_port": 8080, "host_ip": "10.50.0.1"}, Frontend("10.50.0.1", TCP, 8080)),
        ({"host_port": 8080, "host_ip": "127.0.0.1"}, None),
        ({"host_port": 8080, "host_ip": "fd00::1"}, None),
        ({"protocol": "TCP"}, None),
    ],
)
def test_where_a_host_port_listens(port, frontend):
    made = plan_host_ports(pod({"container_port": 80, "name": "http", **port}), "10.244.1.2")
    near = Backend("10.244.1.2", 80, local=True)
    assert made == ({frontend: Forwarding("a/web:http", (near,))} if frontend else {})


def test_pods_without_a_place_of_their_own_have_none():
    port = {"container_port": 80, "host_port": 8080}
    assert plan_host_ports(pod(port), "") == {}
    assert plan_host_ports(pod(port, host_network=True), "10.50.0.1") == {}
    ended = msgspec.structs.replace(pod(port), status=core_v1.PodStatus(phase="Succeeded"))
    assert plan_host_ports(ended, "10.244.1.2") == {}


def test_sidecars_have_host_ports_and_other_init_containers_none():
    def init(number: int, policy: str) -> core_v1.Container:
        ports = (core_v1.ContainerPort(container_port=80, host_port=number),)
        return core_v1.Container(name=f"c{number}", ports=ports, restart_policy=policy)

    made = plan_host_ports(pod(init_containers=(init(1, "Always"), init(2, ""))), "10.244.1.2")
    assert set(made) == {Frontend(ANY, TCP, 1)}


@asynccontextmanager
async def running(mirror: Mirror, rules: MemoryServiceRules, network: MemoryPodNetwork):
    for copy in (mirror.services, mirror.endpoint_slices, mirror.pods):
        copy.synced.set()

    async def opened() -> MemoryPodNetwork:
        return network

    proxy = ServiceProxy(mirror, rules, "here", network=opened)
    task = asyncio.create_task(proxy.run())
    try:
        await asyncio.sleep(1)
        yield await proxy.open_network()
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.looptime
class TestLoop:
    async def test_a_pod_is_reached_as_soon_as_it_has_its_address(self):
        mirror, rules = Mirror(), MemoryServiceRules()
        async with running(mirror, rules, MemoryPodNetwork("10.244.1.0/28")) as network:
            mirror.pods.set(pod({"container_port": 80, "host_port": 8080}))
            await asyncio.sleep(1)
            assert rules.rules == {}
            # The master need not have heard of it.
            made = await network.attach("uid-web", "web", sysctls={})
            await asyncio.sleep(1)
            assert rules.rules[PORT].backends == (Backend(made.address, 80, local=True),)
            mirror.pods.replace(())
            await asyncio.sleep(1)
            assert rules.rules == {}

    async def test_what_is_attached_counts_before_what_is_said(self):
        mirror, rules = Mirror(), MemoryServiceRules()
        network = MemoryPodNetwork("10.244.1.0/28")
        port = {"container_port": 80, "host_port": 8080}
        mirror.pods.replace(
            [pod(port, address="10.244.1.9"), pod(port, name="other", uid="x", address="10.244.1.8")]
        )
        made = await network.attach("uid-web", "web", sysctls={})
        async with running(mirror, rules, network) as told:
            # Two of one port: the first by name.
            assert rules.rules[PORT].backends[0].address == "10.244.1.8"
            mirror.pods.set(pod(name="other", uid="x"))
            await asyncio.sleep(1)
            assert rules.rules[PORT].backends[0].address == made.address
            await told.detach("uid-web")
            await asyncio.sleep(1)
            assert rules.rules[PORT].backends[0].address == "10.244.1.9"

    async def test_pods_without_host_ports_cost_nothing(self):
        mirror, rules = Mirror(), MemoryServiceRules()
        async with running(mirror, rules, MemoryPodNetwork("10.244.1.0/28")) as network:
            mirror.pods.set(pod({"container_port": 80}))
            await network.attach("uid-web", "web", sysctls={})
            await asyncio.sleep(5)
            assert rules.steps == 1


@pytest.mark.parametrize(
    ("host", "frontends"),
    [
        ("", {Frontend(ANY, TCP, 8080): "10.244.1.2", Frontend(ANY6, TCP, 8080): "fd00:1::2"}),
        ("0.0.0.0", {Frontend(ANY, TCP, 8080): "10.244.1.2"}),
        ("::", {Frontend(ANY6, TCP, 8080): "fd00:1::2"}),
        ("2001:DB8::1", {Frontend("2001:db8::1", TCP, 8080): "fd00:1::2"}),
        ("::1", {}),
    ],
)
def test_a_pod_of_both_families_is_reached_by_both(host, frontends):
    port = {"container_port": 80, "host_port": 8080, "host_ip": host}
    made = plan_host_ports(pod(port), "10.244.1.2", "fd00:1::2")
    assert {frontend: rule.backends[0].address for frontend, rule in made.items()} == frontends
