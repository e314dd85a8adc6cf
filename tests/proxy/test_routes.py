"""Nodes become peers; the older of two that claim one pod CIDR keeps it; changed links are looked at again."""

import asyncio
from contextlib import asynccontextmanager
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1
from edgekube.control.mirror import Mirror
from edgekube.network.base import NetworkError, NodeAddress, Peer
from edgekube.network.memory import MemoryPodNetwork, MemorySurroundings
from edgekube.proxy.peers import Conflict, plan_peers
from edgekube.proxy.routes import NodeRoutes


def node(name: str, cidr: str, address: str, *, created: str = "2026-01-01T00:00:00Z") -> core_v1.Node:
    return core_v1.Node(
        metadata=meta_v1.ObjectMeta(name=name, creation_timestamp=created),
        spec=core_v1.NodeSpec(pod_cidr=cidr, pod_cidrs=(cidr,) if cidr else ()),
        status=core_v1.NodeStatus(
            addresses=(
                core_v1.NodeAddress(type="Hostname", address=name),
                core_v1.NodeAddress(type="InternalIP", address="fd00::1"),
                core_v1.NodeAddress(type="InternalIP", address=address),
            )
        ),
    )


HERE = node("here", "10.244.1.0/24", "10.0.0.1")
THERE = node("there", "10.244.2.0/24", "10.0.0.2")


def test_peers_are_the_others_that_have_both():
    others = plan_peers(
        [HERE, THERE, node("new", "", "10.0.0.3"), node("lost", "10.244.4.0/24", ""), node("six", "fd00::/64", "10.0.0.6"), node("odd", "10.244.5.1/24", "10.0.0.7")],
        "here",
    )  # fmt: skip
    assert others.peers == {"there": Peer("10.0.0.2", "10.244.2.0/24", "fd00::1")}
    assert (others.own, others.conflicts) == ("10.0.0.1", ())


def test_peers_may_have_two_cidrs():
    both = core_v1.Node(
        metadata=meta_v1.ObjectMeta(name="both"),
        spec=core_v1.NodeSpec(pod_cidr="10.244.2.0/24", pod_cidrs=("10.244.2.0/24", "fd00:244:0:2::/64")),
        status=core_v1.NodeStatus(addresses=(core_v1.NodeAddress(type="InternalIP", address="10.0.0.2"),)),
    )
    assert plan_peers([both], "here").peers == {
        "both": Peer("10.0.0.2", "10.244.2.0/24", "", "fd00:244:0:2::/64")
    }


def test_the_older_of_two_keeps_the_cidr():
    younger = node("alpha", "10.244.2.0/24", "10.0.0.9", created="2026-02-02T00:00:00Z")
    for nodes in ([HERE, THERE, younger], [younger, THERE, HERE]):
        others = plan_peers(nodes, "here")
        assert others.peers == {"there": Peer("10.0.0.2", "10.244.2.0/24", "fd00::1")}
        assert others.conflicts == (Conflict("alpha", "there", "10.244.2.0/24"),)
    # Of the same age: some order, the same on every node.
    twin = node("twin", "10.244.2.0/25", "10.0.0.9")
    assert plan_peers([HERE, twin, THERE], "here").conflicts[0].loser == "twin"


def test_without_a_date_is_younger_than_with_one():
    undated = node("alpha", "10.244.2.0/24", "10.0.0.9", created="")
    assert plan_peers([undated, THERE], "here").conflicts[0].loser == "alpha"


CIDRS = st.tuples(st.integers(0, 31), st.integers(24, 30)).map(
    lambda pair: str(IPv4Network((f"10.0.0.{pair[0] * 8}", pair[1]), strict=False))
)


@given(st.lists(CIDRS, max_size=12))
def test_no_two_peers_overlap_and_nobody_is_turned_away_for_nothing(cidrs):
    nodes = [node(f"n{number:02}", cidr, f"10.9.0.{number}") for number, cidr in enumerate(cidrs)]
    others = plan_peers(nodes, "nobody")
    networks = {name: IPv4Network(peer.pod_cidr) for name, peer in others.peers.items()}
    assert not any(one.overlaps(two) for a, one in networks.items() for b, two in networks.items() if a != b)
    losers = {conflict.loser for conflict in others.conflicts}
    assert losers | networks.keys() == {item.metadata.name for item in nodes}
    for conflict in others.conflicts:
        assert IPv4Network(conflict.cidr).overlaps(networks[conflict.owner])
        assert conflict.owner < conflict.loser


@asynccontextmanager
async def running(routes: NodeRoutes):
    task = asyncio.create_task(routes.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Counting(MemoryPodNetwork):
    """Counts looks, and fails on demand."""

    looks = 0
    failure = ""

    async def set_peers(self, peers, *, own=""):
        await super().set_peers(peers, own=own)
        self.looks += 1
        if self.failure:
            raise NetworkError(self.failure)


@pytest.mark.looptime
async def test_follows_nodes_links_and_time():
    mirror, network, around = Mirror(), Counting(), MemorySurroundings()
    mirror.nodes.replace([HERE, THERE])
    async with running(NodeRoutes(mirror, network, "here", surroundings=around)):
        await asyncio.sleep(1)
        assert network.peers == {"there": Peer("10.0.0.2", "10.244.2.0/24", "fd00::1")}
        assert network.own == "10.0.0.1"
        mirror.nodes.set(node("there", "10.244.2.0/24", "10.0.0.77"))
        await asyncio.sleep(0.1)
        assert network.peers["there"].address == "10.0.0.77"
        assert network.looks == 2
        # Two signs of one change, one look.
        around.set([])
        await asyncio.sleep(0.1)
        around.set([NodeAddress("eth0", "10.0.0.5")])
        await asyncio.sleep(1)
        assert network.looks in {3, 4}
        before = network.looks
        await asyncio.sleep(11)
        assert network.looks == before + 1


@pytest.mark.looptime
async def test_a_failure_is_told_once(caplog):
    mirror, network = Mirror(), Counting()
    mirror.nodes.replace([HERE, THERE])
    network.failure = "no way to there"
    async with running(NodeRoutes(mirror, network, "here")):
        await asyncio.sleep(100)
        assert network.looks > 5
        assert caplog.text.count("no way to there") == 1
        network.failure = ""
        await asyncio.sleep(11)
        network.failure = "no way to there"
        await asyncio.sleep(11)
        assert caplog.text.count("no way to there") == 2


@pytest.mark.looptime
async def test_a_node_in_the_wrong_is_told_so_until_it_is_over():
    mirror, network = Mirror(), Counting()
    heard: list[str] = []
    mirror.nodes.replace([node("here", "10.244.2.0/24", "10.0.0.1", created="2026-03-01T00:00:00Z"), THERE])
    async with running(NodeRoutes(mirror, network, "here", told=heard.append)):
        await asyncio.sleep(100)
        assert len(heard) == 1
        assert "in use by the older node there" in heard[0]
        mirror.nodes.drop(Key("", "there"))
        await asyncio.sleep(1)
        assert heard[1:] == [""]
