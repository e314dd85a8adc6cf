"""
Measure pods' networks and the proxy: rules programmed into a namespace of its own, DNS answers on 127.0.0.1, memory.

Run as root: `python tests/bench/proxy.py [services] [endpoints]`. Nothing is asserted.
"""

import asyncio
import contextlib
import socket
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

from edgekube.api.types import core_v1, discovery_v1, meta_v1
from edgekube.control.mirror import Mirror
from edgekube.network import netns
from edgekube.network.base import Backend, Forwarding, Frontend, Transport
from edgekube.network.linux import LinuxPodNetwork, NodeAddressing
from edgekube.network.nftables.layout import Ranges
from edgekube.network.nftables.services import NftablesServiceRules
from edgekube.proxy.dns.server import DnsServer
from edgekube.proxy.services import ServiceProxy

QUESTIONS = 20000


def resident() -> float:
    """Return this process's resident memory in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def service(number: int) -> core_v1.Service:
    return core_v1.Service(
        metadata=meta_v1.ObjectMeta(namespace="bench", name=f"svc-{number}"),
        spec=core_v1.ServiceSpec(
            cluster_ip=f"10.96.{number // 250 + 1}.{number % 250 + 1}",
            ports=(core_v1.ServicePort(name="http", port=80),),
        ),
    )


def endpoints(number: int, count: int, *, shift: int = 0) -> discovery_v1.EndpointSlice:
    made = tuple(
        discovery_v1.Endpoint(addresses=(f"10.244.{number % 250}.{index + shift + 1}",))
        for index in range(count)
    )
    return discovery_v1.EndpointSlice(
        metadata=meta_v1.ObjectMeta(
            namespace="bench", name=f"svc-{number}-x", labels={"kubernetes.io/service-name": f"svc-{number}"}
        ),
        address_type="IPv4",
        endpoints=made,
        ports=(discovery_v1.EndpointPort(name="http", port=8080),),
    )


async def rules(services: int, count: int) -> None:
    """Measure programming alone."""
    made = NftablesServiceRules(Ranges(service_cidr="10.96.0.0/16", cluster_cidr="10.244.0.0/16"))
    wish = {
        Frontend(f"10.96.{number // 250 + 1}.{number % 250 + 1}", Transport.TCP, 80): Forwarding(
            f"bench/svc-{number}",
            tuple(Backend(f"10.244.{number % 250}.{index + 1}", 8080) for index in range(count)),
        )
        for number in range(services)
    }
    for _again in range(3):
        sent, start = made.kernel.sent_bytes, time.perf_counter()
        await made.replace(wish)
        print(
            f"full {services}x{count}: {(time.perf_counter() - start) * 1e3:.0f} ms, {made.kernel.sent_bytes - sent} bytes"
        )
    frontend = next(iter(wish))
    timings = []
    for turn in range(50):
        changed = Forwarding("bench/svc-0", (Backend("10.244.9.9", 8080 + turn),))
        sent, start = made.kernel.sent_bytes, time.perf_counter()
        await made.change({frontend: changed}, [])
        timings.append((time.perf_counter() - start) * 1e3)
    print(f"one change: median {sorted(timings)[25]:.2f} ms, {made.kernel.sent_bytes - sent} bytes")
    for what in ("first look", "next look"):
        start = time.perf_counter()
        assert await made.intact()
        print(f"{what}: {(time.perf_counter() - start) * 1e3:.2f} ms")
    made.close()


async def pods(state: Path) -> None:
    """Measure attaching and detaching 20 pods."""
    addressing = NodeAddressing(
        pod_cidr="10.244.1.0/24", cluster_cidr="10.244.0.0/16", service_cidr="10.96.0.0/16"
    )
    network = LinuxPodNetwork(addressing, state, prefix=f"ekbench-{time.time_ns():x}-")
    await network.prepare()
    for what, step in (
        ("attach", lambda uid: network.attach(uid, "bench", sysctls={})),
        ("attach again", lambda uid: network.attach(uid, "bench", sysctls={})),
        ("traffic", network.traffic),
        ("detach", network.detach),
    ):
        timings = []
        for number in range(20):
            start = time.perf_counter()
            await step(f"pod-{number}")
            timings.append((time.perf_counter() - start) * 1e3)
        print(f"{what}: median {sorted(timings)[10]:.2f} ms, worst {max(timings):.2f} ms")
    await network.clear()


async def loop(services: int, count: int) -> None:
    """Measure the whole proxy under 500 endpoint changes a second."""
    mirror = Mirror()
    mirror.services.replace(service(number) for number in range(services))
    mirror.endpoint_slices.replace(endpoints(number, count) for number in range(services))
    mirror.pods.replace(())
    made = NftablesServiceRules(Ranges(service_cidr="10.96.0.0/16", cluster_cidr="10.244.0.0/16"))
    proxy = ServiceProxy(mirror, made, "bench")
    start = time.perf_counter()
    task = asyncio.create_task(proxy.run())
    while not made.kernel.sent_bytes:
        await asyncio.sleep(0.001)
    print(f"proxy, plan and program {services}x{count}: {(time.perf_counter() - start) * 1e3:.0f} ms")
    sent, used = made.kernel.sent_bytes, time.process_time()
    for turn in range(1000):
        mirror.endpoint_slices.set(endpoints(turn % services, count, shift=turn % 7 + 1))
        await asyncio.sleep(0.002)
    await asyncio.sleep(0.3)
    print(
        f"1000 changes: {time.process_time() - used:.2f} s CPU, {made.kernel.sent_bytes - sent} bytes, RSS {resident():.1f} MB"
    )
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await made.clear()
    made.close()


def ask(address: str, names: list[str]) -> None:
    """Ask with 32 questions on the way."""
    queries = [
        struct.pack(">HHHHHH", number, 0x100, 1, 0, 0, 0)
        + b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        + b"\0\0\1\0\1"
        for number, name in enumerate(names)
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect((address, 5399))
        start = time.perf_counter()
        for number in range(QUESTIONS + 32):
            if number >= 32:
                client.recv(1500)
            if number < QUESTIONS:
                client.send(queries[number % len(queries)])
        print(f"{QUESTIONS / (time.perf_counter() - start):.0f} answers/s")


async def dns(services: int) -> None:
    """Measure answers a second."""
    mirror = Mirror()
    mirror.services.replace(service(number) for number in range(services))
    mirror.endpoint_slices.replace(())
    task = asyncio.create_task(DnsServer(mirror, addresses=["127.0.0.53"], port=5399).run())
    await asyncio.sleep(0.1)
    for what, names in (
        ("one name", ["svc-1.bench.svc.cluster.local"]),
        (f"{services} names", [f"svc-{number}.bench.svc.cluster.local" for number in range(services)]),
        ("no such name", ["svc-1.bench.svc.cluster.local.bench.svc.cluster.local"]),
    ):
        used = time.thread_time()
        client = await asyncio.create_subprocess_exec(sys.executable, __file__, "ask", "127.0.0.53", *names)
        await client.wait()
        used = time.thread_time() - used
        print(f"dns {what}: {used / QUESTIONS * 1e6:.1f} µs CPU each")
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main() -> None:
    if sys.argv[1:2] == ["ask"]:
        ask(sys.argv[2], sys.argv[3:])
        return
    services, count = (int(text) for text in (sys.argv[1:] or ["1000", "3"]))
    print(f"RSS after imports {resident():.1f} MB, {threading.active_count()} thread")
    path = Path(f"/run/netns/ekbench-{time.time_ns():x}")
    netns.make(path)
    try:
        with tempfile.TemporaryDirectory() as state:
            netns.inside(path, lambda: asyncio.run(pods(Path(state))))
        netns.inside(path, lambda: asyncio.run(rules(services, count)))
        netns.inside(path, lambda: asyncio.run(loop(services, count)))
    finally:
        netns.remove(path)
    asyncio.run(dns(services))


if __name__ == "__main__":
    main()
