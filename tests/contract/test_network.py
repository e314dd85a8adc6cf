"""What every PodNetwork, PeerRoutes and ServiceRules must do; in the kernel with real traffic."""

import asyncio
import fcntl
import socket
import struct
import subprocess
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import pytest

from contract.netlab import (
    ADDRESSING,
    FOUR,
    SIX,
    TCP,
    UDP,
    Servers,
    ask,
    connected,
    linux,
    names,
    nftables,
    node_in,
)
from edgekube.api.types import core_v1, discovery_v1, meta_v1
from edgekube.control.mirror import Mirror
from edgekube.network import netns
from edgekube.network.base import (
    ANY,
    AddressesExhausted,
    Backend,
    Bandwidth,
    Forwarding,
    Frontend,
    NetworkError,
    Peer,
    Transport,
)
from edgekube.network.linux import LinuxPodNetwork, NodeAddressing
from edgekube.network.memory import MemoryPodNetwork, MemoryServiceRules
from edgekube.network.nftables.layout import chain_of
from edgekube.network.overlay import Mode
from edgekube.proxy.services import ServiceProxy

ADAPTERS = ["memory", pytest.param("linux", marks=pytest.mark.root)]


@pytest.fixture(params=ADAPTERS)
async def network(request, tmp_path):
    if request.param == "memory":
        yield MemoryPodNetwork("10.244.1.0/28")
        return
    made = linux(request.getfixturevalue("namespace"), tmp_path)
    await made.prepare()
    yield made
    await made.clear()


class TestPodNetwork:
    async def test_gives_each_pod_an_address_of_the_node(self, network):
        pods = [await network.attach(f"uid-{number}", "web", sysctls={}) for number in range(3)]
        addresses = {pod.address for pod in pods}
        assert len(addresses) == 3
        assert addresses <= {f"10.244.1.{number}" for number in range(2, 15)}
        assert sorted(await network.list(), key=lambda pod: pod.uid) == pods

    async def test_attaching_again_changes_nothing(self, network):
        first = await network.attach("uid", "web", sysctls={})
        assert await network.attach("uid", "web", sysctls={}) == first
        assert list(await network.list()) == [first]

    async def test_detaching_frees_the_address(self, network):
        for number in range(13):
            await network.attach(f"uid-{number}", "web", sysctls={})
        with pytest.raises(AddressesExhausted):
            await network.attach("one-more", "web", sysctls={})
        freed = next(pod for pod in await network.list() if pod.uid == "uid-7")
        await network.detach("uid-7")
        again = await network.attach("one-more", "web", sysctls={})
        assert again.address == freed.address
        assert "uid-7" not in {pod.uid for pod in await network.list()}

    async def test_a_freed_address_rests_while_others_are_free(self, network):
        first = await network.attach("a", "web", sysctls={})
        await network.detach("a")
        assert (await network.attach("b", "web", sysctls={})).address != first.address

    async def test_detaching_what_is_not_there_is_fine(self, network):
        await network.detach("nobody")
        await network.attach("uid", "web", sysctls={})
        await network.detach("uid")
        await network.detach("uid")
        assert list(await network.list()) == []

    async def test_traffic_starts_near_nothing_and_needs_a_pod(self, network):
        await network.attach("uid", "web", sysctls={})
        assert (await network.traffic("uid")).received_bytes < 10_000
        with pytest.raises(NetworkError):
            await network.traffic("nobody")


WEB = Frontend("10.96.7.1", TCP, 80)
WEB_UDP = Frontend("10.96.7.1", UDP, 80)
PORT = Frontend(ANY, TCP, 30080)


@pytest.fixture(params=[*ADAPTERS, pytest.param("linux6", marks=pytest.mark.root)])
async def service_rules(request, tmp_path):
    """The rules, with a way to ask who would answer a new connection: a pod's number, or None if refused."""
    backends = tuple(Backend(f"10.244.1.{number}", 8080, local=True) for number in (2, 3, 4))
    if request.param == "memory":
        memory = MemoryServiceRules()

        def connect(frontend: Frontend) -> int | None:
            chosen = memory.connect(frontend)
            return None if chosen is None else backends.index(chosen)

        yield memory, backends, connect, memory.flush
        return

    def over_the_wire(frontend: Frontend) -> int | None:
        try:
            return int(node.ask(frontend)[0].split()[0].removeprefix("pod-"))
        except ConnectionRefusedError:
            return None

    dialect = SIX if request.param == "linux6" else FOUR
    async with node_in(request.getfixturevalue("namespace"), tmp_path, dialect) as node:
        yield node.rules, node.backends(0, 1, 2), over_the_wire, lambda: node.nft("flush", "ruleset")


class TestServiceRules:
    async def test_spreads_evenly(self, service_rules):
        rules, backends, connect, _flush = service_rules
        await rules.replace({WEB: Forwarding("a/web:http", backends)})
        assert Counter(connect(WEB) for _ in range(30)) == {0: 10, 1: 10, 2: 10}

    async def test_refuses_without_backends(self, service_rules):
        rules, backends, connect, _flush = service_rules
        await rules.replace({WEB: Forwarding("a/web", ())})
        assert connect(WEB) is None
        await rules.change({WEB: Forwarding("a/web", backends[:1])}, [])
        assert connect(WEB) == 0
        await rules.change({WEB: Forwarding("a/web", ())}, [])
        assert connect(WEB) is None
        await rules.change({}, [WEB])
        await rules.change({WEB: Forwarding("a/web", backends[1:2])}, [])
        assert connect(WEB) == 1

    async def test_a_change_leaves_the_others(self, service_rules):
        rules, backends, connect, _flush = service_rules
        other = Frontend("10.96.7.2", TCP, 80)
        await rules.replace(
            {WEB: Forwarding("a/web", backends[:1]), other: Forwarding("a/other", backends[1:2])}
        )
        await rules.change({WEB: Forwarding("a/web", backends[2:])}, [])
        assert (connect(WEB), connect(other)) == (2, 1)
        await rules.change({}, [WEB])
        assert connect(other) == 1

    async def test_affinity_keeps_a_client_with_its_backend(self, service_rules):
        rules, backends, connect, _flush = service_rules
        await rules.replace({WEB: Forwarding("a/web", backends, affinity=100)})
        first = connect(WEB)
        assert {connect(WEB) for _ in range(6)} == {first}
        rest = tuple(backend for number, backend in enumerate(backends) if number != first)
        await rules.change({WEB: Forwarding("a/web", rest, affinity=100)}, [])
        second = connect(WEB)
        assert second != first
        assert {connect(WEB) for _ in range(6)} == {second}
        # The seconds change, then there is no affinity any more.
        await rules.change({WEB: Forwarding("a/web", backends, affinity=50)}, [])
        assert len({connect(WEB) for _ in range(6)}) == 1
        await rules.change({WEB: Forwarding("a/web", backends)}, [])
        assert {connect(WEB) for _ in range(6)} == {0, 1, 2}

    async def test_notices_a_flush_and_is_restored(self, service_rules):
        rules, backends, connect, flush = service_rules
        wish = {WEB: Forwarding("a/web", backends[:1])}
        await rules.replace(wish)
        assert await rules.intact()
        flush()
        assert not await rules.intact()
        with pytest.raises(NetworkError):
            await rules.change({WEB: Forwarding("a/web", backends[1:2])}, [])
        await rules.replace(wish)
        assert await rules.intact()
        assert connect(WEB) == 0

    async def test_dropping_what_is_not_there_is_an_error(self, service_rules):
        rules, backends, connect, _flush = service_rules
        await rules.replace({WEB: Forwarding("a/web", backends[:1])})
        with pytest.raises(NetworkError):
            await rules.change({WEB: Forwarding("a/web", ())}, [PORT])
        assert connect(WEB) == 0

    async def test_tells_how_many_connections_there_can_be(self, service_rules):
        rules, _backends, _connect, _flush = service_rules
        known, most = await rules.flows()
        assert 0 <= known < most

    async def test_clear_removes_everything(self, service_rules):
        rules, backends, _connect, _flush = service_rules
        await rules.replace({WEB: Forwarding("a/web", backends)})
        await rules.clear()
        assert not await rules.intact()
        await rules.clear()


@pytest.mark.root
class TestTraffic:
    async def test_pods_reach_each_other_and_the_node(self, each_node):
        target = Frontend(each_node.pods[1].address, TCP, 8080)
        assert each_node.ask(target, pod=0) == [f"pod-1 {each_node.pods[0].address}"]
        assert each_node.ask(target) == ["pod-1 10.244.1.1"]
        before = await each_node.network.traffic("uid-1")
        each_node.ask(target, pod=0, times=20)
        after = await each_node.network.traffic("uid-1")
        assert after.received_packets >= before.received_packets + 60
        assert after.sent_bytes > before.sent_bytes

    async def test_three_hundred_connections_over_three_backends(self, each_node):
        forwarding = Forwarding("a/web:http", each_node.backends(0, 1, 2))
        await each_node.rules.replace({WEB: forwarding, WEB_UDP: forwarding})
        for frontend in (WEB, WEB_UDP):
            seen = names(each_node.ask(frontend, times=300))
            assert sorted(seen) == ["pod-0", "pod-1", "pod-2"]
            assert all(98 <= count <= 102 for count in seen.values()), seen
        # From a pod, which is a backend itself.
        assert len(names(each_node.ask(WEB, pod=0, times=30))) == 3

    async def test_a_pod_reaches_itself_through_a_service(self, each_node):
        await each_node.rules.replace({WEB: Forwarding("a/web", each_node.backends(0))})
        assert each_node.ask(WEB, pod=0) == ["pod-0 10.244.1.1"]
        assert each_node.ask(WEB, pod=1) == [f"pod-0 {each_node.pods[1].address}"]

    async def test_node_ports_answer_on_the_nodes_addresses(self, each_node):
        forwarding = Forwarding("a/web", each_node.backends(0, 1), masquerade=True)
        udp = PORT._replace(transport=UDP)
        await each_node.rules.replace({PORT: forwarding, udp: forwarding})
        assert len(names(each_node.ask(PORT, pod=2, times=4, address="10.244.1.1"))) == 2
        assert each_node.ask(udp, pod=2, address="10.244.1.1")[0].endswith(" 10.244.1.1")
        await each_node.rules.change({PORT: Forwarding("a/web", (), masquerade=True)}, [])
        with pytest.raises(ConnectionRefusedError):
            each_node.ask(PORT, pod=2, address="10.244.1.1")

    async def test_refuses_at_once_from_node_and_pod(self, each_node):
        await each_node.rules.replace({WEB: Forwarding("a/web", ()), WEB_UDP: Forwarding("a/web", ())})
        nobody = Frontend("10.96.7.77", TCP, 80)
        for frontend in (*[WEB] * 10, WEB_UDP, nobody):
            for pod in (None, 0):
                # A datagram refused on its way out of the node itself is an error of send(2): EPERM.
                with pytest.raises((ConnectionRefusedError, PermissionError)):
                    each_node.ask(frontend, pod=pod)

    async def test_an_address_of_the_node_in_the_service_range_is_left_alone(self, each_node):
        await each_node.rules.replace({})
        servers = Servers(each_node.dialect)
        servers.start(each_node.namespace, "dns", address="10.96.0.10", port=53)
        try:
            here = Frontend("10.96.0.10", UDP, 53)
            assert each_node.ask(here, pod=0) == [f"dns {each_node.pods[0].address}"]
            assert names(each_node.ask(here)) == {"dns": 1}
            assert names(each_node.ask(here._replace(transport=TCP))) == {"dns": 1}
        finally:
            servers.stop()

    async def test_live_connections_survive_changes(self, each_node):
        await each_node.rules.replace({WEB: Forwarding("a/web", each_node.backends(0))})
        target = (each_node.dialect.at(WEB.address), WEB.port)
        client = netns.inside(Path(each_node.pods[1].netns), lambda: connected(target, TCP))
        with closing(client):
            for step in range(3):
                client.send(b"?")
                assert client.recv(100).decode().startswith("pod-0 ")
                if step == 0:
                    await each_node.rules.change({WEB: Forwarding("a/web", each_node.backends(1))}, [])
                else:
                    await each_node.rules.replace({WEB: Forwarding("a/web", each_node.backends(2))})
            assert names(each_node.ask(WEB)) == {"pod-2": 1}

    async def test_a_datagram_client_moves_to_a_new_backend(self, each_node):
        await each_node.rules.replace({WEB_UDP: Forwarding("a/dns", each_node.backends(0))})
        target = (each_node.dialect.at(WEB_UDP.address), WEB_UDP.port)
        client = netns.inside(Path(each_node.pods[2].netns), lambda: connected(target, UDP))
        with closing(client):
            for backend in (0, 1, 0):
                await each_node.rules.change({WEB_UDP: Forwarding("a/dns", each_node.backends(backend))}, [])
                client.send(b"?")
                assert client.recv(100).decode().startswith(f"pod-{backend} ")

    async def test_nft_can_read_what_was_written(self, each_node):
        frontends = [Frontend("10.96.7.1", transport, 80) for transport in Transport]
        plain = Forwarding("a/web:http", each_node.backends(0, 1, 2))
        sticky = Forwarding("a/sticky", each_node.backends(0, 1), affinity=10800, masquerade=True)
        await each_node.rules.replace(
            dict.fromkeys(frontends, plain) | {PORT: sticky, WEB._replace(port=81): Forwarding("x", ())}
        )
        listed = each_node.nft("list", "ruleset")
        said, frontend = each_node.dialect, each_node.dialect.front(frontends[2])
        backend = said.at(each_node.pods[0].address)
        assert 'comment "a/web:http"' in listed
        assert f"{frontend.address} . sctp . 80 : goto {chain_of(frontend)}" in listed
        assert f"dnat {said.name} to numgen inc mod 3 map {{ 0x00000000 : {backend} . 8080" in listed
        assert f"ct original {said.name} daddr {said.at('10.96.0.0/16')}" in listed
        assert "reject with tcp reset" in listed
        assert "meta mark set meta mark | 0x00004000" in listed
        # What it prints it can read again.
        each_node.nft("-c", "-f", "-", given="flush ruleset\n" + listed)

    async def test_an_error_names_the_message(self, each_node):
        wish = {WEB: Forwarding("a/web", each_node.backends(0))}
        await each_node.rules.replace(wish)
        said = each_node.dialect
        element = f"{{ {said.at(WEB.address)} . tcp . 80 }}"
        each_node.nft("delete", "element", said.name, "edgekube", "services", element)
        assert not await each_node.rules.intact()
        with pytest.raises(NetworkError, match=r"elements of services: No such file"):
            await each_node.rules.change({}, [WEB])

    async def test_other_programs_changes_do_not_matter(self, each_node):
        await each_node.rules.replace({WEB: Forwarding("a/web", each_node.backends(0, 1, 2), affinity=9)})
        assert await each_node.rules.intact()
        each_node.nft("add", "table", "ip", "somebody")
        assert await each_node.rules.intact()
        each_node.nft("flush", "chain", each_node.dialect.name, "edgekube", "postrouting")
        assert not await each_node.rules.intact()


@pytest.mark.root
class TestLinuxPodNetwork:
    async def test_a_restart_finds_everything(self, namespace, tmp_path):
        first = linux(namespace, tmp_path)
        await first.prepare()
        pods = [await first.attach(f"uid-{number}", "web", sysctls={}) for number in range(3)]
        second = linux(namespace, tmp_path)
        await second.prepare()
        assert list(await second.list()) == pods
        # The file is lost: the kernel still knows.
        (tmp_path / "addresses.json").write_text("{ damaged")
        third = linux(namespace, tmp_path)
        await third.prepare()
        assert sorted(await third.list(), key=lambda pod: pod.uid) == pods
        assert (await third.attach("uid-9", "web", sysctls={})).address not in {pod.address for pod in pods}
        await third.clear()
        assert list(await third.list()) == []
        assert not Path(pods[0].netns).exists()

    async def test_a_power_cut_leaves_no_addresses_behind(self, namespace, tmp_path):
        network = linux(namespace, tmp_path)
        await network.prepare()
        kept, lost = [await network.attach(uid, "web", sysctls={}) for uid in ("kept", "lost")]
        subprocess.run(["ip", "link", "delete", lost.interface], check=True, timeout=10)
        netns.remove(Path(lost.netns))
        again = linux(namespace, tmp_path)
        await again.prepare()
        assert list(await again.list()) == [kept]
        await again.clear()

    async def test_takes_up_a_half_made_pod(self, namespace, tmp_path):
        network = linux(namespace, tmp_path)
        await network.prepare()
        pod = await network.attach("uid", "web", sysctls={})
        # The namespace lost its name (a crash between umount and unlink) while the interface is still there.
        with Path(pod.netns).open("rb") as held:
            netns.remove(Path(pod.netns))
            Path(pod.netns).touch()
            assert await network.attach("uid", "web", sysctls={}) == pod
            assert netns.exists(Path(pod.netns))
            assert list(await network.list()) == [pod]
            assert held
        await network.clear()

    async def test_sets_the_sysctls_of_the_namespace_only(self, namespace, tmp_path):
        network = linux(namespace, tmp_path)
        await network.prepare()
        pod = await network.attach(
            "uid", "web", sysctls={"net.core.somaxconn": "77", "kernel.shm_rmid_forced": "1"}
        )

        def read(name: str) -> str:
            return Path("/proc/sys/net", name).read_text().strip()

        assert netns.inside(Path(pod.netns), lambda: read("core/somaxconn")) == "77"
        assert netns.inside(Path(pod.netns), lambda: read("ipv4/ip_unprivileged_port_start")) == "0"
        assert read("core/somaxconn") != "77"
        for bad in ("net.core.nonsense", "net/../kernel/core_pattern"):
            with pytest.raises(NetworkError, match="sysctl"):
                await network.attach("other", "web", sysctls={bad: "1"})
        await network.clear()

    async def test_interfaces_have_the_size_wished(self, namespace, tmp_path):
        addressing = NodeAddressing(
            pod_cidr="10.244.1.0/28", cluster_cidr="10.244.0.0/16", service_cidr="10.96.0.0/16", mtu=1400
        )
        network = LinuxPodNetwork(addressing, tmp_path, prefix=f"{namespace.name}-")
        await network.prepare()
        pod = await network.attach("uid", "web", sysctls={})

        def size(interface: str) -> int:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
                answer = fcntl.ioctl(made, 0x8921, struct.pack("16si12x", interface.encode(), 0))
            return struct.unpack("16si12x", answer)[1]

        assert netns.inside(Path(pod.netns), lambda: size("eth0")) == 1400
        assert size(pod.interface) == 1400
        await network.clear()

    async def test_limits_what_a_pod_receives_and_sends(self, namespace, tmp_path):
        network = linux(namespace, tmp_path)
        await network.prepare()
        limits = Bandwidth(ingress=8_000_000, egress=2_000_000)
        pod = await network.attach("uid", "web", sysctls={}, bandwidth=limits)

        def queue(interface: str) -> str:
            line = ["tc", "qdisc", "show", "dev", interface]
            return subprocess.run(line, check=True, capture_output=True, text=True, timeout=10).stdout

        assert "tbf" in queue(pod.interface)
        assert "rate 8Mbit burst 50000b" in queue(pod.interface)
        assert "rate 2Mbit burst 32Kb" in netns.inside(Path(pod.netns), lambda: queue("eth0"))
        # As often as one likes, and another way the next time.
        await network.attach("uid", "web", sysctls={}, bandwidth=Bandwidth(egress=100_000_000_000))
        assert "tbf" not in queue(pod.interface)
        assert "rate 100Gbit" in netns.inside(Path(pod.netns), lambda: queue("eth0"))
        await network.attach("uid", "web", sysctls={})
        assert "tbf" not in netns.inside(Path(pod.netns), lambda: queue("eth0"))
        await network.clear()

    async def test_the_limit_is_kept(self, namespace, tmp_path):
        network = linux(namespace, tmp_path)
        await network.prepare()
        pod = await network.attach("uid", "web", sysctls={}, bandwidth=Bandwidth(egress=80_000))
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sink:
            sink.bind((ADDRESSING.gateway, 9))
            with closing(
                netns.inside(Path(pod.netns), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            ) as source:
                # Four times what bucket and queue hold, at once: the rest has to go.
                source.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                source.setblocking(False)
                for _ in range(280):
                    with suppress(BlockingIOError):
                        source.sendto(b"x" * 1000, (ADDRESSING.gateway, 9))
                seen = await network.traffic("uid")
        assert seen.sent_bytes < 140_000
        await network.clear()

    async def test_takes_up_another_cidr(self, namespace, tmp_path):
        network = linux(namespace, tmp_path)
        await network.prepare()
        old = await network.attach("old", "web", sysctls={})
        await network.renumber("10.244.9.0/24")
        new = await network.attach("new", "web", sysctls={})
        assert new.address.startswith("10.244.9.")
        assert await network.attach("old", "web", sysctls={}) == old
        servers = Servers()
        servers.start(Path(old.netns), "old")
        try:
            answers = netns.inside(Path(new.netns), lambda: ask((old.address, 8080), TCP))
        finally:
            servers.stop()
        assert answers == f"old {new.address}"

        def listed(*command: str) -> str:
            return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout

        assert "ip saddr 10.244.9.0/24" in listed("nft", "list", "table", "ip", "edgekube-pods")
        assert "10.244.1.1/32" in listed("ip", "addr", "show", "ek0")
        # With the last pod of it the former gateway goes.
        await network.detach("old")
        await network.prepare()
        shown = listed("ip", "addr", "show", "ek0")
        assert "10.244.1.1/32" not in shown
        assert "10.96.0.10/32" in shown
        await network.clear()

    @pytest.mark.parametrize("uid", ["", "../x", "a/b", ".."])
    async def test_refuses_uids_unfit_for_a_file_name(self, namespace, tmp_path, uid):
        with pytest.raises(NetworkError, match="not fit"):
            await linux(namespace, tmp_path).attach(uid, "web", sysctls={})

    async def test_routes_to_peers_on_the_lan(self, namespace, tmp_path):
        network = linux(namespace, tmp_path, mode=Mode.ROUTES)
        await network.prepare()
        lan = ["ip", "link", "add", "lan0", "type", "bridge"]
        for command in (
            lan,
            ["ip", "addr", "add", "10.50.0.1/24", "dev", "lan0"],
            ["ip", "link", "set", "lan0", "up"],
        ):
            subprocess.run(command, check=True, timeout=10)
        near = {"b": Peer("10.50.0.2", "10.244.2.0/24"), "c": Peer("10.50.0.3", "10.244.3.0/24")}
        await network.set_peers(near)
        assert routes() == {"10.244.2.0/24": "10.50.0.2", "10.244.3.0/24": "10.50.0.3"}
        moved = {"b": Peer("10.50.0.9", "10.244.2.0/24"), "far": Peer("10.60.0.1", "10.244.9.0/24")}
        with pytest.raises(NetworkError, match=r"10\.244\.9\.0/24 by 10\.60\.0\.1"):
            await network.set_peers(moved)
        assert routes() == {"10.244.2.0/24": "10.50.0.9"}
        await network.clear()
        assert routes() == {}


def routes() -> dict[str, str]:
    listed = subprocess.run(
        ["ip", "-4", "route"], check=True, capture_output=True, text=True, timeout=10
    ).stdout
    return {line.split()[0]: line.split()[2] for line in listed.splitlines() if " via " in line}


@pytest.mark.root
async def test_the_proxy_programs_the_kernel_and_keeps_it_so(each_node):
    mirror = Mirror()
    said, rules = each_node.dialect, nftables(each_node.dialect)
    rules.dialect = FOUR  # The proxy says what it means.
    address = said.at(WEB.address)
    port = core_v1.ServicePort(name="http", port=80)
    spec = core_v1.ServiceSpec(cluster_ip=address, cluster_ips=(address,), ports=(port,))
    mirror.services.replace(
        [core_v1.Service(metadata=meta_v1.ObjectMeta(namespace="a", name="web"), spec=spec)]
    )
    mirror.pods.replace(())
    mirror.endpoint_slices.replace([endpoint_slice(said.at(each_node.pods[0].address))])
    proxy = asyncio.create_task(ServiceProxy(mirror, rules, "here", gather=0.01, check=0.05).run())

    async def answered(expected: int) -> None:
        while True:
            with suppress(ConnectionRefusedError):
                if names(await asyncio.to_thread(each_node.ask, WEB)) == {f"pod-{expected}": 1}:
                    return
            await asyncio.sleep(0.02)

    async with asyncio.timeout(20):
        await answered(0)
        mirror.endpoint_slices.set(endpoint_slice(said.at(each_node.pods[1].address)))
        await answered(1)
        each_node.nft("flush", "ruleset")
        while not await rules.intact():
            await asyncio.sleep(0.02)
        await answered(1)
    proxy.cancel()
    with pytest.raises(asyncio.CancelledError):
        await proxy
    rules.close()


def endpoint_slice(address: str) -> discovery_v1.EndpointSlice:
    return discovery_v1.EndpointSlice(
        metadata=meta_v1.ObjectMeta(
            namespace="a", name="web-1", labels={"kubernetes.io/service-name": "web"}
        ),
        address_type="IPv6" if ":" in address else "IPv4",
        endpoints=(discovery_v1.Endpoint(addresses=(address,)),),
        ports=(discovery_v1.EndpointPort(name="http", port=8080),),
    )


@pytest.mark.root
class TestTwoNodes:
    """Two nodes on a LAN; the second's calls are made by a thread that lives in its namespace."""

    async def test_pods_reach_pods_and_services_across_nodes(self, node, tmp_path):
        other = Path(f"{node.namespace}-b")
        netns.make(other)
        servers = Servers()
        try:
            link = f"ip link add lan0 type veth peer name lan0 netns {other.name}"
            for where, command in (
                (node.namespace, link),
                (node.namespace, "ip addr add 10.50.0.1/24 dev lan0"),
                (node.namespace, "ip link set lan0 up"),
                (other, "ip addr add 10.50.0.2/24 dev lan0"),
                (other, "ip link set lan0 up"),
            ):
                netns.inside(
                    where, lambda command=command: subprocess.run(command.split(), check=True, timeout=10)
                )
            addressing = NodeAddressing(
                pod_cidr="10.244.2.0/24", cluster_cidr="10.244.0.0/16", service_cidr="10.96.0.0/16"
            )
            second = LinuxPodNetwork(addressing, tmp_path / "b", prefix=f"{other.name}-")
            netns.join(other)
            try:
                await second.prepare()
            finally:
                netns.join(node.namespace)
            far = await second.attach("far", "far", sysctls={})
            servers.start(Path(far.netns), "far")
            servers.start(other, "host", address="10.50.0.2", port=9090)
            await node.network.set_peers({"b": Peer("10.50.0.2", "10.244.2.0/24")})
            await second.set_peers({"a": Peer("10.50.0.1", "10.244.1.0/28")})
            await node.rules.replace({WEB: Forwarding("a/web", (Backend(far.address, 8080),))})
            near = node.pods[0].address
            assert node.ask(Frontend(far.address, TCP, 8080), pod=0) == [f"far {near}"]
            assert node.ask(WEB, pod=0) == [f"far {near}"]
            assert node.ask(WEB) == ["far 10.244.1.1"]
            # Off the cluster, a pod goes by its node's address.
            assert node.ask(Frontend("10.50.0.2", TCP, 9090), pod=0) == ["host 10.50.0.1"]
            await second.clear()
        finally:
            servers.stop()
            netns.remove(other)
