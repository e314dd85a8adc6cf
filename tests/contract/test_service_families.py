"""Service rules of both families in one namespace: one batch, each family's table for itself, no IPv6 where there is none."""

import re
import struct
import subprocess

import pytest

from edgekube.network.base import ANY, ANY6, Backend, Forwarding, Frontend, NetworkError, Transport
from edgekube.network.netlink import NETFILTER, Netlink, attribute, text
from edgekube.network.nftables.layout import Ranges
from edgekube.network.nftables.services import NftablesServiceRules

pytestmark = pytest.mark.root

TCP, UDP = Transport.TCP, Transport.UDP
FOUR = {Frontend("10.96.0.1", TCP, 80): Forwarding("a/web", (Backend("10.244.1.2", 8080, local=True),))}
SIX = {
    Frontend("fd96::1", TCP, 80): Forwarding("a/web", (Backend("fd00:1::2", 8080, local=True),)),
    Frontend(ANY6, TCP, 30080): Forwarding("a/web", (Backend("fd00:1::2", 8080, local=True),)),
}
RANGES = Ranges(service_cidr="10.96.0.0/16", cluster_cidr="10.244.0.0/16")
DUAL = Ranges(
    service_cidr="10.96.0.0/16",
    cluster_cidr="10.244.0.0/16",
    service_cidr6="fd96::/112",
    cluster_cidr6="fd00::/16",
)


@pytest.fixture
def rules(namespace):
    made = [NftablesServiceRules(RANGES), NftablesServiceRules(DUAL)]
    yield made
    for each in made:
        each.close()


def listed(*arguments: str) -> str:
    command = ["nft", "list", *(arguments or ("ruleset",))]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
    return done.stdout


def nft(*arguments: str) -> None:
    subprocess.run(["nft", *arguments], check=True, timeout=20)


async def test_a_cluster_of_ipv4_has_no_other_table(rules):
    await rules[0].replace(FOUR)
    await rules[0].change({Frontend(ANY, TCP, 30080): Forwarding("a/web", ())}, [])
    assert "table ip6" not in listed()
    assert await rules[0].intact()


async def test_what_another_process_left_goes(rules):
    await rules[1].replace(FOUR | SIX)
    assert "table ip6 edgekube" in listed()
    await rules[0].replace(FOUR)
    assert "table ip6" not in listed()
    # A service's own IPv6 address makes the table, and it goes when all is written again without.
    await rules[0].change(SIX, [])
    assert listed("map", "ip6", "edgekube", "services").count("goto service-fd96__1/tcp/80") == 1
    assert await rules[0].intact()
    await rules[0].change({}, list(SIX))
    await rules[0].replace(FOUR)
    assert "table ip6" not in listed()


async def test_a_flush_of_either_table_is_noticed(rules):
    dual = rules[1]
    for family in ("ip", "ip6"):
        await dual.replace(FOUR | SIX)
        nft("delete", "table", family, "edgekube")
        assert not await dual.intact()
        with pytest.raises(NetworkError, match="No such file"):
            await dual.change({frontend: Forwarding("b/other", ()) for frontend in (*FOUR, *SIX)}, [])
    await dual.replace(FOUR | SIX)
    nft("flush", "chain", "ip6", "edgekube", "node-port-tcp/30080")
    assert not await dual.intact()


async def test_a_change_of_both_is_all_or_nothing(rules):
    dual = rules[1]
    await dual.replace(FOUR | SIX)
    nft("delete", "element", "ip6", "edgekube", "services", "{ fd96::1 . tcp . 80 }")
    before = listed()
    with pytest.raises(NetworkError, match="elements of services"):
        await dual.change({Frontend("10.96.0.9", TCP, 80): Forwarding("b/new", ())}, list(SIX))
    assert listed() == before


async def test_ipv4_goes_on_where_the_kernel_refuses_ipv6(rules, caplog):
    """A table that another process owns (NFT_TABLE_F_OWNER) stands in for a kernel without that family."""
    dual = rules[1]
    with Netlink(NETFILTER) as other:
        own(other, "edgekube")
        await dual.replace(FOUR | SIX)
        assert "goto service-10.96.0.1/tcp/80" in listed("table", "ip", "edgekube")
        assert caplog.text.count("no service rules for IPv6") == 1
        assert await dual.intact()
        # Nor do changes fail; IPv6 is tried again when all is written.
        await dual.change(
            {Frontend("fd96::2", TCP, 80): Forwarding("b/x", ())}, [Frontend("fd96::1", TCP, 80)]
        )
        await dual.replace(FOUR | SIX)
        assert caplog.text.count("no service rules for IPv6") == 1
    await dual.replace(FOUR | SIX)
    assert "goto service-fd96__1/tcp/80" in listed("table", "ip6", "edgekube")


def own(netlink: Netlink, name: str) -> None:
    """Add an ip6 table that goes with the socket."""
    subsystem, family, owner = 10, 10, 2
    begin = struct.pack("=IHHIIBBH", 20, 0x10, 1, 1, 0, 0, 0, struct.unpack("=H", b"\0\x0a")[0])
    body = bytes([family, 0, 0, 0]) + text(1, name) + attribute(2, struct.pack(">I", owner))
    add = struct.pack("=IHHII", 16 + len(body), subsystem << 8, 1 | 4 | 0x400, 2, 0) + body
    netlink.send(begin + add + begin[:4] + struct.pack("=H", 0x11) + begin[6:])
    list(netlink.receive())


async def test_pods_come_and_go_from_both_sets_of_hairpins(rules):
    dual = rules[1]
    await dual.replace(FOUR | SIX)
    for family, address in (("ip", "10.244.1.2"), ("ip6", "fd00:1::2")):
        assert f"{address} . {address}" in listed("set", family, "edgekube", "hairpin")
    (port,) = (frontend for frontend in SIX if frontend.is_node_port)
    await dual.change({}, [port])
    assert "fd00:1::2" in listed("set", "ip6", "edgekube", "hairpin")
    await dual.change({}, [Frontend("fd96::1", TCP, 80)])
    assert "fd00:1::2" not in listed("set", "ip6", "edgekube", "hairpin")
    assert await dual.intact()


async def test_maps_have_names_of_their_own(rules):
    """Thousands of changes later too: the kernel refuses two of one name."""
    dual, many = rules[1], [Frontend(f"fd96::{n:x}", TCP, 80) for n in range(2, 40)]
    await dual.replace(FOUR | SIX)
    for turn in range(5):
        backends = tuple(Backend(f"fd00:1::{n + turn}", 80) for n in (1, 2, 3))
        await dual.change(dict.fromkeys(many, Forwarding(f"a/{turn}", backends)), [])
    assert len(re.findall(r"numgen inc mod 3", listed("table", "ip6", "edgekube"))) == len(many)
    assert await dual.intact()
