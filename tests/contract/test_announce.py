"""Speaking for addresses on a LAN: the same rules in memory and with real ARP and NDP between namespaces."""

import asyncio
import contextlib
import socket
import subprocess
import uuid
from pathlib import Path

import pytest

from edgekube.api.types import core_v1, meta_v1
from edgekube.network import arp, ndp, netns
from edgekube.network.announce import Announcer, MemoryLan
from edgekube.network.claims import Say
from edgekube.network.lanline import BothLines, lan
from edgekube.proxy.announcer import ANNOUNCER, addresses

ADDRESS, ADDRESS6 = "192.0.2.200", "2001:db8::200"


class MemoryWorld:
    address = ADDRESS

    def __init__(self):
        self.lan = MemoryLan()
        self.lines = {}

    def line(self, name):
        self.lines[name] = self.lan.line(name)
        return self.lines[name]

    async def who_has(self, address):
        return self.lan.who_has(address)

    def plug(self, name, *, into):
        self.lines[name].plug(into=into)

    def close(self):
        """Nothing to take away."""


class ArpWorld:
    """A bridge, two machines and a client that asks, each in its namespace."""

    address, prefix, kind = ADDRESS, "192.0.2.{}/24", arp.ETHERTYPE

    def __init__(self):
        self.tag = uuid.uuid4().hex[:6]
        self.macs = {}
        for number, name in enumerate(("switch", "one", "two", "client")):
            netns.make(self.path(name))
            if name == "switch":
                self.ip(name, "link add lan type bridge")
                self.ip(name, "link set lan up")
                continue
            self.ip("switch", f"link add {name} type veth peer name eth0 netns {self.path(name).name}")
            self.ip("switch", f"link set {name} master lan up")
            self.ip(name, f"addr add {self.prefix.format(number)} dev eth0")
            self.ip(name, "link set eth0 up")
            shown = self.ip(name, "-o link show eth0").split()
            self.macs[bytes.fromhex(shown[shown.index("link/ether") + 1].replace(":", ""))] = name
        self.asker = netns.inside(self.path("client"), self._asker)

    def path(self, name):
        return Path(f"/run/netns/ekt-{self.tag}-{name}")

    def ip(self, name, line):
        command = ["ip", "-n", self.path(name).name, *line.split()]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout

    def _asker(self):
        made = socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(self.kind)
        )
        made.bind(("eth0", self.kind))
        return made

    def line(self, name):
        return lan(self.path(name))

    def question(self, mac, address):
        return arp.build(arp.Arp(arp.REQUEST, mac, "192.0.2.3", bytes(6), address), to=arp.BROADCAST)

    def answer(self, frame, address):
        packet = arp.parse(frame)
        told = packet and packet.operation == arp.REPLY and packet.sender == address
        return packet.sender_mac if told else None

    async def who_has(self, address):
        loop = asyncio.get_running_loop()
        (mac,) = (mac for mac, name in self.macs.items() if name == "client")
        await loop.sock_sendall(self.asker, self.question(mac, address))
        found = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                while True:
                    told = self.answer(await loop.sock_recv(self.asker, 2048), address)
                    if told is not None:
                        found.append(self.macs[told])
        return found

    def plug(self, name, *, into):
        self.ip("switch", f"link set {name} {'up' if into else 'down'}")

    def close(self):
        self.asker.close()
        for name in ("one", "two", "client", "switch"):
            netns.remove(self.path(name))


class NdpWorld(ArpWorld):
    """The same with IPv6, where a switch that listens to MLD passes on only what was asked for."""

    address, prefix, kind = ADDRESS6, "2001:db8::{}/64 nodad", ndp.ETHERTYPE

    def __init__(self):
        super().__init__()
        self.ip("switch", "link set lan type bridge mcast_snooping 1 mcast_querier 1")

    def question(self, mac, address):
        group = ndp.group_of(address)
        return ndp.build(ndp.Neighbour(ndp.SOLICITATION, mac, "2001:db8::3", group, address))

    def answer(self, frame, address):
        packet = ndp.parse(frame)
        told = packet and packet.type == ndp.ADVERTISEMENT and packet.target == address
        # Announcements are no answers.
        return packet.mac if told and packet.flags & ndp.SOLICITED else None


WORLDS = {"memory": MemoryWorld, "arp": ArpWorld, "ndp": NdpWorld}
REAL = [pytest.param(name, marks=pytest.mark.root) for name in ("arp", "ndp")]


@pytest.fixture(params=["memory", *REAL])
async def world(request):
    made = WORLDS[request.param]()
    made.announcers = {name: Announcer(made.line(name)) for name in ("one", "two")}
    tasks = [asyncio.ensure_future(announcer.run()) for announcer in made.announcers.values()]
    await asyncio.sleep(0)
    yield made
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    made.close()


async def until(world, *names):
    async with asyncio.timeout(20):
        while await world.who_has(world.address) != list(names):
            await asyncio.sleep(0.05)


async def test_an_address_is_asked_for_first_and_then_answered(world):
    world.announcers["one"].set_addresses({world.address})
    assert await world.who_has(world.address) == []
    await until(world, "one")
    world.announcers["one"].set_addresses(set())
    assert await world.who_has(world.address) == []


async def test_one_that_starts_gives_way_to_the_owner(world):
    world.announcers["one"].set_addresses({world.address})
    await until(world, "one")
    world.announcers["two"].set_addresses({world.address})
    await asyncio.sleep(3)
    assert await world.who_has(world.address) == ["one"]


async def test_one_that_is_told_to_takes_over_at_once(world):
    world.announcers["one"].set_addresses({world.address})
    world.announcers["two"].set_addresses(set())
    await until(world, "one")
    world.announcers["two"].set_addresses({world.address})
    await asyncio.sleep(0.2)
    assert await world.who_has(world.address) == ["two"]


async def test_of_two_owners_one_finds_out(world):
    for announcer in world.announcers.values():
        announcer.set_addresses(set())
    world.plug("one", into=False)
    for announcer in world.announcers.values():
        announcer.set_addresses({world.address})
    await asyncio.sleep(0.2)
    world.plug("one", into=True)
    async with asyncio.timeout(20):
        while len(await world.who_has(world.address)) != 1:
            await asyncio.sleep(0.05)


async def test_an_owner_that_was_cut_off_gives_way_when_it_is_back(world):
    world.announcers["one"].set_addresses({world.address})
    world.announcers["two"].set_addresses(set())
    await until(world, "one")
    world.plug("one", into=False)
    world.announcers["two"].set_addresses({world.address})
    await until(world, "two")
    world.plug("one", into=True)
    await until(world, "two")
    await asyncio.sleep(1.5)
    assert await world.who_has(world.address) == ["two"]


@pytest.mark.parametrize("kind", REAL)
async def test_a_client_learns_the_new_owner_and_its_packets_follow(kind):
    """Seen by a real neighbour table: the announcement replaces the entry, no time-out is waited for."""
    made = WORLDS[kind]()
    announcers = {name: Announcer(made.line(name)) for name in ("one", "two")}
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(announcer.run()) for announcer in announcers.values()]
        try:
            await asyncio.sleep(0)
            for announcer in announcers.values():
                announcer.set_addresses(set())
            await asyncio.sleep(0)
            for name in ("one", "two"):
                for other, announcer in announcers.items():
                    announcer.set_addresses({made.address} if other == name else set())
                await asyncio.to_thread(ping, made)
                assert made.macs[neighbour(made)] == name
        finally:
            for task in tasks:
                task.cancel()
            made.close()


def ping(world):
    """Make the client's kernel ask; nobody answers the packet itself."""

    def send():
        family = socket.AF_INET6 if ":" in world.address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as made:
            made.sendto(b"x", (world.address, 9))

    netns.inside(world.path("client"), send)


def neighbour(world):
    for _ in range(100):
        words = world.ip("client", f"neigh show {world.address}").split()
        if "lladdr" in words:
            return bytes.fromhex(words[words.index("lladdr") + 1].replace(":", ""))
        subprocess.run(["sleep", "0.05"], check=True)
    return pytest.fail("the client's kernel has no entry")


class TestNdp:
    """Against the letter of RFC 4861, and the kernel's own view of it."""

    MAC = bytes.fromhex("020000000001")

    def test_a_probe_is_a_solicitation_without_a_source(self):
        frame = ndp.NdpTongue().to_all(Say.PROBE, ADDRESS6, self.MAC)
        assert frame[:6] == bytes.fromhex("3333ff000200")
        found = ndp.parse(frame)
        assert found == ndp.Neighbour(
            ndp.SOLICITATION, self.MAC, ndp.UNSPECIFIED, "ff02::1:ff00:200", ADDRESS6
        )
        # No source link-layer address where there is no source (4.3).
        assert len(frame) == 14 + 40 + 24

    def test_a_claim_overrides(self):
        frame = ndp.NdpTongue().to_all(Say.ANNOUNCE, ADDRESS6, self.MAC)
        assert frame[:6] == bytes.fromhex("333300000001")
        assert ndp.parse(frame).flags == ndp.OVERRIDE
        assert frame[-8:] == bytes.fromhex("0201") + self.MAC

    def test_what_is_damaged_or_from_afar_is_not_heard(self):
        frame = ndp.NdpTongue().to_all(Say.ANNOUNCE, ADDRESS6, self.MAC)
        for place, value in (
            (21, 254),
            (20, 17),
            (12, 8),
            (54, 133),
            (55, 1),
            (57, frame[57] ^ 1),
            (62, 0xFF),
        ):
            broken = bytearray(frame)
            broken[place] = value
            assert ndp.parse(bytes(broken)) is None, place
        for size in range(len(frame)):
            assert ndp.parse(frame[:size]) is None

    def test_who_probes_is_answered_by_telling_all(self):
        probe = ndp.NdpTongue().to_all(Say.PROBE, ADDRESS6, self.MAC)
        other = bytes.fromhex("020000000002")
        told = ndp.parse(ndp.NdpTongue().understand(probe).answer(other))
        assert (told.destination, told.flags, told.mac) == (ndp.ALL_NODES, ndp.OVERRIDE, other)

    @pytest.mark.root
    async def test_the_kernels_duplicate_detection_finds_us(self):
        """Another machine is given the address: it must learn that somebody has it."""
        made = NdpWorld()
        announcer = Announcer(made.line("one"))
        task = asyncio.ensure_future(announcer.run())
        try:
            await asyncio.sleep(0)
            announcer.set_addresses({ADDRESS6})
            await until(made, "one")
            made.ip("two", f"addr add {ADDRESS6}/64 dev eth0")
            async with asyncio.timeout(20):
                while "dadfailed" not in made.ip("two", "-6 addr show dev eth0"):
                    await asyncio.sleep(0.05)
            assert await made.who_has(ADDRESS6) == ["one"]
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            made.close()


async def test_ipv6_is_listened_to_only_for_an_address_of_it():
    four, six = MemoryLan(), MemoryLan()
    announcer = Announcer(BothLines(four.line("one"), six.line("one")))
    task = asyncio.ensure_future(announcer.run())
    try:
        await asyncio.sleep(0)
        announcer.set_addresses(set())
        announcer.set_addresses({ADDRESS})
        await asyncio.sleep(0.01)
        assert four.who_has(ADDRESS) == ["one"]
        assert six.who_has(ADDRESS) == []
        announcer.set_addresses({ADDRESS, ADDRESS6})
        await asyncio.sleep(0.01)
        assert six.who_has(ADDRESS6) == ["one"]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert six.who_has(ADDRESS6) == []


def test_the_addresses_of_both_families_are_the_announcers():
    def service(*given, by="here", kind="LoadBalancer"):
        ingress = tuple(core_v1.LoadBalancerIngress(ip=address) for address in given)
        return core_v1.Service(
            metadata=meta_v1.ObjectMeta(annotations={ANNOUNCER: by}),
            spec=core_v1.ServiceSpec(type=kind),
            status=core_v1.ServiceStatus(load_balancer=core_v1.LoadBalancerStatus(ingress=ingress)),
        )

    both = ("192.0.2.7", "2001:DB8:0::7", "")
    assert addresses(service(*both), "here") == ("192.0.2.7", "2001:db8::7")
    assert addresses(service(*both, by="there"), "here") == ()
    assert addresses(service(*both, kind="ClusterIP"), "here") == ()
