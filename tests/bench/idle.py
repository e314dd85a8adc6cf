"""
Measure what a node with pods costs while nothing happens: CPU seconds and memory of its processes.

Run as root: `python tests/bench/idle.py [pods] [seconds]`. Nothing is asserted.
"""

import asyncio
import sys

from sandboxed import busy, cluster, connected, cpu_seconds, pids, pod, prepared, resident

from edgekube.api.kinds import core_v1 as core

PARTS = {
    "agent": "edgekube.cli.main agent",
    "server": "edgekube.cli.main server",
    "podman": "system service",
    "broker": "mosquitto",
}
SETTLE = 20.0


async def measure(options, pods, seconds):
    async with connected(options) as (client, watcher):
        await prepared(client)
        names = [f"idle-{number}" for number in range(pods)]
        for name in names:
            await client.create(core.PODS, pod(name))
        for name in names:
            await watcher.when(name, "Running")
        await asyncio.sleep(SETTLE)
        folder = str(options.data_dir.parent)
        found = {part: pids(words, folder) for part, words in PARTS.items()}
        before = {pid: cpu_seconds(pid) for group in found.values() for pid in group}
        await asyncio.sleep(seconds)
        print(f"{pods} idle pods for {seconds:.0f} s, {busy()}")
        for part, group in found.items():
            used = sum(cpu_seconds(pid) - before[pid] for pid in group)
            print(f"{part:7} {used:6.2f} CPU s ({used / seconds:6.2%})  {sum(map(resident, group)):6.1f} MB")


if __name__ == "__main__":
    words = sys.argv[1:]
    with cluster() as options:
        asyncio.run(
            measure(options, int(words[0]) if words else 30, float(words[1]) if len(words) > 1 else 60.0)
        )
