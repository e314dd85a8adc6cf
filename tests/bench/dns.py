"""
Measure the node's DNS server: answers a second over UDP, its CPU for each, and its memory.

`python tests/bench/dns.py [services]`. The server is a process of its own on 127.0.0.53:5399; so is
the client, with 32 questions on their way at a time. Nothing is asserted.
"""

import asyncio
import socket
import struct
import sys
import time
from pathlib import Path

from edgekube.api.types import core_v1, meta_v1
from edgekube.control.mirror import Mirror
from edgekube.proxy.dns.server import DnsServer

QUESTIONS, WINDOW = 20000, 32
ADDRESS = ("127.0.0.53", 5399)
TICKS = 100


def serve(services: int) -> None:
    """Serve until killed."""
    mirror = Mirror()
    mirror.services.replace(
        core_v1.Service(
            metadata=meta_v1.ObjectMeta(namespace="bench", name=f"svc-{number}"),
            spec=core_v1.ServiceSpec(
                cluster_ip=f"10.96.{number // 250 + 1}.{number % 250 + 1}",
                ports=(core_v1.ServicePort(name="http", port=80),),
            ),
        )
        for number in range(services)
    )
    mirror.endpoint_slices.replace(())
    mirror.config_maps.replace(())
    asyncio.run(DnsServer(mirror, addresses=[ADDRESS[0]], port=ADDRESS[1]).run())


def ask(names: list[str], count: int) -> float:
    """Return answers a second."""
    queries = [
        struct.pack(">HHHHHH", number, 0x100, 1, 0, 0, 0)
        + b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        + b"\0\0\1\0\1"
        for number, name in enumerate(names)
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect(ADDRESS)
        start = time.perf_counter()
        for number in range(count + WINDOW):
            if number >= WINDOW:
                client.recv(1500)
            if number < count:
                client.send(queries[number % len(queries)])
        return count / (time.perf_counter() - start)


def usage(pid: int) -> tuple[float, float]:
    """Return CPU seconds and megabytes resident of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return (int(fields[11]) + int(fields[12])) / TICKS, pages * 4096 / 1e6


async def measure(services: int) -> None:
    server = await asyncio.create_subprocess_exec(sys.executable, __file__, "serve", str(services))
    try:
        for _try in range(100):
            await asyncio.sleep(0.1)
            try:
                ask(["svc-1.bench.svc.cluster.local"], 1)
                break
            except OSError:
                continue
        for what, names in (
            ("one name", ["svc-1.bench.svc.cluster.local"]),
            (f"{services} names", [f"svc-{number}.bench.svc.cluster.local" for number in range(services)]),
            ("no such name", ["svc-1.bench.svc.cluster.local.bench.svc.cluster.local"]),
        ):
            before, _size = usage(server.pid)
            rate = ask(names, QUESTIONS)
            after, size = usage(server.pid)
            print(
                f"{what:12} {rate:7.0f} answers/s, {(after - before) / QUESTIONS * 1e6:4.0f} µs CPU each, RSS {size:.1f} MB"
            )
    finally:
        server.kill()
        await server.wait()


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]))
    else:
        asyncio.run(measure(int(sys.argv[1]) if sys.argv[1:] else 1000))


if __name__ == "__main__":
    main()
