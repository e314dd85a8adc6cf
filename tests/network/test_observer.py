"""What our own netlink code wrote, read back by somebody else's: pyroute2."""

import asyncio
import subprocess
import uuid
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from pyroute2 import netns as theirs
from pyroute2.nftables.main import NFTables

from edgekube.network import netns
from edgekube.network.base import Backend, Forwarding, Frontend, Peer, Transport
from edgekube.network.linux import LinuxPodNetwork, NodeAddressing
from edgekube.network.nftables.layout import Ranges
from edgekube.network.nftables.services import NftablesServiceRules

pytestmark = pytest.mark.root

ADDRESSING = NodeAddressing(
    pod_cidr="10.244.1.0/24",
    cluster_cidr="10.244.0.0/16",
    service_cidr="10.96.0.0/16",
    addresses=("10.96.0.10",),
)


@pytest.fixture
def namespace():
    path = Path(f"/run/netns/ekt-{uuid.uuid4().hex[:8]}")
    netns.make(path)
    with Path("/proc/thread-self/ns/net").open("rb") as home:
        netns.join(path)
        try:
            yield path
        finally:
            netns.join(Path(f"/proc/self/fd/{home.fileno()}"))
            netns.remove(path)


@pytest.fixture
def run(namespace):
    """Run our coroutines; in between no loop is running, as pyroute2 wants it."""
    with asyncio.Runner() as runner:
        yield runner.run


def routes(kernel):
    return {
        (message.get_attr("RTA_DST"), message["dst_len"], message.get_attr("RTA_GATEWAY"))
        for message in kernel.get_routes(table=254)
    }


def test_links_addresses_and_routes(namespace, run, tmp_path):
    network = LinuxPodNetwork(ADDRESSING, tmp_path, prefix=f"{namespace.name}-")
    run(network.prepare())
    pod = run(network.attach("uid-1", "web", sysctls={}))
    with (
        IPRoute() as node,
        IPRoute(netns=Path(pod.netns).name) as inside,
    ):
        assert node.link_lookup(ifname=pod.interface)
        assert (pod.address, 32, None) in routes(node)
        assert ("10.96.0.0", 16, None) in {(dst, size, None) for dst, size, _ in routes(node)}
        eth0 = inside.link_lookup(ifname="eth0")[0]
        (address,) = inside.get_addr(index=eth0, family=2)
        assert (address.get_attr("IFA_ADDRESS"), address["prefixlen"]) == (pod.address, 32)
        assert (None, 0, ADDRESSING.gateway) in routes(inside)
    run(network.detach("uid-1"))
    assert Path(pod.netns).name not in theirs.listnetns()
    with IPRoute() as node:
        assert not node.link_lookup(ifname=pod.interface)
    run(network.clear())


def test_routes_to_peers_on_the_lan(namespace, run, tmp_path):
    with IPRoute() as node:
        node.link("add", ifname="lan0", kind="bridge")
        index = node.link_lookup(ifname="lan0")[0]
        node.addr("add", index=index, address="10.50.0.10", prefixlen=24)
        node.link("set", index=index, state="up")
        network = LinuxPodNetwork(ADDRESSING, tmp_path, prefix=f"{namespace.name}-")
        run(network.prepare())
        run(network.set_peers({"other": Peer("10.50.0.11", "10.244.2.0/24")}))
        assert ("10.244.2.0", 24, "10.50.0.11") in routes(node)
        run(network.set_peers({}))
        assert ("10.244.2.0", 24, "10.50.0.11") not in routes(node)
        run(network.clear())


def test_masquerading_comes_back_when_somebody_took_it(namespace, run, tmp_path):
    network = LinuxPodNetwork(ADDRESSING, tmp_path, prefix=f"{namespace.name}-")
    run(network.prepare())

    def tables():
        with NFTables() as nft:
            return {table.get_attr("NFTA_TABLE_NAME") for table in nft.get_tables()}

    assert "edgekube-pods" in tables()
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    assert "edgekube-pods" not in tables()
    run(network.set_peers({}))
    assert "edgekube-pods" in tables()
    subprocess.run(["nft", "flush", "table", "ip", "edgekube-pods"], check=True)
    run(network.set_peers({}))
    listed = subprocess.run(
        ["nft", "list", "table", "ip", "edgekube-pods"], check=True, capture_output=True, text=True
    )
    assert "masquerade" in listed.stdout
    run(network.clear())


def test_service_rules_are_in_the_table(namespace, run):
    rules = NftablesServiceRules(Ranges(service_cidr="10.96.0.0/16", cluster_cidr="10.244.0.0/16"))
    front = Frontend("10.96.0.20", Transport.TCP, 80)
    run(rules.replace({front: Forwarding("default/web:http", (Backend("10.244.1.2", 8080),))}))
    with NFTables() as nft:
        assert "edgekube" in {table.get_attr("NFTA_TABLE_NAME") for table in nft.get_tables()}
        chains = {chain.get_attr("NFTA_CHAIN_NAME") for chain in nft.get_chains()}
        assert any("web" in name or "10.96.0.20" in name for name in chains), chains
    run(rules.clear())
    with NFTables() as nft:
        assert "edgekube" not in {table.get_attr("NFTA_TABLE_NAME") for table in nft.get_tables()}
    rules.close()
