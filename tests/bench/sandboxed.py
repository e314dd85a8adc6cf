"""A cluster of one machine for benchmarks, in a sandbox of its own: started, watched, removed."""

import asyncio
import os
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from edgekube.api.errors import StatusError
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1
from edgekube.app import demo
from edgekube.app.options import UpOptions
from edgekube.app.up import down, up
from edgekube.client import kubeconfig
from edgekube.client.https import HttpsCarrier
from edgekube.client.typed import Client

SPACE = "default"
TICKS = os.sysconf("SC_CLK_TCK")
SCRIPT = "trap 'exit 0' TERM; sleep 100000 & wait"


@contextmanager
def cluster():
    """Run server and agent in a sandbox under a temporary folder; give its options."""
    folder = Path(tempfile.mkdtemp(prefix="ekb-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = UpOptions(
        data_dir=folder / "data", run_dir=folder / "run", name=f"ekb-{os.getpid()}", port=port, node_name="edge1", patience=90
    )  # fmt: skip
    # Ended by a signal, it tidies up all the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    demo.place_image(options.data_dir / "agent" / "images")
    try:
        up(options, lambda _line: None)
        yield options
    finally:
        down(options, lambda _line: None)
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def connected(options):
    """Give a client and a watcher of pods."""
    access = kubeconfig.load((options.data_dir / "server" / "admin.kubeconfig",))
    async with HttpsCarrier(access) as carrier:
        client = Client(carrier)
        watcher = Watcher(client)
        task = asyncio.create_task(watcher.run())
        try:
            async with asyncio.timeout(30):
                await watcher.ready.wait()
            yield client, watcher
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class Watcher:
    """When each pod was first seen to be what: by name, "Scheduled", "Running", "Ready", "Gone"."""

    def __init__(self, client):
        self._client = client
        self.ready = asyncio.Event()
        self._times = {}
        self._news = asyncio.Condition()

    async def run(self):
        listing = await self._client.list(core.PODS, namespace=SPACE)
        self.ready.set()
        async for event in self._client.watch(core.PODS, namespace=SPACE, since=listing.resource_version):
            await self._seen(event)

    async def _seen(self, event):
        pod, now = event.object, time.perf_counter()
        if not isinstance(pod, core_v1.Pod):
            return
        times = self._times.setdefault(pod.metadata.name, {})
        states = {
            "Scheduled": bool(pod.spec.node_name),
            "Running": pod.status.phase == "Running",
            "Ready": any((c.type, c.status) == ("Ready", "True") for c in pod.status.conditions),
            "Gone": event.type == "DELETED",
        }
        for name, true in states.items():
            if true:
                times.setdefault(name, now)
        async with self._news:
            self._news.notify_all()

    async def when(self, pod, state, seconds=120):
        """Return the time at which a pod was seen to be so; waits for it."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: state in self._times.get(pod, {}))
        return self._times[pod][state]


def pod(name, **container):
    main = core_v1.Container(
        name="main", image=demo.IMAGE, image_pull_policy="IfNotPresent", command=("sh", "-c", SCRIPT), **container
    )  # fmt: skip
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(name=name, namespace=SPACE),
        spec=core_v1.PodSpec(containers=(main,), termination_grace_period_seconds=1),
    )


async def prepared(client):
    """Wait until pods may be made: their account is there."""
    async with asyncio.timeout(60):
        while True:
            with suppress(StatusError):
                await client.get(core.SERVICE_ACCOUNTS, Key(SPACE, "default"))
                return
            await asyncio.sleep(0.1)


async def gone(client, watcher, names):
    """Delete pods and wait for their end."""
    for name in names:
        await client.delete(core.PODS, Key(SPACE, name))
    for name in names:
        await watcher.when(name, "Gone")


def percentiles(seconds):
    """Return a line of milliseconds: p50, p90, p99, largest."""
    ordered = sorted(value * 1000 for value in seconds)
    cut = statistics.quantiles(ordered, n=100, method="inclusive") if len(ordered) > 1 else ordered * 99
    return f"p50 {cut[49]:6.0f}  p90 {cut[89]:6.0f}  p99 {cut[98]:6.0f}  max {ordered[-1]:6.0f} ms"


def pids(words, name):
    """Return the pids (as we see them) of processes whose command line holds `words` and `name`."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if words in line and name in line:
                found.append(int(entry.name))
    return found


def cpu_seconds(pid):
    """Return a process's CPU time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid):
    """Return a process's resident memory in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def busy():
    """Return how busy the machine is, to be told beside figures."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"
