"""
Measure programming services beside nft(8) and iptables-restore(8), all in one run and a network namespace of its own.

Run as root: `python tests/bench/services.py [services] [endpoints]`. Nothing is asserted. nft loads
the very rules that we wrote, as it lists them; iptables-restore loads chains like kube-proxy's, and
is left out where it is not installed (IPTABLES_RESTORE names another program).
"""

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from edgekube.network import netns
from edgekube.network.base import Backend, Forwarding, Frontend, Transport
from edgekube.network.nftables.layout import Ranges, chain_of
from edgekube.network.nftables.services import NftablesServiceRules

Rules = Mapping[Frontend, Forwarding]
FULL, CHANGES = 5, 50


def wish(services: int, count: int) -> dict[Frontend, Forwarding]:
    return {
        Frontend(f"10.96.{number // 250 + 1}.{number % 250 + 1}", Transport.TCP, 80): Forwarding(
            f"bench/svc-{number}",
            tuple(Backend(f"10.244.{number % 250}.{index + 1}", 8080) for index in range(count)),
        )
        for number in range(services)
    }


def changed(turn: int) -> Forwarding:
    """Return the first service with its endpoints after another change."""
    return Forwarding(
        "bench/svc-0", tuple(Backend("10.244.9.9", 8080 + turn + more) for more in (0, 100, 200))
    )


def say(what: str, full: list[float], change: list[float]) -> None:
    print(
        f"{what:20} full: median {statistics.median(full):7.1f} ms, best {min(full):7.1f}"
        f"   one change: median {statistics.median(change):6.2f} ms, best {min(change):6.2f}"
    )


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


async def ours(rules: Rules) -> str:
    """Measure our own; return the rules as nft lists them."""
    made = NftablesServiceRules(Ranges(service_cidr="10.96.0.0/16", cluster_cidr="10.244.0.0/16"))
    full, change = [], []
    for _again in range(FULL):
        start = time.perf_counter()
        await made.replace(rules)
        full.append((time.perf_counter() - start) * 1e3)
    listed = run(["nft", "list", "table", "ip", "edgekube"])
    first = next(iter(rules))
    for turn in range(CHANGES):
        start = time.perf_counter()
        await made.change({first: changed(turn)}, [])
        change.append((time.perf_counter() - start) * 1e3)
    say("edgekube", full, change)
    await made.clear()
    made.close()
    return listed


def run(command: list[str], given: str = "") -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        sys.exit(f"{command[0]}: {done.stderr[:500]}")
    return done.stdout


def nft(rules: Rules, listed: str) -> None:
    """Measure nft -f with the same rules."""
    load = ["nft", "-f", "-"]
    again = "table ip edgekube\ndelete table ip edgekube\n" + listed
    full = [timed(lambda: run(load, again)) for _again in range(FULL)]
    chain = chain_of(next(iter(rules)))

    def text(turn: int) -> str:
        backends = changed(turn).backends
        slots = ", ".join(f"{n} : {b.address} . {b.port}" for n, b in enumerate(backends))
        rule = f"meta l4proto tcp counter dnat ip to numgen inc mod {len(backends)} map {{ {slots} }}"
        return f"flush chain ip edgekube {chain}\nadd rule ip edgekube {chain} {rule}\n"

    say("nft -f", full, [timed(lambda turn=turn: run(load, text(turn))) for turn in range(CHANGES)])
    run(["nft", "delete", "table", "ip", "edgekube"])


def iptables(program: str, rules: Rules) -> None:
    """Measure iptables-restore with chains like kube-proxy's."""
    chains, lines = ["KUBE-SERVICES"], ["-A PREROUTING -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES"]
    for number, (frontend, forwarding) in enumerate(rules.items()):
        lines.append(
            f'-A KUBE-SERVICES -d {frontend.address}/32 -p tcp -m comment --comment "{forwarding.name} cluster IP"'
            f" -m tcp --dport {frontend.port} -j KUBE-SVC-{number}"
        )
        made, more = of_service(number, forwarding)
        chains += made
        lines += more
    text = table(chains, lines)
    full = [timed(lambda: run([program], text)) for _again in range(FULL)]
    change = []
    for turn in range(CHANGES):
        made, more = of_service(0, changed(turn))
        delta = table(made, more)
        change.append(timed(lambda delta=delta: run([program, "--noflush"], delta)))
    say(Path(program).name, full, change)


def of_service(number: int, forwarding: Forwarding) -> tuple[list[str], list[str]]:
    """Return the chains and rules of one service."""
    chains, lines = [f"KUBE-SVC-{number}"], []
    count = len(forwarding.backends)
    for index, backend in enumerate(forwarding.backends):
        chain = f"KUBE-SEP-{number}-{index}"
        chains.append(chain)
        chance = (
            f"-m statistic --mode random --probability {1 / (count - index):.10f} "
            if index + 1 < count
            else ""
        )
        lines.append(f"-A KUBE-SVC-{number} {chance}-j {chain}")
        lines.append(f"-A {chain} -s {backend.address}/32 -j MARK --set-xmark 0x4000/0x4000")
        lines.append(f"-A {chain} -p tcp -m tcp -j DNAT --to-destination {backend.address}:{backend.port}")
    return chains, lines


def table(chains: list[str], lines: list[str]) -> str:
    return "\n".join(["*nat", *(f":{name} - [0:0]" for name in chains), *lines, "COMMIT", ""])


def measure(services: int, count: int) -> None:
    rules = wish(services, count)
    print(f"{services} services with {count} endpoints each")
    nft(rules, asyncio.run(ours(rules)))
    named = os.environ.get(
        "IPTABLES_RESTORE", "iptables-nft-restore:iptables-legacy-restore:iptables-restore"
    )
    found = [path for path in map(shutil.which, named.split(":")) if path]
    for program in found[:2]:
        iptables(program, rules)
    if not found:
        print("iptables-restore is not installed")


def main() -> None:
    services, count = (int(text) for text in (sys.argv[1:] or ["1000", "3"]))
    path = Path(f"/run/netns/ekbench-{time.time_ns():x}")
    netns.make(path)
    try:
        netns.inside(path, lambda: measure(services, count))
    finally:
        netns.remove(path)


if __name__ == "__main__":
    main()
