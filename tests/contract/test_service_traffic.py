"""Traffic policies, source ranges and choice by chance: what a Forwarding says, with real packets and in memory."""

import os
import re
import select
import socket
import struct
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from contract.netlab import SCTP, TCP, UDP, connected, names, nftables
from edgekube.api.types import core_v1, meta_v1
from edgekube.network import netns
from edgekube.network.base import ANY, Backend, Forwarding, Frontend
from edgekube.network.memory import MemoryServiceRules
from edgekube.network.nftables.layout import chain_of, inside_of
from edgekube.proxy.hostports import plan_host_ports

BALANCED = Frontend("203.0.113.9", TCP, 80)
PORT = Frontend(ANY, TCP, 30080)
WEB = Frontend("10.96.7.1", TCP, 80)
ABSENT = Backend("10.244.9.9", 8080)
"""A backend on another node, where nobody answers."""
SHORT = 0.5
"""Seconds to wait for an answer that must not come."""


class TestInMemory:
    """The shipped fake says the same as the kernel below."""

    async def test_pods_have_backends_of_their_own(self):
        rules = MemoryServiceRules("10.244.0.0/16")
        far, near = Backend("10.244.2.2", 80), Backend("10.244.1.2", 80, local=True)
        await rules.replace({WEB: Forwarding("x", (near,), inside=(far,))})
        assert rules.connect(WEB, client="10.244.1.7") == far
        assert rules.connect(WEB, client="10.50.0.2") == near

    async def test_drops_and_refuses(self):
        rules = MemoryServiceRules("10.244.0.0/16")
        await rules.replace({WEB: Forwarding("x", (), silent=True), PORT: Forwarding("x", ())})
        with pytest.raises(TimeoutError):
            rules.connect(WEB)
        assert rules.connect(PORT) is None

    async def test_lets_the_sources_in(self):
        rules = MemoryServiceRules("10.244.0.0/16")
        await rules.replace({WEB: Forwarding("x", (ABSENT,), sources=("10.50.0.0/30",))})
        assert rules.connect(WEB, client="10.50.0.2") == ABSENT
        with pytest.raises(TimeoutError):
            rules.connect(WEB, client="10.50.0.4")


@pytest.mark.root
class TestPolicyLocal:
    async def test_outsiders_reach_this_nodes_pods_and_are_seen(self, each_node):
        local = Forwarding("a/web", each_node.backends(0), inside=each_node.backends(0, 1))
        frontends = [f._replace(transport=t) for f in (BALANCED, PORT) for t in (TCP, UDP)]
        await each_node.rules.replace(dict.fromkeys(frontends, local))
        with each_node.outsider("203.0.113.9/32") as lan:
            for frontend in frontends:
                address = "10.50.0.1" if frontend.is_node_port else ""
                assert set(each_node.ask(frontend, where=lan, times=4, address=address)) == {
                    "pod-0 10.50.0.2"
                }
                # Pods, a backend among them, and the node itself reach all endpoints.
                for pod in (0, 2, None):
                    seen = names(each_node.ask(frontend, pod=pod, times=4, address=address))
                    assert seen == {"pod-0": 2, "pod-1": 2}

    async def test_without_a_pod_here_outsiders_get_no_answer_and_pods_one_of_another_node(self, each_node):
        away = Forwarding("a/web", (), inside=each_node.backends(1), silent=True)
        await each_node.rules.replace({BALANCED: away, PORT: away})
        with each_node.outsider("203.0.113.9/32") as lan:
            for frontend in (BALANCED, PORT):
                address = "10.50.0.1" if frontend.is_node_port else ""
                with pytest.raises(TimeoutError):
                    each_node.ask(frontend, where=lan, address=address, timeout=SHORT)
                assert names(each_node.ask(frontend, pod=0, address=address)) == {"pod-1": 1}
                assert names(each_node.ask(frontend, address=address)) == {"pod-1": 1}
            # The first pod starts here, then the last anywhere ends.
            await each_node.rules.change({BALANCED: Forwarding("a/web", each_node.backends(0))}, [])
            assert each_node.ask(BALANCED, where=lan) == ["pod-0 10.50.0.2"]
            await each_node.rules.change({BALANCED: Forwarding("a/web", ())}, [])
            with pytest.raises(ConnectionRefusedError):
                each_node.ask(BALANCED, where=lan)

    async def test_a_cluster_address_without_a_pod_here_is_silent(self, each_node):
        await each_node.rules.replace({WEB: Forwarding("a/web", (), silent=True)})
        for pod in (0, None):
            with pytest.raises((TimeoutError, PermissionError)):
                each_node.ask(WEB, pod=pod, timeout=SHORT)

    async def test_affinity_holds_inside_and_outside(self, each_node):
        sticky = Forwarding(
            "a/web", each_node.backends(0, 1), affinity=60, inside=each_node.backends(0, 1, 2)
        )
        await each_node.rules.replace({BALANCED: sticky})
        with each_node.outsider("203.0.113.9/32") as lan:
            assert len(names(each_node.ask(BALANCED, where=lan, times=6))) == 1
            assert len(names(each_node.ask(BALANCED, pod=1, times=6))) == 1


@pytest.mark.root
async def test_a_host_port_is_reached_from_everywhere(each_node):
    """Outsiders are seen as they are; the pod behind it reaches itself."""
    pod = core_v1.Pod(
        metadata=meta_v1.ObjectMeta(namespace="a", name="web"),
        spec=core_v1.PodSpec(
            containers=(
                core_v1.Container(
                    name="c",
                    ports=(
                        core_v1.ContainerPort(container_port=8080, host_port=8081),
                        core_v1.ContainerPort(container_port=8080, host_port=8082, host_ip="10.50.0.1"),
                    ),
                ),
            )
        ),
    )
    await each_node.rules.replace(plan_host_ports(pod, each_node.pods[0].address))
    with each_node.outsider() as lan:
        for port in (8081, 8082):
            frontend = Frontend("10.50.0.1", TCP, port)
            assert each_node.ask(frontend, where=lan) == ["pod-0 10.50.0.2"]
            assert each_node.ask(frontend, pod=1) == [f"pod-0 {each_node.pods[1].address}"]
            assert names(each_node.ask(frontend, pod=0)) == {"pod-0": 1}
            assert names(each_node.ask(frontend)) == {"pod-0": 1}
        assert names(each_node.ask(Frontend("10.244.1.1", TCP, 8081), pod=1)) == {"pod-0": 1}
        # Nobody listens on the node itself.
        with pytest.raises(ConnectionRefusedError):
            each_node.ask(Frontend("10.244.1.1", TCP, 8082), pod=1)


@pytest.mark.root
@pytest.mark.parametrize("outer", [WEB, BALANCED, PORT], ids=["cluster", "balanced", "node-port"])
async def test_datagram_clients_move_to_the_backends_there_are(each_node, outer):
    frontend = outer._replace(transport=UDP)
    target = (
        each_node.dialect.at("10.244.1.1" if frontend.is_node_port else frontend.address),
        frontend.port,
    )
    await each_node.rules.replace({frontend: Forwarding("a/x", each_node.backends(0), masquerade=True)})
    client = netns.inside(Path(each_node.pods[2].netns), lambda: connected(target, UDP))
    with closing(client):
        for backend in (0, 1):
            wish = Forwarding("a/x", each_node.backends(backend), masquerade=True)
            await each_node.rules.change({frontend: wish}, [])
            client.send(b"?")
            assert client.recv(100).decode().startswith(f"pod-{backend} ")
        # All of them written anew, by a process that does not know what was.
        fresh = nftables(each_node.dialect)
        try:
            await fresh.replace({frontend: Forwarding("a/x", each_node.backends(0), masquerade=True)})
            client.send(b"?")
            assert client.recv(100).decode().startswith("pod-0 ")
        finally:
            fresh.close()


KILLED = """
import asyncio, sys
from contract.netlab import SIX, nftables
from edgekube.network.base import Backend, Forwarding, Frontend, Transport

async def main():
    rules = nftables(SIX)
    rules.dialect = type(rules).dialect
    fronts = [Frontend(f"10.96.{n // 250}.{1 + n % 250}", Transport.TCP, 80) for n in range(250)]
    fronts6 = [Frontend(f"fd64::{1 + n}", Transport.TCP, 80) for n in range(250)]
    turn = 0
    while True:
        turn += 1
        four = tuple(Backend(f"10.244.{turn % 200}.{n}", 80) for n in (1, 2, 3))
        six = tuple(Backend(f"fd00:10:244:{turn % 200}::{n}", 80) for n in (1, 2, 3))
        await rules.replace(
            dict.fromkeys(fronts, Forwarding(f"turn-{turn}", four))
            | dict.fromkeys(fronts6, Forwarding(f"turn-{turn}", six))
        )
        print("written", flush=True)

asyncio.run(main())
"""


@pytest.mark.root
async def test_killed_in_the_middle_of_writing_leaves_all_or_nothing(node, tmp_path):
    script = tmp_path / "writer.py"
    script.write_text(KILLED)
    places = os.pathsep.join(["tests", *sys.path])
    for number in range(4):
        with subprocess.Popen(
            [sys.executable, script], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": places}
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            # Somewhere in the next batch, another place each time.
            select.select([child.stdout], [], [], 0.03 * number)
            child.kill()
        listed = [node.nft("list", "table", family, "edgekube") for family in ("ip", "ip6")]
        turns = [Counter(re.findall(r'comment "(turn-\d+)"', text)) for text in listed]
        # One batch: the families are of the same turn.
        assert list(turns[0].values()) == [250], turns
        assert turns[0] == turns[1]
        assert len(re.findall(r": goto service-10\.96", listed[0])) == 250
        assert len(re.findall(r": goto service-fd64__", listed[1])) == 250


@pytest.mark.root
class TestSourceRanges:
    async def test_others_get_no_answer(self, each_node):
        served = Forwarding("a/web", each_node.backends(0, 1), masquerade=True)
        with each_node.outsider("203.0.113.9/32") as lan:
            for ranges, reached in (
                (("10.50.0.0/30", "192.0.2.0/24"), True),
                (("10.50.0.2/32",), True),
                (("10.50.0.3/32", "10.50.0.0/31"), False),
                ((), True),
            ):
                wish = Forwarding(served.name, served.backends, masquerade=True, sources=ranges)
                await each_node.rules.change({BALANCED: wish}, [])
                if reached:
                    assert len(names(each_node.ask(BALANCED, where=lan, times=2))) == 2
                else:
                    with pytest.raises(TimeoutError):
                        each_node.ask(BALANCED, where=lan, timeout=SHORT)

    async def test_pods_need_to_be_in_the_ranges_too(self, each_node):
        address = each_node.pods[0].address
        wish = Forwarding("a/web", each_node.backends(1), masquerade=True, sources=(f"{address}/32",))
        await each_node.rules.replace({BALANCED: wish})
        assert names(each_node.ask(BALANCED, pod=0)) == {"pod-1": 1}
        with pytest.raises(TimeoutError):
            each_node.ask(BALANCED, pod=2, timeout=SHORT)


@pytest.mark.root
async def test_choice_by_chance_reaches_all(each_node):
    await each_node.rules.replace({WEB: Forwarding("a/web", each_node.backends(0, 1, 2), random=True)})
    seen = names(each_node.ask(WEB, pod=0, times=300))
    # Six standard deviations: off once in 500 million runs.
    assert all(51 <= seen[f"pod-{number}"] <= 149 for number in range(3)), seen


@pytest.mark.root
async def test_nft_reads_policies_ranges_and_chance(each_node):
    wish = Forwarding(
        "a/web",
        each_node.backends(0),
        inside=each_node.backends(0, 1),
        sources=("10.0.0.0/8", "192.0.2.0/24"),
        random=True,
    )
    silent = Forwarding("a/none", (), inside=(ABSENT,), silent=True)
    sticky = Forwarding("a/sticky", each_node.backends(0), inside=each_node.backends(1), affinity=10)
    await each_node.rules.replace({BALANCED: wish, PORT: silent, WEB: sticky})
    listed = each_node.nft("list", "ruleset")
    assert each_node.dialect.at("10.0.0.0/8") in listed
    assert "numgen random mod" in listed
    each_node.nft("-c", "-f", "-", given="flush ruleset\n" + listed)
    assert await each_node.rules.intact()
    each_node.nft("add", "table", "ip", "somebody")
    # Rules are counted when somebody changed something: the count must be right for these too.
    assert await each_node.rules.intact()
    for gone in (BALANCED, PORT, WEB):
        await each_node.rules.change({}, [gone])
    assert "web" not in each_node.nft("list", "table", each_node.dialect.name, "edgekube").replace(
        "edgekube", ""
    )


SCTP_INIT = 1
_PORTS = struct.Struct(">HHII")


@pytest.mark.root
async def test_sctp_packets_are_translated_there_and_back(each_node):
    """By raw packets: an INIT chunk to the service arrives at the backend; its answer comes from the service."""
    frontend = WEB._replace(transport=SCTP)
    await each_node.rules.replace({frontend: Forwarding("a/sctp", each_node.backends(1))})

    said, pods = each_node.dialect, each_node.pods
    # Raw IPv4 sockets are given the IP header too.
    header = 0 if said.six else 20

    def raw() -> socket.socket:
        made = socket.socket(said.family, socket.SOCK_RAW, 132)
        made.settimeout(10)
        return made

    with (
        closing(netns.inside(Path(pods[1].netns), raw)) as server,
        closing(netns.inside(Path(pods[0].netns), raw)) as client,
    ):
        client.sendto(sctp(4000, 80, chunk=SCTP_INIT, tag=0), (said.at(WEB.address), 0))
        data, source = server.recvfrom(2000)
        assert said.back(source[0]) == pods[0].address
        assert data[header:][:4] == struct.pack(">HH", 4000, 8080)
        server.sendto(sctp(8080, 4000, chunk=2, tag=7), (source[0], 0))
        data, source = client.recvfrom(2000)
        assert said.back(source[0]) == WEB.address
        assert data[header:][:4] == struct.pack(">HH", 80, 4000)


def sctp(source: int, target: int, *, chunk: int, tag: int) -> bytes:
    """Return an SCTP packet of one INIT or INIT ACK chunk (RFC 9260)."""
    body = struct.pack(">BBHIIHHI", chunk, 0, 20, 7, 65536, 1, 1, 1)
    bare = struct.pack(">HHII", source, target, tag, 0) + body
    return bare[:8] + struct.pack("<I", crc32c(bare)) + bare[12:]


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.root
async def test_a_connection_outlives_a_thousand_other_changes(each_node):
    """Only the chains of what changes are written, and what is held goes on."""
    others = [Frontend(f"10.96.{8 + n // 250}.{1 + n % 250}", TCP, 80) for n in range(1000)]
    held = Forwarding("a/held", each_node.backends(0))
    await each_node.rules.replace(
        {WEB: held} | dict.fromkeys(others, Forwarding("a/other", each_node.backends(1)))
    )
    chain = chain_of(each_node.dialect.front(WEB))
    before = handles_of(each_node, chain)

    def hold() -> socket.socket:
        return connected((each_node.dialect.at(WEB.address), WEB.port), TCP)

    with closing(netns.inside(Path(each_node.pods[2].netns), hold)) as client:
        for start in range(0, 1000, 50):
            batch = others[start : start + 50]
            await each_node.rules.change(
                dict.fromkeys(batch[:40], Forwarding("a/other", each_node.backends(2))), batch[40:]
            )
            client.send(b"?")
            assert client.recv(100).decode().startswith("pod-0 ")
    assert handles_of(each_node, chain) == before
    assert names(each_node.ask(others[0])) == {"pod-2": 1}


def handles_of(node, chain: str) -> list[str]:
    """Return the kernel's numbers of a chain's rules: others when they were written anew."""
    return re.findall(
        r"# handle (\d+)", node.nft("-a", "list", "chain", node.dialect.name, "edgekube", chain)
    )


@pytest.mark.root
@pytest.mark.parametrize("affinity", [0, 10])
async def test_who_meets_changing_rules_is_not_refused(each_node, affinity):
    """A packet that finds its backends' map gone is dropped, so that it is sent again, and never passed on."""
    await each_node.rules.replace(
        {WEB: Forwarding("a/web", each_node.backends(0), inside=each_node.backends(0, 1), affinity=affinity)}
    )
    said = each_node.dialect
    chain = chain_of(said.front(WEB))
    for name in (chain, inside_of(chain)):
        listed = each_node.nft("list", "chain", said.name, "edgekube", name)
        rules = [line.strip() for line in listed.splitlines() if line.startswith("\t\t")]
        assert ["numgen" in rule for rule in rules[-2:]] == [True, False], listed
        assert rules[-1] == "drop"
