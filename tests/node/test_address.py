"""Which address a node goes by, and that changes are told."""

import asyncio
from dataclasses import replace

import pytest

from edgekube.network.base import Bandwidth, NodeAddress
from edgekube.network.memory import MemoryPodNetwork, MemorySurroundings
from edgekube.node.address import NOWHERE, AddressWish, NodeAddressLoop, choose

ETH = NodeAddress("eth0", "192.168.1.10")
WLAN = NodeAddress("wlan0", "192.168.1.20")
DOCKER = NodeAddress("docker0", "172.17.0.1")
LOCAL = NodeAddress("eth0", "169.254.7.7", default=True)
ANY = AddressWish()


@pytest.mark.parametrize(
    ("addresses", "wish", "before", "chosen"),
    [
        ([], ANY, "", NOWHERE),
        ([], ANY, "192.168.1.10", "192.168.1.10"),
        ([DOCKER, ETH, WLAN], ANY, "", "192.168.1.10"),
        ([DOCKER, ETH, WLAN._replace(default=True)], ANY, "", "192.168.1.20"),
        ([LOCAL, WLAN], ANY, "", "192.168.1.20"),
        ([LOCAL], ANY, "", "169.254.7.7"),
        # As good as another: stays.
        ([ETH, WLAN], ANY, "192.168.1.20", "192.168.1.20"),
        # The way out is another one now.
        ([ETH._replace(default=True), WLAN], ANY, "192.168.1.20", "192.168.1.10"),
        ([ETH, WLAN], ANY, "192.168.1.30", "192.168.1.10"),
        ([ETH._replace(default=True), WLAN], AddressWish(interface="wlan0"), "", "192.168.1.20"),
        ([ETH], AddressWish(interface="wlan0"), "192.168.1.20", "192.168.1.20"),
        ([ETH, WLAN], AddressWish(address="10.0.0.1"), "192.168.1.20", "10.0.0.1"),
        ([DOCKER], ANY, "", "172.17.0.1"),
    ],
)
def test_chooses(addresses, wish, before, chosen):
    assert choose(addresses, wish, before=before) == chosen


@pytest.mark.looptime
async def test_tells_changes_only():
    around = MemorySurroundings()
    told: list[str] = []
    loop = NodeAddressLoop(around, ANY, lambda address, _six: told.append(address), known=NOWHERE)
    task = asyncio.create_task(loop.run())
    await asyncio.sleep(1)
    assert told == []
    for addresses in ([ETH], [], [ETH], [WLAN], [WLAN, DOCKER]):
        around.set(addresses)
        await asyncio.sleep(2)
    assert told == [ETH.address, WLAN.address]
    # One change in two steps is one.
    around.set([])
    await asyncio.sleep(0.1)
    around.set([WLAN])
    await asyncio.sleep(200)
    assert told == [ETH.address, WLAN.address]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_address_given_is_never_changed():
    await NodeAddressLoop(
        MemorySurroundings([ETH]), AddressWish("10.0.0.1"), pytest.fail, known="10.0.0.1"
    ).run()


@pytest.mark.looptime
async def test_the_ipv6_address_is_that_of_the_same_interface():
    around = MemorySurroundings([ETH, WLAN, NodeAddress("wlan0", "fd00::2"), NodeAddress("eth0", "fd00::1")])
    told: list[tuple[str, str]] = []
    fixed = AddressWish(address=ETH.address)
    loop = NodeAddressLoop(
        around, fixed, lambda *addresses: told.append(addresses), known=ETH.address, dual=True
    )
    task = asyncio.create_task(loop.run())
    await asyncio.sleep(1)
    assert told == [(ETH.address, "fd00::1")]
    around.set([ETH, NodeAddress("eth0", "fd00::9"), NodeAddress("eth0", "fd00::1")])
    await asyncio.sleep(1)
    around.set([ETH])
    await asyncio.sleep(1)
    assert told[1:] == [(ETH.address, "")]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def internal(rig):
    return [item.address for item in rig.notes.nodes[-1].status.addresses if item.type == "InternalIP"]


@pytest.mark.looptime
async def test_node_and_pods_go_by_the_new_address(rig, pod_of):
    rig.start()
    pod = pod_of(annotations={"kubernetes.io/egress-bandwidth": "1M"})
    rig.put(pod)
    await rig.until(lambda: "uid-web" in rig.notes.statuses and rig.notes.last().phase == "Running")
    assert rig.notes.last().host_ip == "127.0.0.1"
    assert rig.network.bandwidths["uid-web"] == Bandwidth(egress=1_000_000)
    rig.kubelet.set_node_ip("10.9.9.9", "fd00::9")
    await rig.until(lambda: internal(rig) == ["10.9.9.9", "fd00::9"], seconds=5)
    await rig.until(lambda: rig.notes.last().host_ip == "10.9.9.9", seconds=5)
    assert [item.ip for item in rig.notes.last().host_ips] == ["10.9.9.9", "fd00::9"]
    assert rig.notes.last().phase == "Running"


@pytest.mark.looptime
async def test_a_node_in_the_wrong_says_so(rig):
    rig.start()

    def unavailable():
        conditions = rig.notes.nodes[-1].status.conditions if rig.notes.nodes else ()
        return next((c.status for c in conditions if c.type == "NetworkUnavailable"), "")

    await rig.until(lambda: unavailable() == "False")
    rig.kubelet.set_network_problem("another has it")
    await rig.until(lambda: unavailable() == "True", seconds=5)
    event = rig.notes.events[-1]
    assert (event.path, event.key.name, event.reason) == ("v1/nodes", "pi", "PodCIDRConflict")
    rig.kubelet.set_network_problem("")
    await rig.until(lambda: unavailable() == "False", seconds=5)
    assert rig.notes.events[-1] is event


@pytest.mark.looptime
async def test_a_senseless_bandwidth_keeps_the_pod_waiting(rig, pod_of):
    rig.start()
    rig.put(pod_of(annotations={"kubernetes.io/egress-bandwidth": "fast"}))
    await rig.until(lambda: "FailedCreatePodSandBox" in rig.notes.reasons())
    message = next(e.message for e in rig.notes.events if e.reason == "FailedCreatePodSandBox")
    assert "'fast' is no quantity" in message


@pytest.mark.looptime
async def test_a_pod_with_two_addresses_tells_both(rig, pod_of):
    class Dual(MemoryPodNetwork):
        async def attach(self, uid, hostname, **more):
            return replace(await super().attach(uid, hostname, **more), address6="fd00::5")

    rig.network = Dual("127.8.0.0/24")
    rig.start()
    env = [{"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}}]
    rig.put(pod_of({"containers": [{"name": "main", "env": env}]}))
    await rig.until(lambda: "uid-web" in rig.notes.statuses and rig.notes.last().phase == "Running")
    addresses = [item.ip for item in rig.notes.last().pod_ips]
    assert addresses == [rig.notes.last().pod_ip, "fd00::5"]
    (container,) = rig.machine.containers.values()
    assert container.spec.env["IPS"] == ",".join(addresses)
    (hosts,) = rig.folder.rglob("hosts")
    assert {line.split("\t")[0] for line in hosts.read_text().splitlines() if line.endswith("\tweb")} == {
        *addresses
    }
