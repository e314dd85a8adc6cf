"""Other programs' packet filters, made with nft(8) and read from the kernel; what is certain about them is true of packets."""

import socket
import struct
import subprocess
from contextlib import closing

import pytest

from contract.netlab import TCP, names
from edgekube.network.base import Forwarding, Frontend
from edgekube.network.foreign import Field, Hook, Match, Rule, Verdict
from edgekube.network.nftables.conntrack import SETTINGS
from edgekube.network.nftables.foreign import NftablesForeignRules, _match
from edgekube.network.nftables.layout import Ranges
from edgekube.network.nftables.services import NftablesServiceRules
from edgekube.proxy.diagnosis import CONNECTIONS, OBSTRUCTED, Diagnosis
from edgekube.proxy.obstacles import obstacles, probes

pytestmark = pytest.mark.root

DOCKER = """
table ip filter {
  chain DOCKER-USER { counter return; }
  chain DOCKER-CT { oifname "docker0" ct state established,related counter accept; }
  chain DOCKER-FORWARD {
    counter jump DOCKER-CT
    iifname "docker0" counter accept
    oifname "docker0" ip daddr 172.17.0.2 tcp dport 80 accept
  }
  chain FORWARD {
    type filter hook forward priority filter; policy drop;
    counter jump DOCKER-USER
    counter jump DOCKER-FORWARD
  }
}
"""
FIREWALLD = """
table inet firewalld {
  chain filter_FWD_public { iifname "dummy7" accept; }
  chain filter_FORWARD {
    type filter hook forward priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
    ip6 daddr { ::/96, fc00::/64 } log prefix "x" reject with icmpv6 addr-unreachable
    jump filter_FWD_public
    reject with icmpx admin-prohibited
  }
  chain filter_INPUT {
    type filter hook input priority filter + 10; policy accept;
    ct state vmap { established : accept, related : accept, invalid : drop }
    iifname { "lo", "eth7" } accept
    meta l4proto { icmp, ipv6-icmp } accept
    tcp dport { 22, 8080 } accept
    reject
  }
}
"""
FRIENDLY = """
table inet mine {
  set known { type ipv4_addr; flags interval; elements = { 10.244.0.0/16 } }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ip saddr @known accept
    oifname "ek*" accept
  }
  chain input { type filter hook input priority 0; policy drop; iifname "ek*" udp dport 53 accept; }
  chain other { type nat hook postrouting priority 0; policy accept; masquerade; }
}
"""
WEB = Frontend("10.96.7.1", TCP, 80)
RANGES = Ranges(service_cidr="10.96.0.0/16", cluster_cidr="10.244.0.0/16")
FOUR, SIX = probes("10.244.1.2", "10.96.0.10"), probes("fd00:10:244:1::2", "fd96::a")


def load(rules: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True, timeout=20)


async def found(*packets):
    return {
        (each.table, each.chain): each.stops
        for each in obstacles(await NftablesForeignRules().chains(), packets)
    }


async def test_without_other_programs_there_is_nothing(node):
    assert list(await NftablesForeignRules().chains()) == []


async def test_dockers_forward_policy(node):
    load(DOCKER)
    stops = await found(*FOUR)
    assert set(stops) == {("filter", "FORWARD")}
    assert len(stops["filter", "FORWARD"]) == 3
    assert await found(*SIX) == {}
    # So it is: the node reaches its pods, pods do not reach each other.
    target = Frontend(node.pods[1].address, TCP, 8080)
    assert names(node.ask(target)) == {"pod-1": 1}
    with pytest.raises(TimeoutError):
        node.ask(target, pod=0, timeout=0.5)
    before = node.nft("list", "ruleset")
    assert await found(*FOUR) == stops
    assert node.nft("list", "ruleset") == before
    # What people are told to do about it.
    node.nft("insert", "rule", "ip", "filter", "DOCKER-USER", "oifname", "ek*", "accept")
    node.nft("insert", "rule", "ip", "filter", "DOCKER-USER", "iifname", "ek*", "accept")
    assert await found(*FOUR) == {}
    assert names(node.ask(target, pod=0)) == {"pod-1": 1}


async def test_firewallds_reject(node):
    load(FIREWALLD)
    for packets in (FOUR, SIX):
        stops = await found(*packets)
        assert len(stops["firewalld", "filter_FORWARD"]) == 3
        assert stops["firewalld", "filter_INPUT"] == ("what pods ask the node's DNS",)
    with pytest.raises((TimeoutError, OSError)):
        node.ask(Frontend(node.pods[1].address, TCP, 8080), pod=0, timeout=0.5)


async def test_rules_that_let_pods_through(node):
    load(FRIENDLY)
    assert await found(*FOUR) == {}
    assert set(await found(*SIX)) == {("mine", "forward")}
    assert names(node.ask(Frontend(node.pods[1].address, TCP, 8080), pod=0)) == {"pod-1": 1}


async def test_what_is_read(node):
    load(FIREWALLD)
    chains = {chain.name: chain for chain in await NftablesForeignRules().chains()}
    forward, entrance = chains["filter_FORWARD"], chains["filter_INPUT"]
    assert (forward.family, forward.hook, forward.drops) == ("inet", Hook.FORWARD, False)
    # A rule for each element of a set.
    states = {Rule((Match(Field.STATE, struct.pack("=I", bit)),), Verdict.ACCEPT) for bit in (2, 4)}
    assert set(forward.rules[:2]) == states
    assert forward.rules[-1] == Rule((), Verdict.DROP)
    assert chains["filter_FWD_public"].hook is Hook.NONE
    assert Rule((Match(Field.STATE, struct.pack("=I", 1)),), Verdict.DROP) in entrance.rules
    ports = {test.value for rule in entrance.rules for test in rule.matches if test.field is Field.PORT}
    assert ports == {struct.pack(">H", 22), struct.pack(">H", 8080)}


def test_connection_states_of_iptables_rules_are_understood():
    info = bytearray(164)
    struct.pack_into("=HHHH", info, 146, 1, 0, 2 | 4, 0)
    said = _match({1: b"conntrack\0", 3: bytes(info)})
    assert said == [[Match(Field.STATE, bytes(4), struct.pack("=I", 6), equal=False)]]
    struct.pack_into("=HHHH", info, 146, 1, 1, 2 | 4, 0)
    assert _match({1: b"conntrack\0", 3: bytes(info)})[0][0].equal
    assert _match({1: b"addrtype\0"}) == [[Match()]]
    assert _match({1: b"comment\0"}) == []


class Heard:
    """A Reporter's one verb that is used here."""

    def __init__(self):
        self.messages = []

    def event(self, event):
        self.messages.append((event.reason, event.message))


async def test_the_node_says_what_stops_its_pods_and_touches_nothing(node):
    heard = Heard()
    look = Diagnosis(heard, "here", node.rules, NftablesForeignRules(), probes=lambda: FOUR)
    await look.look()
    assert heard.messages == []
    load(DOCKER)
    before = node.nft("list", "ruleset")
    await look.look()
    await look.look()
    ((reason, message),) = heard.messages
    assert reason == OBSTRUCTED
    assert "chain FORWARD of table ip filter drops what pods send" in message
    assert node.nft("list", "ruleset") == before
    assert await node.rules.intact()


async def test_a_full_table_of_connections_is_told_with_figures(node, tmp_path):
    """The kernel counts for each namespace; the limit is the machine's, so a small one is said in its place."""
    await node.rules.replace({WEB: Forwarding("a/web", node.backends(0))})
    before = (await node.rules.flows()).known
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as made:
        for port in range(20000, 20050):
            made.sendto(b"x", (node.pods[0].address, port))
    known, most = await node.rules.flows()
    assert before + 40 <= known < most
    (tmp_path / "nf_conntrack_count").symlink_to(SETTINGS / "nf_conntrack_count")
    (tmp_path / "nf_conntrack_max").write_text(f"{known}\n")
    rules = NftablesServiceRules(RANGES, settings=tmp_path)
    heard = Heard()
    look = Diagnosis(heard, "here", rules, NftablesForeignRules(), probes=list)
    try:
        await look.look()
        await look.look()
        (tmp_path / "nf_conntrack_max").unlink()
        await look.look()
    finally:
        rules.close()
    ((reason, message),) = heard.messages
    assert reason == CONNECTIONS
    assert f"of at most {known} connections" in message
