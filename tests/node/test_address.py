"""Which address a node goes by, and that changes are told."""

import asyncio

import pytest

from edgekube.network.base import NodeAddress
from edgekube.network.memory import MemorySurroundings
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
    task = asyncio.create_task(NodeAddressLoop(around, ANY, told.append, known=NOWHERE).run())
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
