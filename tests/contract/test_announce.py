"""Speaking for addresses on a LAN: the same rules in memory and with real ARP between namespaces."""

import asyncio
import contextlib
import socket
import subprocess
import uuid
from pathlib import Path

import pytest

from edgekube.network import arp, netns
from edgekube.network.announce import Announcer, ArpLine, MemoryLan

ADDRESS = "192.0.2.200"


class MemoryWorld:
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
            self.ip(name, f"addr add 192.0.2.{number}/24 dev eth0")
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
            socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(arp.ETHERTYPE)
        )
        made.bind(("eth0", arp.ETHERTYPE))
        return made

    def line(self, name):
        return ArpLine(self.path(name))

    async def who_has(self, address):
        loop = asyncio.get_running_loop()
        (mac,) = (mac for mac, name in self.macs.items() if name == "client")
        frame = arp.build(arp.Arp(arp.REQUEST, mac, "192.0.2.3", bytes(6), address), to=arp.BROADCAST)
        await loop.sock_sendall(self.asker, frame)
        found = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                while True:
                    packet = arp.parse(await loop.sock_recv(self.asker, 2048))
                    if packet and packet.operation == arp.REPLY and packet.sender == address:
                        found.append(self.macs[packet.sender_mac])
        return found

    def plug(self, name, *, into):
        self.ip("switch", f"link set {name} {'up' if into else 'down'}")

    def close(self):
        self.asker.close()
        for name in ("one", "two", "client", "switch"):
            netns.remove(self.path(name))


@pytest.fixture(params=["memory", pytest.param("arp", marks=pytest.mark.root)])
async def world(request):
    made = MemoryWorld() if request.param == "memory" else ArpWorld()
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
        while await world.who_has(ADDRESS) != list(names):
            await asyncio.sleep(0.05)


async def test_an_address_is_asked_for_first_and_then_answered(world):
    world.announcers["one"].set_addresses({ADDRESS})
    assert await world.who_has(ADDRESS) == []
    await until(world, "one")
    world.announcers["one"].set_addresses(set())
    assert await world.who_has(ADDRESS) == []


async def test_one_that_starts_gives_way_to_the_owner(world):
    world.announcers["one"].set_addresses({ADDRESS})
    await until(world, "one")
    world.announcers["two"].set_addresses({ADDRESS})
    await asyncio.sleep(3)
    assert await world.who_has(ADDRESS) == ["one"]


async def test_one_that_is_told_to_takes_over_at_once(world):
    world.announcers["one"].set_addresses({ADDRESS})
    world.announcers["two"].set_addresses(set())
    await until(world, "one")
    world.announcers["two"].set_addresses({ADDRESS})
    await asyncio.sleep(0.2)
    assert await world.who_has(ADDRESS) == ["two"]


async def test_of_two_owners_one_finds_out(world):
    for announcer in world.announcers.values():
        announcer.set_addresses(set())
    world.plug("one", into=False)
    for announcer in world.announcers.values():
        announcer.set_addresses({ADDRESS})
    await asyncio.sleep(0.2)
    world.plug("one", into=True)
    async with asyncio.timeout(20):
        while len(await world.who_has(ADDRESS)) != 1:
            await asyncio.sleep(0.05)


async def test_an_owner_that_was_cut_off_gives_way_when_it_is_back(world):
    world.announcers["one"].set_addresses({ADDRESS})
    world.announcers["two"].set_addresses(set())
    await until(world, "one")
    world.plug("one", into=False)
    world.announcers["two"].set_addresses({ADDRESS})
    await until(world, "two")
    world.plug("one", into=True)
    await until(world, "two")
    await asyncio.sleep(1.5)
    assert await world.who_has(ADDRESS) == ["two"]


@pytest.mark.root
async def test_a_client_learns_the_new_owner_and_its_packets_follow(request):
    """Seen by a real neighbour table: the announcement replaces the entry, no time-out is waited for."""
    made = ArpWorld()
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
                    announcer.set_addresses({ADDRESS} if other == name else set())
                await asyncio.to_thread(ping, made)
                assert made.macs[neighbour(made)] == name
        finally:
            for task in tasks:
                task.cancel()
            made.close()


def ping(world):
    """Make the client's kernel ask; nobody answers the packet itself."""

    def send():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            made.sendto(b"x", (ADDRESS, 9))

    netns.inside(world.path("client"), send)


def neighbour(world):
    for _ in range(100):
        words = world.ip("client", f"neigh show {ADDRESS}").split()
        if "lladdr" in words:
            return bytes.fromhex(words[words.index("lladdr") + 1].replace(":", ""))
        subprocess.run(["sleep", "0.05"], check=True)
    return pytest.fail("the client's kernel has no entry")
