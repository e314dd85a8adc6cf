"""
Measure a burst: pods posted at once, until the last one runs.

Run as root: `python tests/bench/burst.py [pods]`. Nothing is asserted.
"""

import asyncio
import sys
import time

from sandboxed import busy, cluster, connected, gone, percentiles, pod, prepared

from edgekube.api.kinds import core_v1 as core


async def measure(options, pods):
    async with connected(options) as (client, watcher):
        await prepared(client)
        await client.create(core.PODS, pod("warm"))
        await watcher.when("warm", "Running")
        names = [f"burst-{number}" for number in range(pods)]
        begun = time.perf_counter()
        await asyncio.gather(*(client.create(core.PODS, pod(name)) for name in names))
        running = [await watcher.when(name, "Running") - begun for name in names]
        print(f"{pods} pods at once, {busy()}")
        print(f"all Running after {max(running):.2f} s; one by one {percentiles(running)}")
        begun = time.perf_counter()
        await gone(client, watcher, names)
        print(f"all gone after    {time.perf_counter() - begun:.2f} s")


if __name__ == "__main__":
    with cluster() as options:
        asyncio.run(measure(options, int(sys.argv[1]) if len(sys.argv) > 1 else 20))
