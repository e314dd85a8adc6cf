"""
Measure the ways between nodes: what they cost to keep, and what they carry beside a bare veth pair.

Run as root: `python tests/bench/overlay.py [peers] [seconds]`. Nothing is asserted; all in namespaces of their own.
"""

import asyncio
import contextlib
import multiprocessing
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from edgekube.network import netns
from edgekube.network.base import Backend, Forwarding, Frontend, Peer, Transport
from edgekube.network.linux import LinuxPodNetwork, NodeAddressing
from edgekube.network.nftables.layout import Ranges
from edgekube.network.nftables.services import NftablesServiceRules
from edgekube.network.overlay import Mode

CHUNK = 1 << 16
SERVICE = "10.96.0.1"
TAG = f"ekb{time.time_ns() & 0xFFFFFF:x}"


def ip(where: Path, line: str) -> None:
    netns.inside(where, lambda: subprocess.run(f"ip {line}".split(), check=True))


@contextlib.contextmanager
def namespaces(*names: str) -> Iterator[list[Path]]:
    made = [Path(f"/run/netns/{TAG}{name}") for name in names]
    for path in made:
        netns.make(path)
    try:
        yield made
    finally:
        for path in made:
            netns.remove(path)


def sink(where: Path, ready: "multiprocessing.synchronize.Event") -> None:
    netns.join(where)
    with socket.create_server(("0.0.0.0", 9000)) as listener:
        ready.set()
        connection, _ = listener.accept()
        with connection:
            while connection.recv(CHUNK):
                pass


def carried(source: Path, target: Path, address: str, seconds: float) -> float:
    """Return Gbit/s of one TCP connection."""
    ready = multiprocessing.Event()
    process = multiprocessing.Process(target=sink, args=(target, ready))
    process.start()
    ready.wait(10)

    def send() -> float:
        sent, data = 0, bytes(CHUNK)
        with socket.create_connection((address, 9000), timeout=10) as client:
            start = time.perf_counter()
            while time.perf_counter() - start < seconds:
                sent += client.send(data)
            return sent * 8 / (time.perf_counter() - start) / 1e9

    try:
        return netns.inside(source, send)
    finally:
        process.join(10)


def asked(source: Path, target: Path, address: str, seconds: float) -> float:
    """Return the microseconds of a UDP question and its answer."""
    server = netns.inside(target, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client = netns.inside(source, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with server, client:
        server.bind(("0.0.0.0", 9001))
        client.connect((address, 9001))
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            client.send(b"?")
            _, peer = server.recvfrom(10)
            server.sendto(b"!", peer)
            client.recv(10)
            count += 1
        return (time.perf_counter() - start) / count * 1e6


def addressing(number: int, mode: Mode) -> NodeAddressing:
    return NodeAddressing(
        pod_cidr=f"10.244.{number}.0/24", cluster_cidr="10.240.0.0/12", service_cidr="10.96.0.0/16", mode=mode
    )


async def keep(where: Path, state: Path, count: int) -> None:
    """Print what a node of many pays for its ways."""
    ip(where, "link add lan0 type bridge")
    ip(where, "addr add 10.60.0.1/16 dev lan0")
    ip(where, "link set lan0 up")
    for mode in (Mode.ROUTES, Mode.VXLAN):
        network = LinuxPodNetwork(addressing(0, mode), state / mode)
        await network.prepare()
        peers = {
            f"n{number}": Peer(
                f"10.60.{number // 250}.{number % 250 + 2}", f"10.{245 + number // 256}.{number % 256}.0/24"
            )
            for number in range(count)
        }
        said = []
        for what in ("first", "nothing changed", "one moved"):
            if what == "one moved":
                peers["n7"] = Peer("10.60.99.99", peers["n7"].pod_cidr)
            start = time.process_time()
            await network.set_peers(peers, own="10.60.0.1")
            said.append(f"{what} {(time.process_time() - start) * 1e3:.0f}")
        print(f"{mode}, {count} peers, ms CPU: {', '.join(said)}")
        await network.clear()


async def carry(one: Path, two: Path, state: Path, seconds: float) -> None:
    """Print what the ways carry."""
    ip(one, f"link add eth0 type veth peer name eth0 netns {two.name}")
    for where, host in ((one, 1), (two, 2)):
        ip(where, f"addr add 10.60.0.{host}/24 dev eth0")
        ip(where, "link set eth0 up")
    line = "{:<15} {:5.1f} Gbit/s {:6.1f} µs a question"
    rows = [("bare veth", carried(one, two, "10.60.0.2", seconds), asked(one, two, "10.60.0.2", seconds))]
    for mode in (Mode.ROUTES, Mode.VXLAN):
        networks = []
        for number, where in ((1, one), (2, two)):
            network = LinuxPodNetwork(
                addressing(number, mode), state / f"{mode}{number}", prefix=f"{where.name}-"
            )
            with inside(where):
                await network.prepare()
            networks.append(network)
        pods = [await network.attach("pod", "pod", sysctls={}) for network in networks]
        near = await networks[0].attach("near", "near", sysctls={})
        for number, network in enumerate(networks, 1):
            other = 3 - number
            await network.set_peers(
                {"other": Peer(f"10.60.0.{other}", f"10.244.{other}.0/24")}, own=f"10.60.0.{number}"
            )
        source, target = Path(pods[0].netns), Path(pods[1].netns)
        if mode is Mode.ROUTES:
            here = Path(near.netns)
            rows.append(
                (
                    "same node",
                    carried(source, here, near.address, seconds),
                    asked(source, here, near.address, seconds),
                )
            )
        address = pods[1].address
        rows.append(
            (str(mode), carried(source, target, address, seconds), asked(source, target, address, seconds))
        )
        async with services(one, address):
            said = carried(source, target, SERVICE, seconds), asked(source, target, SERVICE, seconds)
            rows.append((f"{mode} Service", *said))
        for network in networks:
            await network.clear()
    for row in rows:
        print(line.format(*row))


@contextlib.asynccontextmanager
async def services(node: Path, backend: str) -> AsyncIterator[None]:
    """Have that node forward a Service to the backend, among a thousand others."""
    ports = ((Transport.TCP, 9000), (Transport.UDP, 9001))
    wish = {Frontend(SERVICE, *port): Forwarding("bench/it", (Backend(backend, port[1]),)) for port in ports}
    for number in range(1000):
        other = Frontend(f"10.96.{number // 250 + 1}.{number % 250 + 1}", Transport.TCP, 80)
        wish[other] = Forwarding(f"bench/svc-{number}", (Backend("10.244.9.9", 80),))
    with inside(node):
        rules = NftablesServiceRules(Ranges(service_cidr="10.96.0.0/16", cluster_cidr="10.240.0.0/12"))
        await rules.replace(wish)
    yield
    await rules.clear()
    rules.close()


@contextlib.contextmanager
def inside(where: Path) -> Iterator[None]:
    """Let the network's thread start in that namespace."""
    with Path("/proc/thread-self/ns/net").open("rb") as home:
        netns.join(where)
        try:
            yield
        finally:
            netns.join(Path(f"/proc/self/fd/{home.fileno()}"))


def main() -> None:
    peers, seconds = int((sys.argv[1:] or ["1000"])[0]), float((sys.argv[2:] or ["2"])[0])
    with namespaces("many", "a", "b") as (many, one, two), tempfile.TemporaryDirectory() as state:
        netns.inside(many, lambda: asyncio.run(keep(many, Path(state), peers)))
        netns.in_thread(lambda: asyncio.run(carry(one, two, Path(state), seconds)))


if __name__ == "__main__":
    main()
