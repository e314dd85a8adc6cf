"""Which way leads to which peer: both ends must choose the same, and nothing may be lost or doubled."""

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.network.base import Peer
from edgekube.network.overlay import (
    LEAST_MTU,
    LEAST_MTU6,
    OVERHEAD,
    Hop,
    Lan,
    Mode,
    gateway_of,
    mac_of,
    plan,
    pod_address6,
)

HOME = Lan(2, "192.168.1.10", 24, 1500)
SHED = Lan(3, "192.168.7.10", 24, 1400)
NEAR = Peer("192.168.1.11", "10.244.2.0/24")
FAR = Peer("172.16.0.9", "10.244.3.0/24")


def test_a_neighbour_gets_a_route_and_others_a_tunnel():
    ways = plan({"near": NEAR, "far": FAR}, [HOME], mode=Mode.AUTO, own="192.168.1.10")
    assert ways.routes == {"10.244.2.0/24": Hop("192.168.1.11", 2)}
    assert list(ways.tunnels) == ["10.244.3.0/24"]
    end = ways.tunnels["10.244.3.0/24"]
    assert (end.gateway, end.remote, end.mac.hex()) == ("10.244.3.1", "172.16.0.9", "02450af40301")
    assert ways.device
    assert ways.unreachable == {}


def test_options_force_a_way():
    peers = {"near": NEAR, "far": FAR}
    forced = plan(peers, [HOME], mode=Mode.VXLAN)
    assert forced.routes == {}
    assert set(forced.tunnels) == {"10.244.2.0/24", "10.244.3.0/24"}
    routed = plan(peers, [HOME], mode=Mode.ROUTES)
    assert set(routed.routes) == {"10.244.2.0/24"}
    assert not routed.device
    assert routed.unreachable == {"far": "the nodes share no LAN"}


def test_without_far_peers_there_is_no_device_unless_wished():
    assert not plan({"near": NEAR}, [HOME], mode=Mode.AUTO).device
    assert plan({}, [HOME], mode=Mode.VXLAN).device


@pytest.mark.parametrize(
    ("peers", "lans", "mode", "pods", "device"),
    [
        ({}, [HOME], Mode.AUTO, 1500, 0),
        ({"n": NEAR}, [HOME], Mode.AUTO, 1500, 0),
        ({"n": NEAR, "f": FAR}, [HOME], Mode.AUTO, 1450, 1450),
        ({}, [HOME], Mode.VXLAN, 1450, 1450),
        # The smallest of the links, as it is not known which one leads to a peer behind a router.
        ({"n": NEAR}, [HOME, SHED], Mode.AUTO, 1400, 0),
        ({"f": FAR}, [HOME, SHED], Mode.AUTO, 1350, 1350),
        ({"f": FAR}, [replace(HOME, mtu=9000)], Mode.AUTO, 8950, 8950),
        ({"f": FAR}, [replace(HOME, mtu=600)], Mode.AUTO, LEAST_MTU, LEAST_MTU),
        # Nothing known: nothing to change.
        ({"n": NEAR}, [], Mode.AUTO, 0, 0),
    ],
)
def test_pods_get_the_mtu_of_the_smallest_way(peers, lans, mode, pods, device):
    ways = plan(peers, lans, mode=mode)
    assert (ways.pod_mtu, ways.device_mtu) == (pods, device)


def test_only_the_lan_that_peers_know_us_by_counts():
    there = Peer("192.168.7.20", "10.244.4.0/24")
    # They would not see us as a neighbour, so neither do we.
    assert plan({"p": there}, [HOME, SHED], mode=Mode.AUTO, own=HOME.address).tunnels
    assert plan({"p": there}, [HOME, SHED], mode=Mode.AUTO, own=SHED.address).routes
    # The address has just changed: every LAN counts until the new one is known.
    assert plan({"p": there}, [HOME, SHED], mode=Mode.AUTO, own="192.168.1.99").routes


def test_an_address_without_a_prefix_has_no_neighbours():
    lone = Lan(4, "100.64.0.1", 32, 1420)
    ways = plan({"p": Peer("100.64.0.1", "10.244.4.0/24")}, [lone], mode=Mode.AUTO)
    assert ways.unreachable == {"p": "100.64.0.1 is this node's own address"}
    ways = plan({"p": Peer("100.64.0.2", "10.244.4.0/24")}, [lone], mode=Mode.AUTO)
    assert (list(ways.tunnels), ways.pod_mtu) == (["10.244.4.0/24"], 1370)


@pytest.mark.parametrize(
    ("peer", "lans", "why"),
    [
        (Peer("127.0.0.1", "10.244.4.0/24"), [HOME], "no address of a LAN"),
        (Peer("192.168.1.10", "10.244.4.0/24"), [HOME], "own address"),
        (Peer("192.168.1.11", "10.244.1.128/25"), [HOME], "overlaps this node's 10.244.1.0/24"),
        (NEAR, [], "no address on a LAN"),
    ],
)
def test_says_why_there_is_no_way(peer, lans, why):
    ways = plan({"p": peer}, lans, mode=Mode.AUTO, pod_cidr="10.244.1.0/24")
    assert why in ways.unreachable["p"]
    assert not ways.routes
    assert not ways.tunnels


LAN6 = Lan(2, "fd60::10", 64, 1500)
NEAR6 = replace(NEAR, address6="fd60::11", pod_cidr6="fd00:0:0:2::/64")
FAR6 = replace(FAR, pod_cidr6="fd00:0:0:3::/64")


def test_the_second_family_goes_the_same_way_or_by_tunnel():
    peers = {"near": NEAR6, "far": FAR6, "four": Peer("192.168.1.12", "10.244.4.0/24")}
    ways = plan(peers, [HOME, LAN6], mode=Mode.AUTO, own=HOME.address, pod_cidr6="fd00:0:0:1::/64")
    assert ways.routes["fd00:0:0:2::/64"] == Hop("fd60::11", 2)
    assert ways.tunnels["fd00:0:0:3::/64"] == replace(ways.tunnels["10.244.3.0/24"], gateway="fd00:0:0:3::1")
    assert len(ways.routes) + len(ways.tunnels) == 5
    # Without an IPv6 LAN of ours the neighbour is reached by tunnel, by that family only.
    ways = plan({"near": NEAR6}, [HOME], mode=Mode.AUTO, pod_cidr6="fd00:0:0:1::/64")
    assert (list(ways.routes), list(ways.tunnels)) == (["10.244.2.0/24"], ["fd00:0:0:2::/64"])
    assert ways.pod_mtu == 1450
    # A node without such a CIDR has no use for it.
    assert plan({"near": NEAR6}, [HOME, LAN6], mode=Mode.VXLAN).tunnels.keys() == {"10.244.2.0/24"}


def test_ipv6_needs_more_room():
    small = replace(HOME, mtu=1290)
    assert plan({"f": FAR6}, [small], mode=Mode.AUTO, pod_cidr6="fd00::/64").pod_mtu == LEAST_MTU6


@given(st.lists(st.ip_addresses(v=4), min_size=1, max_size=20, unique=True), st.sampled_from([48, 64, 96]))
def test_pods_second_addresses_are_as_unique_as_their_first(addresses, prefix):
    network = IPv6Network(f"fd00:1:2:3::/{prefix}", strict=False)
    found = {pod_address6(str(network), str(address)) for address in addresses}
    assert len(found) == len(addresses)
    assert all(IPv6Address(address) in network for address in found)


ADDRESSES = st.integers(0, 3).flatmap(lambda lan: st.integers(1, 30).map(lambda host: f"10.{lan}.0.{host}"))
NODES = st.lists(ADDRESSES, min_size=2, max_size=6, unique=True)


@given(addresses=NODES, mode=st.sampled_from(Mode), prefix=st.sampled_from([8, 16, 24, 27]))
def test_both_ends_choose_the_same_and_each_peer_once(addresses, mode, prefix):
    nodes = {f"n{number}": Peer(address, f"10.244.{number}.0/24") for number, address in enumerate(addresses)}
    chosen = {}
    for name, node in nodes.items():
        others = {other: peer for other, peer in nodes.items() if other != name}
        lans = [Lan(2, node.address, prefix, 1500), Lan(3, "172.17.0.1", 16, 1500)]
        ways = plan(others, lans, mode=mode, own=node.address, pod_cidr=node.pod_cidr)
        assert len(ways.routes) + len(ways.tunnels) + len(ways.unreachable) == len(others)
        assert not ways.routes.keys() & ways.tunnels.keys()
        assert ways.pod_mtu == 1500 - (OVERHEAD if ways.device else 0)
        for other, peer in others.items():
            chosen[name, other] = peer.pod_cidr in ways.tunnels
    assert all(tunnel == chosen[there, here] for (here, there), tunnel in chosen.items())


@given(st.integers(0, 255), st.integers(16, 30))
def test_macs_are_local_and_no_two_nodes_have_the_same(number, prefix):
    blocks = list(IPv4Network(f"10.{number}.0.0/16").subnets(new_prefix=min(prefix, 22)))
    macs = {mac_of(gateway_of(str(block))) for block in blocks}
    assert len(macs) == len(blocks)
    assert all(mac[0] & 3 == 2 for mac in macs)
