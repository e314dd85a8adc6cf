"""Three nodes on two LANs joined by a router: pods reach each other by the way that is right for each pair."""

import asyncio
import itertools
import socket
import subprocess
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest

from contract.netlab import TCP, Servers, ask, connected, nftables
from edgekube.network import netns
from edgekube.network.base import ANY, Attachment, Backend, Forwarding, Frontend, NetworkError, Peer
from edgekube.network.linux import LinuxPodNetwork, NodeAddressing
from edgekube.network.netlink import Netlink
from edgekube.network.overlay import Mode
from edgekube.network.watch import LinuxSurroundings

pytestmark = pytest.mark.root

PLACES = {"a": "10.60.1.10", "b": "10.60.2.10", "c": "10.60.1.11"}
"""a and c are neighbours, b is behind the router."""


@dataclass
class Machine:
    """A node with one pod, which answers with its name and the address it sees."""

    name: str
    namespace: Path
    network: LinuxPodNetwork
    address: str
    pod_cidr: str
    pod: Attachment
    address6: str
    pod_cidr6: str

    def run(self, line: str) -> str:
        return in_namespace(self.namespace, line)

    def ask(self, other: "Machine", *, from_node: bool = False) -> str:
        where = self.namespace if from_node else Path(self.pod.netns)
        return netns.inside(where, lambda: ask((other.pod.address, 8080), TCP))

    def fetch(self, other: "Machine", amount: int) -> int:
        """Send much both ways, in packets as big as they get."""

        def talk() -> int:
            with connected((other.pod.address, 9000), TCP) as client:
                client.sendall(b"x" * amount)
                got = 0
                while got < amount:
                    got += len(client.recv(1 << 16))
                return got

        return netns.inside(Path(self.pod.netns), talk)

    def peer(self) -> Peer:
        return Peer(self.address, self.pod_cidr, self.address6, self.pod_cidr6)

    def ask6(self, address: str) -> str:
        """Return who answers on port 8086, and what address it sees."""

        def talk() -> str:
            with socket.create_connection((address, 8086), timeout=10) as client:
                client.sendall(b"?")
                return client.recv(100).decode()

        return netns.inside(Path(self.pod.netns), talk)


@dataclass
class World:
    """The machines and the router between their LANs."""

    prefix: str
    folder: Path
    home: Path
    machines: dict[str, Machine] = field(default_factory=dict)
    servers: Servers = field(default_factory=Servers)

    @property
    def router(self) -> Path:
        return Path(f"/run/netns/{self.prefix}r")

    def wire(self) -> None:
        netns.make(self.router)
        self.on_router("sysctl -qw net.ipv4.ip_forward=1")
        for lan in (1, 2):
            # A bridge without a MAC of its own changes it with its ports.
            self.on_router(f"ip link add lan{lan} address 02:00:00:00:00:0{lan} type bridge")
            self.on_router(f"ip addr add 10.60.{lan}.1/24 dev lan{lan}")
            self.on_router(f"ip addr add fd60:{lan}::1/64 dev lan{lan} nodad")
            self.on_router(f"ip link set lan{lan} up")

    def on_router(self, line: str) -> None:
        in_namespace(self.router, line)

    async def add(self, name: str, *, mode: Mode, mtu: int = 1500, dual: bool = False) -> None:
        namespace = Path(f"/run/netns/{self.prefix}{name}")
        address, lan = PLACES[name], PLACES[name].split(".")[2]
        netns.make(namespace)
        number = 1 + list(PLACES).index(name)
        addressing = NodeAddressing(
            pod_cidr=f"10.244.{number}.0/24", cluster_cidr="10.244.0.0/16", service_cidr="10.96.0.0/16", mode=mode,
            pod_cidr6=f"fd00:244:0:{number}::/64" if dual else "", cluster_cidr6="fd00:244::/48" if dual else "",
        )  # fmt: skip
        network = LinuxPodNetwork(addressing, self.folder / name, prefix=f"{namespace.name}-")
        self.on_router(
            f"ip link add p{name} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {namespace.name}"
        )
        self.on_router(f"ip link set p{name} master lan{lan} up")
        in_namespace(namespace, f"ip addr add {address}/24 dev eth0")
        in_namespace(namespace, "ip link set eth0 up")
        in_namespace(namespace, f"ip route add default via 10.60.{lan}.1")
        address6 = f"fd60:{lan}::{address.split('.')[3]}" if dual else ""
        if dual:
            in_namespace(namespace, f"ip addr add {address6}/64 dev eth0 nodad")
            in_namespace(namespace, f"ip route add default via fd60:{lan}::1")
        # The network's thread starts with the first call, in the namespace its caller is in then.
        netns.join(namespace)
        try:
            await network.prepare()
        finally:
            netns.join(self.home)
        pod = await network.attach(name, name, sysctls={})
        self.servers.start(Path(pod.netns), name)
        self.machines[name] = Machine(
            name, namespace, network, address, addressing.pod_cidr, pod, address6, addressing.pod_cidr6
        )

    async def meet(self) -> None:
        """Tell everybody of everybody."""
        for machine in self.machines.values():
            peers = {name: other.peer() for name, other in self.machines.items() if other is not machine}
            await machine.network.set_peers(peers, own=machine.address)

    async def end(self) -> None:
        self.servers.stop()
        for machine in self.machines.values():
            await machine.network.clear()
            netns.remove(machine.namespace)
        netns.remove(self.router)


def in_namespace(where: Path, line: str) -> str:
    done = netns.inside(
        where, lambda: subprocess.run(line.split(), capture_output=True, text=True, timeout=20, check=False)
    )
    assert done.returncode == 0, f"{line}: {done.stderr}"
    return done.stdout


@pytest.fixture
def home() -> Iterator[Path]:
    """Keep a way back to the namespace of the tests."""
    with Path("/proc/thread-self/ns/net").open("rb") as file:
        yield Path(f"/proc/self/fd/{file.fileno()}")


@pytest.fixture
async def world(tmp_path: Path, home: Path) -> AsyncIterator[World]:
    made = World(f"ekt-{uuid.uuid4().hex[:6]}", tmp_path, home)
    made.wire()
    try:
        yield made
    finally:
        await made.end()


def everybody_reaches_everybody(world: World) -> None:
    for machine in world.machines.values():
        for other in world.machines.values():
            if other is not machine:
                # Nobody's address is hidden on the way.
                assert machine.ask(other) == f"{other.name} {machine.pod.address}"


def tunnelled(machine: Machine) -> set[str]:
    lines = machine.run("ip -4 route show proto 69").splitlines()
    return {line.split()[0] for line in lines if "dev ekvx" in line}


def routed(machine: Machine) -> dict[str, str]:
    lines = [line.split() for line in machine.run("ip -4 route show proto 69").splitlines()]
    return {words[0]: words[2] for words in lines if words[1] == "via" and "ekvx" not in words}


async def test_each_pair_finds_its_way_by_itself(world):
    for name in PLACES:
        await world.add(name, mode=Mode.AUTO)
    await world.meet()
    a, b, c = (world.machines[name] for name in "abc")
    assert (tunnelled(a), routed(a)) == ({"10.244.2.0/24"}, {"10.244.3.0/24": "10.60.1.11"})
    assert (tunnelled(c), routed(c)) == ({"10.244.2.0/24"}, {"10.244.1.0/24": "10.60.1.10"})
    assert (tunnelled(b), routed(b)) == ({"10.244.1.0/24", "10.244.3.0/24"}, {})
    everybody_reaches_everybody(world)
    # What nodes send themselves comes back by the tunnel too.
    assert a.ask(b, from_node=True) == "b 10.244.1.1"
    assert b.ask(c, from_node=True) == "c 10.244.2.1"


async def test_services_lead_through_the_tunnel(world):
    for name in "ab":
        await world.add(name, mode=Mode.AUTO)
    await world.meet()
    a, b = world.machines["a"], world.machines["b"]
    netns.join(a.namespace)
    try:
        rules = nftables()
        behind = (Backend(b.pod.address, 8080),)
        web, port = Frontend("10.96.7.1", TCP, 80), Frontend(ANY, TCP, 30080)
        await rules.replace(
            {web: Forwarding("a/web", behind), port: Forwarding("a/web", behind, masquerade=True)}
        )
    finally:
        netns.join(world.home)
    try:
        assert netns.inside(Path(a.pod.netns), lambda: ask((web.address, 80), TCP)) == f"b {a.pod.address}"
        assert netns.inside(a.namespace, lambda: ask((web.address, 80), TCP)) == "b 10.244.1.1"
        # A client off the cluster: hidden behind the address that b answers through the tunnel.
        assert netns.inside(world.router, lambda: ask((a.address, 30080), TCP)) == "b 10.244.1.1"
    finally:
        rules.close()


@pytest.mark.parametrize("mode", [Mode.ROUTES, Mode.VXLAN])
async def test_a_way_can_be_forced_between_neighbours(world, mode):
    for name in "ac":
        await world.add(name, mode=mode)
    await world.meet()
    a, c = world.machines["a"], world.machines["c"]
    assert bool(tunnelled(a)) == (mode is Mode.VXLAN)
    everybody_reaches_everybody(world)
    assert a.ask(c, from_node=True).startswith("c ")


async def test_routes_alone_do_not_reach_other_lans(world):
    for name in "ab":
        await world.add(name, mode=Mode.ROUTES)
    with pytest.raises(
        NetworkError, match=r"10\.244\.2\.0/24 by 10\.60\.2\.10 \(b\): the nodes share no LAN"
    ):
        await world.meet()


async def test_pods_packets_fit_into_the_tunnel(world):
    for name in "ab":
        await world.add(name, mode=Mode.AUTO, mtu=1400)
    a, b = world.machines["a"], world.machines["b"]
    assert " mtu 1400 " in in_namespace(Path(a.pod.netns), "ip link show eth0")
    await world.meet()
    for machine in (a, b):
        assert " mtu 1350 " in machine.run("ip link show ekvx")
        assert " mtu 1350 " in machine.run(f"ip link show {machine.pod.interface}")
        assert " mtu 1350 " in in_namespace(Path(machine.pod.netns), "ip link show eth0")
    await a.network.attach("late", "late", sysctls={})
    assert " mtu 1350 " in a.run("ip -d link show type veth")
    echo = Echo(world.servers)
    echo.start(Path(b.pod.netns))
    assert await asyncio.to_thread(a.fetch, b, 300_000) == 300_000


async def test_mends_what_others_take_away(world):
    for name in "ab":
        await world.add(name, mode=Mode.AUTO)
    await world.meet()
    a, b = world.machines["a"], world.machines["b"]
    for damage in (
        "ip route del 10.244.2.0/24",
        "ip neigh del 10.244.2.1 dev ekvx",
        "bridge fdb del 02:45:0a:f4:02:01 dev ekvx self",
        "bridge fdb replace 02:45:0a:f4:02:01 dev ekvx dst 10.60.1.99 self permanent",
        "ip neigh replace 10.244.2.1 lladdr 02:00:00:00:00:99 dev ekvx nud permanent",
        "ip link set ekvx down",
        "ip link set ekvx address 02:00:00:00:00:99",
        "ip addr del 10.244.1.1/32 dev ekvx",
        "ip link del ekvx",
    ):
        a.run(damage)
        await world.meet()
        assert a.ask(b) == f"b {a.pod.address}", damage


class Killed(BaseException):
    """Raised where the process ends; nothing may catch it."""


async def test_dying_anywhere_between_two_plans_is_mended(world, monkeypatch):
    for name in "abc":
        await world.add(name, mode=Mode.AUTO)
    await world.meet()
    a, b, c = (world.machines[name] for name in "abc")
    near, far = c.peer(), b.peer()
    # Each step turns a route into a tunnel or back, or takes one away.
    plans = [{"b": far, "c": replace(near, address=b.address)}, {"c": near}, {"b": far, "c": near}]
    real = Netlink.request
    for before, after in pairwise([*plans, plans[0]]):
        for number in itertools.count(1):
            await a.network.set_peers(before, own=a.address)
            left = [number]

            def dying(self, *arguments, left=left):
                left[0] -= 1
                if left[0] == 0:
                    raise Killed
                real(self, *arguments)

            with monkeypatch.context() as patch:
                patch.setattr(Netlink, "request", dying)
                with suppress(Killed):
                    await a.network.set_peers(after, own=a.address)
            await a.network.set_peers(after, own=a.address)
            ways = {**routed(a), **dict.fromkeys(tunnelled(a), "tunnel")}
            assert ways == {
                peer.pod_cidr: peer.address if peer == near else "tunnel" for peer in after.values()
            }
            if left[0] > 0:
                assert number > 2
                break
    await world.meet()
    everybody_reaches_everybody(world)


async def test_another_programs_device_of_our_name_makes_room(world):
    await world.add("a", mode=Mode.AUTO)
    await world.add("b", mode=Mode.AUTO)
    world.machines["a"].run("ip link add ekvx type vxlan id 7 dstport 4789")
    await world.meet()
    everybody_reaches_everybody(world)


async def test_writes_no_more_than_the_difference(world, monkeypatch):
    for name in PLACES:
        await world.add(name, mode=Mode.AUTO, dual=True)
    await world.meet()
    a = world.machines["a"]
    written: list[str] = []
    real = Netlink.request

    def noting(self, what, *arguments):
        written.append(what)
        real(self, what, *arguments)

    monkeypatch.setattr(Netlink, "request", noting)
    await world.meet()
    assert written == []
    a.run("ip route del 10.244.2.0/24")
    await world.meet()
    assert written == ["add route 10.244.2.0/24"]
    written.clear()
    b = world.machines["b"]
    peers = {"b": replace(b.peer(), address="10.60.2.99"), "c": world.machines["c"].peer()}
    await a.network.set_peers(peers, own=a.address)
    assert written == ["add forwarding entry to 10.60.2.99"]


async def test_a_node_that_moves_is_followed(world):
    for name in PLACES:
        await world.add(name, mode=Mode.AUTO)
    await world.meet()
    c = world.machines["c"]
    # Another lease on the same LAN.
    c.run("ip addr flush dev eth0")
    c.run("ip addr add 10.60.1.77/24 dev eth0")
    c.run("ip route replace default via 10.60.1.1")
    c.address = "10.60.1.77"
    await world.meet()
    everybody_reaches_everybody(world)
    # Carried over to the other LAN.
    world.on_router("ip link set pc master lan2")
    c.run("ip addr flush dev eth0")
    c.run("ip addr add 10.60.2.77/24 dev eth0")
    c.run("ip route replace default via 10.60.2.1")
    c.address = "10.60.2.77"
    await world.meet()
    assert routed(c) == {"10.244.2.0/24": "10.60.2.10"}
    everybody_reaches_everybody(world)


async def test_leaves_nothing_of_its_own_and_all_of_others(world):
    for name in PLACES:
        await world.add(name, mode=Mode.AUTO)
    a = world.machines["a"]
    a.run("ip link add other type vxlan id 70 dstport 8472")
    a.run("ip route add 10.99.0.0/24 via 10.60.1.1")
    await world.meet()
    await a.network.set_peers({"c": world.machines["c"].peer()}, own=a.address)
    # The only far node is gone, and the device with it.
    assert "ekvx" not in a.run("ip link")
    assert routed(a) == {"10.244.3.0/24": "10.60.1.11"}
    assert " mtu 1500 " in in_namespace(Path(a.pod.netns), "ip link show eth0")
    await a.network.clear()
    left = a.run("ip link") + a.run("ip route")
    assert "ek" not in left.replace("link", "").replace("ekt-", "")
    assert "other" in left
    assert "10.99.0.0/24 via 10.60.1.1" in left


class TestSurroundings:
    async def test_tells_addresses_and_when_they_change(self, world):
        await world.add("a", mode=Mode.AUTO)
        a = world.machines["a"]
        made = netns.inside(a.namespace, LinuxSurroundings)

        def addresses() -> list[tuple[str, str, bool]]:
            return [tuple(item) for item in netns.inside(a.namespace, made.addresses)]

        try:
            assert addresses() == [("eth0", "10.60.1.10", True)]
            for command in (
                "ip addr del 10.60.1.10/24 dev eth0",
                "ip addr add 10.60.1.12/24 dev eth0",
                "ip link set eth0 down",
                "ip link set eth0 up",
                "ip route add default via 10.60.1.1",
            ):
                a.run(command)
                async with asyncio.timeout(30):
                    await made.changed()
            assert addresses() == [("eth0", "10.60.1.12", True)]
            # The kernel tells of a carrier up to a second late.
            with suppress(TimeoutError):
                while True:
                    async with asyncio.timeout(1.5):
                        await made.changed()
            # Pods that come and go are no news.
            await a.network.attach("more", "more", sysctls={})
            await a.network.detach("more")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await made.changed()
        finally:
            made.close()


class TestDualStack:
    """A second address of its own for every pod; what leads there is chosen as for the first."""

    async def test_pods_reach_pods_and_the_world(self, world):
        for name in PLACES:
            await world.add(name, mode=Mode.AUTO, dual=True)
        await world.meet()
        a, b, c = (world.machines[name] for name in "abc")
        for machine in (a, b, c):
            assert machine.pod.address6 == f"{machine.pod_cidr6[:-3]}af4:{machine.pod.address[7]}02"
            listen6(world.servers, Path(machine.pod.netns), machine.name)
        routes = a.run("ip -6 route show proto 69")
        assert f"{c.pod_cidr6} via {c.address6} dev eth0" in routes
        assert f"{b.pod_cidr6} via fd00:244:0:2::1 dev ekvx" in routes
        for machine in (a, b, c):
            for other in (a, b, c):
                assert machine.ask6(other.pod.address6) == f"{other.name} {machine.pod.address6}"
        listen6(world.servers, world.router, "world")
        assert a.ask6("fd60:1::1") == f"world {a.address6}"
        everybody_reaches_everybody(world)

    async def test_comes_back_and_goes_without_a_trace(self, world):
        for name in "ab":
            await world.add(name, mode=Mode.AUTO, dual=True)
        await world.meet()
        a, b = world.machines["a"], world.machines["b"]
        listen6(world.servers, Path(b.pod.netns), "b")
        for damage in (
            "ip -6 route del fd00:244:0:2::/64",
            "ip -6 neigh del fd00:244:0:2::1 dev ekvx",
            "ip -6 addr del fd00:244:0:1::1/128 dev ekvx",
            "nft flush ruleset",
        ):
            a.run(damage)
            await world.meet()
            assert a.ask6(b.pod.address6) == f"b {a.pod.address6}", damage
        assert "masquerade" in a.run("nft list table ip6 edgekube-pods")
        # Again, as after a restart of the agent.
        assert await a.network.attach("a", "a", sysctls={}) == a.pod
        assert a.ask6(b.pod.address6) == f"b {a.pod.address6}"
        await a.network.set_peers({}, own=a.address)
        assert "via fd00" not in a.run("ip -6 route show proto 69")
        await a.network.clear()
        assert a.run("ip -6 route show proto 69") == ""
        assert "edgekube" not in a.run("nft list ruleset")

    async def test_forged_sources_get_nowhere(self, world):
        for name in "ab":
            await world.add(name, mode=Mode.AUTO, dual=True)
        await world.meet()
        a, b = world.machines["a"], world.machines["b"]
        table = a.run("nft list table ip6 edgekube-pods")
        assert 'iifname "ek*" fib saddr . iif oif missing counter' in table
        in_namespace(Path(a.pod.netns), "ip -6 addr add fd00:244:0:1::af4:163/128 dev eth0 nodad")
        where = Path(b.pod.netns)
        with netns.inside(where, lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as heard:
            heard.bind(("::", 8087))
            heard.settimeout(20)
            for source in ("fd00:244:0:1::af4:163", a.pod.address6):

                def say(source: str = source) -> None:
                    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as made:
                        made.bind((source, 0))
                        made.sendto(b"!", (b.pod.address6, 8087))

                netns.inside(Path(a.pod.netns), say)
            assert heard.recvfrom(10)[1][0] == a.pod.address6

    async def test_a_node_without_it_has_ipv4_all_the_same(self, world):
        await world.add("a", mode=Mode.AUTO, dual=True)
        await world.add("b", mode=Mode.AUTO)
        await world.meet()
        everybody_reaches_everybody(world)
        assert world.machines["b"].pod.addresses == (world.machines["b"].pod.address,)


def listen6(servers: Servers, where: Path, name: str) -> None:
    listener = netns.inside(
        where, lambda: socket.create_server(("::", 8086), family=socket.AF_INET6, dualstack_ipv6=False)
    )
    servers.sockets.append(listener)

    def serve() -> None:
        while True:
            try:
                connection, client = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(10)
                connection.sendall(f"{name} {client[0]}".encode())

    thread = threading.Thread(target=serve)
    thread.start()
    servers.threads.append(thread)


class Echo:
    """Sends back whatever comes, on port 9000."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    def start(self, where: Path) -> None:
        listener = netns.inside(where, lambda: socket.create_server(("0.0.0.0", 9000)))
        self._servers.sockets.append(listener)

        def serve() -> None:
            try:
                connection, _client = listener.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(1 << 16):
                    connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        self._servers.threads.append(thread)
