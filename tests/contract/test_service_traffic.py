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
from edgekube.network.base import Backend, Forwarding, Frontend
from edgekube.network.memory import MemoryServiceRules
from edgekube.proxy.hostports import plan_host_ports

BALANCED = Frontend("203.0.113.9", TCP, 80)
PORT = Frontend("", TCP, 30080)
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
    async def test_outsiders_reach_this_nodes_pods_and_are_seen(self, node):
        local = Forwarding("a/web", node.backends(0), inside=node.backends(0, 1))
        frontends = [f._replace(transport=t) for f in (BALANCED, PORT) for t in (TCP, UDP)]
        await node.rules.replace(dict.fromkeys(frontends, local))
        with node.outsider("203.0.113.9/32") as lan:
            for frontend in frontends:
                address = "" if frontend.address else "10.50.0.1"
                assert set(node.ask(frontend, where=lan, times=4, address=address)) == {"pod-0 10.50.0.2"}
                # Pods, a backend among them, and the node itself reach all endpoints.
                for pod in (0, 2, None):
                    seen = names(node.ask(frontend, pod=pod, times=4, address=address))
                    assert seen == {"pod-0": 2, "pod-1": 2}

    async def test_without_a_pod_here_outsiders_get_no_answer_and_pods_one_of_another_node(self, node):
        away = Forwarding("a/web", (), inside=node.backends(1), silent=True)
        await node.rules.replace({BALANCED: away, PORT: away})
        with node.outsider("203.0.113.9/32") as lan:
            for frontend in (BALANCED, PORT):
                address = "" if frontend.address else "10.50.0.1"
                with pytest.raises(TimeoutError):
                    node.ask(frontend, where=lan, address=address, timeout=SHORT)
                assert names(node.ask(frontend, pod=0, address=address)) == {"pod-1": 1}
                assert names(node.ask(frontend, address=address)) == {"pod-1": 1}
            # The first pod starts here, then the last anywhere ends.
            await node.rules.change({BALANCED: Forwarding("a/web", node.backends(0))}, [])
            assert node.ask(BALANCED, where=lan) == ["pod-0 10.50.0.2"]
            await node.rules.change({BALANCED: Forwarding("a/web", ())}, [])
            with pytest.raises(ConnectionRefusedError):
                node.ask(BALANCED, where=lan)

    async def test_a_cluster_address_without_a_pod_here_is_silent(self, node):
        await node.rules.replace({WEB: Forwarding("a/web", (), silent=True)})
        for pod in (0, None):
            with pytest.raises((TimeoutError, PermissionError)):
                node.ask(WEB, pod=pod, timeout=SHORT)

    async def test_affinity_holds_inside_and_outside(self, node):
        sticky = Forwarding("a/web", node.backends(0, 1), affinity=60, inside=node.backends(0, 1, 2))
        await node.rules.replace({BALANCED: sticky})
        with node.outsider("203.0.113.9/32") as lan:
            assert len(names(node.ask(BALANCED, where=lan, times=6))) == 1
            assert len(names(node.ask(BALANCED, pod=1, times=6))) == 1


@pytest.mark.root
async def test_a_host_port_is_reached_from_everywhere(node):
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
    await node.rules.replace(plan_host_ports(pod, node.pods[0].address))
    with node.outsider() as lan:
        for port in (8081, 8082):
            frontend = Frontend("10.50.0.1", TCP, port)
            assert node.ask(frontend, where=lan) == ["pod-0 10.50.0.2"]
            assert node.ask(frontend, pod=1) == [f"pod-0 {node.pods[1].address}"]
            assert names(node.ask(frontend, pod=0)) == {"pod-0": 1}
            assert names(node.ask(frontend)) == {"pod-0": 1}
        assert names(node.ask(Frontend("10.244.1.1", TCP, 8081), pod=1)) == {"pod-0": 1}
        # Nobody listens on the node itself.
        with pytest.raises(ConnectionRefusedError):
            node.ask(Frontend("10.244.1.1", TCP, 8082), pod=1)


@pytest.mark.root
@pytest.mark.parametrize("outer", [WEB, BALANCED, PORT], ids=["cluster", "balanced", "node-port"])
async def test_datagram_clients_move_to_the_backends_there_are(node, outer):
    frontend = outer._replace(transport=UDP)
    target = (frontend.address or "10.244.1.1", frontend.port)
    await node.rules.replace({frontend: Forwarding("a/x", node.backends(0), masquerade=True)})
    client = netns.inside(Path(node.pods[2].netns), lambda: connected(target, UDP))
    with closing(client):
        for backend in (0, 1):
            wish = Forwarding("a/x", node.backends(backend), masquerade=True)
            await node.rules.change({frontend: wish}, [])
            client.send(b"?")
            assert client.recv(100).decode().startswith(f"pod-{backend} ")
        # All of them written anew, by a process that does not know what was.
        fresh = nftables()
        try:
            await fresh.replace({frontend: Forwarding("a/x", node.backends(0), masquerade=True)})
            client.send(b"?")
            assert client.recv(100).decode().startswith("pod-0 ")
        finally:
            fresh.close()


KILLED = """
import asyncio, sys
from contract.netlab import nftables
from edgekube.network.base import Backend, Forwarding, Frontend, Transport

async def main():
    rules = nftables()
    fronts = [Frontend(f"10.96.{n // 250}.{1 + n % 250}", Transport.TCP, 80) for n in range(500)]
    turn = 0
    while True:
        turn += 1
        backends = tuple(Backend(f"10.244.{turn % 200}.{n}", 80) for n in (1, 2, 3))
        await rules.replace(dict.fromkeys(fronts, Forwarding(f"turn-{turn}", backends)))
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
        listed = node.nft("list", "table", "ip", "edgekube")
        turns = Counter(re.findall(r'comment "(turn-\d+)"', listed))
        assert list(turns.values()) == [500], turns
        assert len(re.findall(r": goto service-10\.96", listed)) == 500


@pytest.mark.root
class TestSourceRanges:
    async def test_others_get_no_answer(self, node):
        served = Forwarding("a/web", node.backends(0, 1), masquerade=True)
        with node.outsider("203.0.113.9/32") as lan:
            for ranges, reached in (
                (("10.50.0.0/30", "192.0.2.0/24"), True),
                (("10.50.0.2/32",), True),
                (("10.50.0.3/32", "10.50.0.0/31"), False),
                ((), True),
            ):
                wish = Forwarding(served.name, served.backends, masquerade=True, sources=ranges)
                await node.rules.change({BALANCED: wish}, [])
                if reached:
                    assert len(names(node.ask(BALANCED, where=lan, times=2))) == 2
                else:
                    with pytest.raises(TimeoutError):
                        node.ask(BALANCED, where=lan, timeout=SHORT)

    async def test_pods_need_to_be_in_the_ranges_too(self, node):
        address = node.pods[0].address
        wish = Forwarding("a/web", node.backends(1), masquerade=True, sources=(f"{address}/32",))
        await node.rules.replace({BALANCED: wish})
        assert names(node.ask(BALANCED, pod=0)) == {"pod-1": 1}
        with pytest.raises(TimeoutError):
            node.ask(BALANCED, pod=2, timeout=SHORT)


@pytest.mark.root
async def test_choice_by_chance_reaches_all(node):
    await node.rules.replace({WEB: Forwarding("a/web", node.backends(0, 1, 2), random=True)})
    seen = names(node.ask(WEB, pod=0, times=300))
    # Six standard deviations: off once in 500 million runs.
    assert all(51 <= seen[f"pod-{number}"] <= 149 for number in range(3)), seen


@pytest.mark.root
async def test_nft_reads_policies_ranges_and_chance(node):
    wish = Forwarding(
        "a/web",
        node.backends(0),
        inside=node.backends(0, 1),
        sources=("10.0.0.0/8", "192.0.2.0/24"),
        random=True,
    )
    silent = Forwarding("a/none", (), inside=(ABSENT,), silent=True)
    sticky = Forwarding("a/sticky", node.backends(0), inside=node.backends(1), affinity=10)
    await node.rules.replace({BALANCED: wish, PORT: silent, WEB: sticky})
    listed = node.nft("list", "ruleset")
    assert "10.0.0.0/8" in listed
    assert "numgen random mod" in listed
    node.nft("-c", "-f", "-", given="flush ruleset\n" + listed)
    assert await node.rules.intact()
    node.nft("add", "table", "ip", "somebody")
    # Rules are counted when somebody changed something: the count must be right for these too.
    assert await node.rules.intact()
    for gone in (BALANCED, PORT, WEB):
        await node.rules.change({}, [gone])
    assert "web" not in node.nft("list", "table", "ip", "edgekube").replace("edgekube", "")


SCTP_INIT = 1
_PORTS = struct.Struct(">HHII")


@pytest.mark.root
async def test_sctp_packets_are_translated_there_and_back(node):
    """By raw packets: an INIT chunk to the service arrives at the backend; its answer comes from the service."""
    frontend = WEB._replace(transport=SCTP)
    await node.rules.replace({frontend: Forwarding("a/sctp", node.backends(1))})

    def raw() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
        made.settimeout(10)
        return made

    with (
        closing(netns.inside(Path(node.pods[1].netns), raw)) as server,
        closing(netns.inside(Path(node.pods[0].netns), raw)) as client,
    ):
        client.sendto(sctp(4000, 80, chunk=SCTP_INIT, tag=0), (WEB.address, 0))
        data, (source, _) = server.recvfrom(2000)
        assert source == node.pods[0].address
        assert data[20:24] == struct.pack(">HH", 4000, 8080)
        server.sendto(sctp(8080, 4000, chunk=2, tag=7), (source, 0))
        data, (source, _) = client.recvfrom(2000)
        assert source == WEB.address
        assert data[20:24] == struct.pack(">HH", 80, 4000)


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
async def test_a_connection_outlives_a_thousand_other_changes(node):
    """Only the chains of what changes are written, and what is held goes on."""
    others = [Frontend(f"10.96.{8 + n // 250}.{1 + n % 250}", TCP, 80) for n in range(1000)]
    held = Forwarding("a/held", node.backends(0))
    await node.rules.replace({WEB: held} | dict.fromkeys(others, Forwarding("a/other", node.backends(1))))
    before = handles_of(node, "service-10.96.7.1/tcp/80")

    def hold() -> socket.socket:
        return connected((WEB.address, WEB.port), TCP)

    with closing(netns.inside(Path(node.pods[2].netns), hold)) as client:
        for start in range(0, 1000, 50):
            batch = others[start : start + 50]
            await node.rules.change(
                dict.fromkeys(batch[:40], Forwarding("a/other", node.backends(2))), batch[40:]
            )
            client.send(b"?")
            assert client.recv(100).decode().startswith("pod-0 ")
    assert handles_of(node, "service-10.96.7.1/tcp/80") == before
    assert names(node.ask(others[0])) == {"pod-2": 1}


def handles_of(node, chain: str) -> list[str]:
    """Return the kernel's numbers of a chain's rules: others when they were written anew."""
    return re.findall(r"# handle (\d+)", node.nft("-a", "list", "chain", "ip", "edgekube", chain))
