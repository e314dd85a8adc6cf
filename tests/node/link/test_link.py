"""The link on its own: what it does without a master, and with one that is played."""

import asyncio
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest

from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1
from edgekube.node.link import NodeLink
from edgekube.transport.base import Disconnected, Message
from edgekube.transport.memory import MemoryBroker, MemoryTransport
from edgekube.transport.session import Sender, body_of, decode
from edgekube.transport.topics import Topics
from edgekube.transport.wire import (
    Ack,
    Kind,
    ObjectDelta,
    Objects,
    Reply,
    Request,
    Resync,
    SnapshotEnd,
    Token,
)  # fmt: skip

TOPICS = Topics("c")
WAIT = 20
POD = core_v1.Pod(metadata=meta_v1.ObjectMeta(name="a", namespace="default", uid="u"), spec=core_v1.PodSpec())


def delta(pod=POD, version="1"):
    meta = pod.metadata
    return ObjectDelta("v1/pods", meta.namespace, meta.name, version, msgspec.json.encode(pod))


class Master:
    """Plays the hub, message by message."""

    def __init__(self):
        self.broker = MemoryBroker()
        self.transport = MemoryTransport(self.broker, client_id="hub")
        self.sender, self.heard = Sender("hub"), asyncio.Queue()
        self.transport.subscribe(TOPICS.up("+"), lambda m: self.heard.put_nowait(decode(m.payload)))

    async def say(self, kind, body):
        await self.transport.publish(Message(TOPICS.down("n1"), self.sender.encode(kind, body)))

    async def hear(self, kind, shape):
        async with asyncio.timeout(WAIT):
            while True:
                envelope = await self.heard.get()
                if envelope.kind == kind:
                    return body_of(envelope, shape) if shape else None

    @asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.transport.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def running(link):
    task = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def master():
    async with Master().running() as made:
        yield made


@pytest.fixture
def make(master, tmp_path):
    def made():
        transport = MemoryTransport(master.broker, client_id="n1", will=Message(TOPICS.gone("n1"), b""))
        return NodeLink(transport, "c", "n1", tmp_path / "wish", clock=lambda: 1000.0)

    return made


async def fill(master, *deltas):
    assert (await master.hear(Kind.RESYNC, Resync)).digest == {}
    await master.say(Kind.OBJECTS, Objects(deltas))
    await master.say(Kind.SNAPSHOT_END, SnapshotEnd({d.key: d.version for d in deltas}))
    while (await master.hear(Kind.ACK, Ack)).own < master.sender.seq:
        pass


async def test_a_node_boots_from_its_disk_without_master_and_broker(master, make):
    link = make()
    assert not link.mirror.pods.synced.is_set()
    async with running(link):
        await fill(master, delta())
    master.broker.stop()
    again = make()
    assert again.mirror.pods.synced.is_set()
    assert [pod.metadata.name for pod in again.mirror.pods] == ["a"]
    async with running(again):
        with pytest.raises(Disconnected):
            await again.service_account_token(Key("default", "default"), "", 600, POD)


async def test_what_is_acknowledged_is_on_disk(master, make):
    async with running(make()):
        await fill(master, delta())
        assert [pod.metadata.name for pod in make().mirror.pods] == ["a"]


async def test_an_incomplete_state_is_not_synced(master, make):
    async with running(make()):
        await master.hear(Kind.RESYNC, Resync)
        await master.say(Kind.OBJECTS, Objects((delta(),)))
        await master.hear(Kind.ACK, Ack)
    assert not make().mirror.pods.synced.is_set()


async def test_a_damaged_disk_is_filled_again(master, make, tmp_path):
    async with running(make()):
        await fill(master, delta())
    path = tmp_path / "wish" / "objects.log"
    path.write_bytes(b"junk" + path.read_bytes())
    link = make()
    assert not link.mirror.pods.synced.is_set()
    async with running(link):
        await fill(master, delta())
        assert link.mirror.pods.synced.is_set()


async def test_an_unchanged_resync_writes_nothing(master, make, tmp_path):
    async with running(make()):
        await fill(master, delta())
    path = tmp_path / "wish" / "objects.log"
    before = path.read_bytes()
    async with running(make()):
        assert (await master.hear(Kind.RESYNC, Resync)).digest == {"v1/pods/default/a": "1"}
        await master.say(Kind.SNAPSHOT_END, SnapshotEnd({"v1/pods/default/a": "1"}))
        await master.hear(Kind.ACK, Ack)
    assert path.read_bytes() == before


async def test_objects_of_a_newer_hub_are_kept_unseen(master, make):
    strange = ObjectDelta("v9/widgets", "default", "w", "1", b"{}")
    async with running(make()):
        await fill(master, strange, delta())
    async with running(make()):
        assert "v9/widgets/default/w" in (await master.hear(Kind.RESYNC, Resync)).digest


async def test_an_object_that_cannot_be_read_does_not_stop_the_others(master, make):
    bad = ObjectDelta("v1/pods", "default", "bad", "1", b'{"spec": 5}')
    async with running(make()) as link:
        await fill(master, bad, delta())
        assert [pod.metadata.name for pod in link.mirror.pods] == ["a"]
        assert link.mirror.pods.synced.is_set()


async def test_an_orderly_stop_says_goodbye(master, make):
    async with running(make()):
        await master.hear(Kind.RESYNC, Resync)
    await master.hear(Kind.GOODBYE, None)


async def test_a_token_is_asked_for_once(master, make):
    async with running(make()) as link:
        await fill(master, delta())
        asking = asyncio.create_task(link.service_account_token(Key("default", "default"), "", 600, POD))
        request = await master.hear(Kind.REQUEST, Request)
        token = Token("secret", "1970-01-01T00:26:40Z")
        await master.say(Kind.REPLY, Reply(request.id, "", msgspec.msgpack.encode(token)))
        assert await asyncio.wait_for(asking, WAIT) == ("secret", "1970-01-01T00:26:40Z")
        assert (await link.service_account_token(Key("default", "default"), "", 600, POD))[0] == "secret"
        other = asyncio.create_task(link.service_account_token(Key("default", "default"), "x", 600, POD))
        request = await master.hear(Kind.REQUEST, Request)
        await master.say(Kind.REPLY, Reply(request.id, "no such account", b""))
        with pytest.raises(Disconnected, match="no such account"):
            await other


async def test_a_full_disk_is_no_acknowledgement(master, make, tmp_path):
    link = make()
    (tmp_path / "wish").write_text("in the way of the folder")
    async with running(link):
        await master.hear(Kind.RESYNC, Resync)
        await master.say(Kind.OBJECTS, Objects((delta(),)))
        await asyncio.sleep(0.05)
        assert len(link.mirror.pods) == 1
        assert not any(e.kind == Kind.ACK for e in master.heard._queue)
