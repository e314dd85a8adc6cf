"""
The agent dies anywhere, the power goes anywhere: no two interfaces ever have the same address.

First the file alone against a kernel that is a dictionary, in any order of events; then the real thing,
dying at every single boundary of a pod's coming and going.
"""

import asyncio
import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekube.network import addresses, netns
from edgekube.network.addresses import Addresses
from edgekube.network.base import AddressesExhausted
from edgekube.network.linux import LinuxPodNetwork, NodeAddressing
from edgekube.network.netlink import Netlink

UIDS = st.sampled_from("abcdefg")
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("attach"), UIDS, st.integers(0, 6)),
        st.tuples(st.just("detach"), UIDS, st.integers(0, 6)),
        st.tuples(st.sampled_from(["restart", "power", "damage"]), st.just(""), st.just(9)),
    ),
    max_size=25,
)


class Killed(BaseException):
    """Raised where the process ends; nothing may catch it."""


@dataclass
class Agent:
    """Attach and detach as the pod network does them, with a dictionary for the kernel."""

    path: Path
    kernel: dict[str, str] = field(default_factory=dict)
    promised: dict[str, str] = field(default_factory=dict)
    """What somebody was told, and was not told the end of."""
    fuse: int = 9
    """How many steps are left before the process is killed."""

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.fuse = 9
        self.store = Addresses("10.244.1.0/29", self.path, reserved=frozenset({"10.244.1.1"}))
        self.store.adopt(self.kernel)
        for uid in [uid for uid in self.store.all() if uid not in self.kernel]:
            self.store.release(uid)

    def step(self) -> None:
        self.fuse -= 1
        if self.fuse < 0:
            raise Killed

    def write(self, path: Path, data: bytes) -> None:
        self.step()
        beside = path.with_name(f".{path.name}.half")
        beside.write_bytes(data[: len(data) // 2])
        self.step()
        beside.write_bytes(data)
        beside.rename(path)
        self.step()

    def attach(self, uid: str) -> None:
        address = self.store.allocate(uid)
        self.step()
        assert self.kernel.get(uid, address) == address
        self.kernel[uid] = address
        self.step()
        self.promised[uid] = address

    def detach(self, uid: str) -> None:
        self.promised.pop(uid, None)
        self.step()
        self.kernel.pop(uid, None)
        self.step()
        self.store.release(uid)

    def check(self) -> None:
        assert len(set(self.kernel.values())) == len(self.kernel)
        assert self.promised.items() <= self.kernel.items()
        assert not {"10.244.1.0", "10.244.1.1", "10.244.1.7"} & set(self.kernel.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("addresses")


@settings(max_examples=200)
@given(events=EVENTS)
def test_no_two_interfaces_share_an_address(folder, events):
    path = folder / "addresses.json"
    path.unlink(missing_ok=True)
    agent = Agent(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(addresses, "write_atomic", agent.write)
        for event, uid, fuse in events:
            agent.fuse = fuse
            try:
                if event == "attach":
                    agent.attach(uid)
                elif event == "detach":
                    agent.detach(uid)
                else:
                    if event == "power":
                        agent.kernel, agent.promised = {}, {}
                    if event == "damage":
                        path.write_bytes(b'{"pods":{"a":"10.2')
                    agent.start()
            except AddressesExhausted:
                assert len(agent.store.all()) == 5
            except Killed:
                agent.start()
            agent.check()
            # What is noted is never less than what is there.
            assert agent.kernel.items() <= agent.store.all().items()
    assert [item.name for item in folder.iterdir() if item.name.endswith(".half")] == []


# --- The real one ---

ADDRESSING = NodeAddressing(
    pod_cidr="10.244.1.0/29", cluster_cidr="10.244.0.0/16", service_cidr="10.96.0.0/16"
)


@dataclass
class Knife:
    """Kills at the boundary of that number: before each change of the kernel or the file, and after it."""

    number: int
    seen: int = 0

    def boundary(self) -> None:
        self.seen += 1
        if self.seen == self.number:
            raise Killed

    def around(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            self.boundary()
            answer = real(*arguments, **more)
            self.boundary()
            return answer

        return call


@pytest.fixture
def namespace():
    path = Path(f"/run/netns/ekt-{uuid.uuid4().hex[:8]}")
    netns.make(path)
    with Path("/proc/thread-self/ns/net").open("rb") as home:
        netns.join(path)
        try:
            yield path
        finally:
            netns.join(Path(f"/proc/self/fd/{home.fileno()}"))
            netns.remove(path)


def killed_in(work: Callable[[], Any], number: int) -> bool:
    """Do `work` and kill it at that boundary; False: it ended before."""
    knife = Knife(number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(addresses, "write_atomic", knife.around(addresses.write_atomic))
        patch.setattr(Netlink, "request", knife.around(Netlink.request))
        for name in ("make", "remove"):
            patch.setattr(netns, name, knife.around(getattr(netns, name)))
        try:
            asyncio.run(work())
        except Killed:
            return True
    return False


@pytest.mark.root
@pytest.mark.timeout(120)
def test_every_boundary_of_a_pods_coming_and_going(namespace, tmp_path):
    def opened() -> LinuxPodNetwork:
        return LinuxPodNetwork(ADDRESSING, tmp_path, prefix=f"{namespace.name}-")

    async def first() -> str:
        network = opened()
        await network.prepare()
        return (await network.attach("kept", "kept", sysctls={})).address

    kept = asyncio.run(first())

    async def life() -> None:
        network = opened()
        await network.prepare()
        await network.attach("brief", "brief", sysctls={})
        await network.detach("brief")

    async def aftermath() -> None:
        network = opened()
        await network.prepare()
        # A kubelet would finish what it finds; another pod may come first.
        pods = [await network.attach(uid, uid, sysctls={}) for uid in ("other", "brief", "kept")]
        assert len({pod.address for pod in pods}) == 3
        assert pods[2].address == kept
        for uid in ("other", "brief"):
            await network.detach(uid)
        assert [pod.uid for pod in await network.list()] == ["kept"]

    for number in itertools.count(1):
        if not killed_in(life, number):
            assert number > 30
            break
        asyncio.run(aftermath())

    async def end() -> None:
        network = opened()
        await network.prepare()
        await network.clear()

    asyncio.run(end())
