"""A node made of the shipped in-memory adapters, in virtual time."""

import asyncio
import contextlib
import itertools
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1
from edgekube.board.base import BoardFacts, BoardUsage
from edgekube.board.fake import FakeBoard
from edgekube.control.mirror import Mirror, NodeEvent
from edgekube.network.memory import MemoryPodNetwork
from edgekube.node.config import KubeletConfig
from edgekube.node.kubelet import Kubelet
from edgekube.runtime.fake import FakeMachine, FakeRuntime
from edgekube.transport.base import Disconnected

EPOCH = 1_700_000_000.0


@dataclass
class Notebook:
    """A Reporter that remembers."""

    statuses: dict[str, list[core_v1.PodStatus]] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    nodes: list[core_v1.Node] = field(default_factory=list)
    events: list[NodeEvent] = field(default_factory=list)
    summaries: list[dict] = field(default_factory=list)
    tokens: list[tuple[Key, str, int]] = field(default_factory=list)
    mirrors: list[core_v1.Pod] = field(default_factory=list)
    offline: bool = False
    token_expiry: str = "2023-11-14T23:13:20Z"

    def pod_status(self, key, uid, status):
        self.statuses.setdefault(uid, []).append(status)

    def pod_gone(self, key, uid):
        self.gone.append(uid)

    def mirror_pod(self, pod):
        self.mirrors.append(pod)

    def node_status(self, node):
        self.nodes.append(node)

    def event(self, event):
        self.events.append(event)

    def stats(self, summary):
        self.summaries.append(msgspec.json.decode(summary))

    async def service_account_token(self, key, audience, seconds, pod):
        if self.offline:
            raise Disconnected("no connection to a broker")
        self.tokens.append((key, audience, seconds))
        return f"token-{len(self.tokens)}", self.token_expiry

    def last(self, uid="uid-web"):
        return self.statuses[uid][-1]

    def reasons(self):
        return [event.reason for event in self.events]


FACTS = BoardFacts(
    hostname="pi", architecture="arm64", operating_system="linux", os_image="Debian", kernel_version="6.1",
    machine_id="m", boot_id="boot-1", system_uuid="s", model="Pi", cpus=4, memory=4 << 30, page_size=4096,
)  # fmt: skip
USAGE = BoardUsage(
    time=0, cpu_ns=0, memory_used=1 << 30, memory_working_set=1 << 30, memory_available=3 << 30,
    disk_capacity=32 << 30, disk_available=16 << 30, inodes=1000, inodes_free=900, received_bytes=0, sent_bytes=0,
)  # fmt: skip


@dataclass
class Rig:
    """One node; `start` and `stop` are the agent's, the machine and the network outlive it."""

    folder: Path
    machine: FakeMachine = field(default_factory=FakeMachine)
    network: MemoryPodNetwork = field(default_factory=lambda: MemoryPodNetwork("127.8.0.0/24"))
    mirror: Mirror = field(default_factory=Mirror)
    notes: Notebook = field(default_factory=Notebook)
    board: FakeBoard = field(default_factory=lambda: FakeBoard(FACTS, USAGE))
    settings: dict = field(default_factory=dict)
    kubelet: Kubelet | None = None
    task: asyncio.Task | None = None
    versions: itertools.count = field(default_factory=lambda: itertools.count(1))
    tmpfs: bool = False
    """Whether memory-backed volumes are really mounted (needs root)."""
    runtime_wrapper: object = staticmethod(lambda runtime: runtime)
    network_wrapper: object = staticmethod(lambda network: network)

    def __post_init__(self):
        self.machine.now = self.now
        for copy in (
            self.mirror.runtime_classes,
            self.mirror.pods,
            self.mirror.config_maps,
            self.mirror.secrets,
            self.mirror.services,
        ):
            copy.synced.set()

    def now(self):
        return EPOCH + asyncio.get_event_loop().time()

    def config(self):
        return KubeletConfig(
            node_name="pi", node_ip="127.0.0.1", data_dir=self.folder, cluster_dns=("10.96.0.10",),
            cgroup_mount=self.folder / "cgroup", **self.settings,
        )  # fmt: skip

    def start(self):
        async def open_network():
            return self.network_wrapper(self.network)

        self.kubelet = Kubelet(
            mirror=self.mirror, reporter=self.notes, runtime=self.runtime_wrapper(FakeRuntime(self.machine)),
            network=open_network, board=self.board, config=self.config(), clock=self.now, tmpfs=self.tmpfs,
        )  # fmt: skip
        self.task = asyncio.ensure_future(self.kubelet.run())

    async def stop(self):
        """End the agent as kill -9 does: nothing is tidied up."""
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
            self.task = None

    def put(self, pod):
        meta = msgspec.structs.replace(pod.metadata, resource_version=str(next(self.versions)))
        self.mirror.pods.set(msgspec.structs.replace(pod, metadata=meta))

    def delete(self, pod, grace=30):
        known = self.mirror.pods.get(key_of(pod))
        meta = msgspec.structs.replace(
            known.metadata, deletion_timestamp="2023-11-14T22:14:00Z", deletion_grace_period_seconds=grace
        )
        self.put(msgspec.structs.replace(known, metadata=meta))

    async def until(self, true, seconds=30.0):
        """Wait (in virtual time) until `true()`; TimeoutError after that many seconds."""
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.05)

    def containers(self, *, name=None):
        found = [c.info for c in self.machine.containers.values()]
        return [i for i in found if name is None or i.labels["edgekube.io/container-name"] == name]


def make_pod(spec=None, *, name="web", uid="uid-web", **meta):
    """Return a pod from its JSON form; one sleeping container unless told otherwise."""
    container = {"name": "main", "image": "fake/sleep", "imagePullPolicy": "IfNotPresent"}
    tree = {
        "metadata": {"name": name, "namespace": "default", "uid": uid, "generation": 1, **meta},
        "spec": {"nodeName": "pi", "restartPolicy": "Always", "containers": [container], **(spec or {})},
    }
    for item in (*tree["spec"]["containers"], *tree["spec"].get("initContainers", ())):
        item.setdefault("image", "fake/sleep")
        item.setdefault("imagePullPolicy", "IfNotPresent")
    return msgspec.convert(tree, core_v1.Pod)


@pytest.fixture
def pod_of():
    """Return the maker of pods."""
    return make_pod


@pytest.fixture
async def rig(tmp_path):
    """Return a node whose agent is not started yet."""
    made = Rig(tmp_path)
    yield made
    await made.stop()
    made.machine.power_off()
    await asyncio.sleep(0.1)
