"""
Measure how long a pod takes: from POST to Running as a watcher sees it, the image being there.

Run as root: `python tests/bench/pod_start.py [runs]`. Nothing is asserted.
"""

import asyncio
import sys
import time

from sandboxed import busy, cluster, connected, gone, percentiles, pod, prepared

from edgekube.api.kinds import core_v1 as core

WARM_UP = 3


async def measure(options, runs):
    async with connected(options) as (client, watcher):
        await prepared(client)
        found = {"bound": [], "running": [], "gone": []}
        for number in range(-WARM_UP, runs):
            name = f"start-{number + WARM_UP}"
            begun = time.perf_counter()
            await client.create(core.PODS, pod(name))
            running = await watcher.when(name, "Running")
            bound = await watcher.when(name, "Scheduled")
            deleted = time.perf_counter()
            await gone(client, watcher, [name])
            if number >= 0:
                found["bound"].append(bound - begun)
                found["running"].append(running - begun)
                found["gone"].append(await watcher.when(name, "Gone") - deleted)
    print(f"{runs} pods one after another, {busy()}")
    print(f"POST to bound:   {percentiles(found['bound'])}")
    print(f"POST to Running: {percentiles(found['running'])}")
    print(f"DELETE to gone:  {percentiles(found['gone'])}")


if __name__ == "__main__":
    with cluster() as options:
        asyncio.run(measure(options, int(sys.argv[1]) if len(sys.argv) > 1 else 50))
