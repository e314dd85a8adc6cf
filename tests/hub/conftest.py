import asyncio
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest

from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1
from edgekube.control.informer import Informers
from edgekube.hub.hub import Hub
from edgekube.node.link import NodeLink
from edgekube.transport.base import Message
from edgekube.transport.memory import MemoryBroker, MemoryTransport
from edgekube.transport.session import decode
from edgekube.transport.topics import Topics
from edgekube.transport.wire import Kind, Objects

WAIT = 20
TOPICS = Topics("c")


@asynccontextmanager
async def running(*coroutines):
    tasks = [asyncio.create_task(c) for c in coroutines]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition, what=""):
    """Wait until a condition (plain or async) holds; fails with `what`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(WAIT):
            while True:
                found = condition()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(0.005)
    raise AssertionError(f"never: {what or condition}")


class World:
    """A hub and nodes over one broker in memory; every message is counted."""

    def __init__(self, client, tmp_path):
        self.client, self.tmp_path = client, tmp_path
        self.broker = MemoryBroker()
        self.said = []
        self.broker.taps.append(self._note)
        self.hub = self.informers = None

    def _note(self, _sender, message):
        with suppress(Exception):
            envelope = decode(message.payload)
            self.said.append((message.topic, Kind(envelope.kind), envelope))

    def kinds(self, topic):
        return [kind for where, kind, _ in self.said if where == topic]

    def objects(self, topic):
        """Names of objects sent to a topic, a list for each message."""
        return [
            [d.key for d in msgspec.msgpack.decode(e.body, type=Objects).deltas]
            for where, kind, e in self.said
            if where == topic and kind is Kind.OBJECTS
        ]

    @asynccontextmanager
    async def hub_running(self, epoch="hub-1"):
        transport = MemoryTransport(self.broker, client_id="hub", will=Message(TOPICS.all_gone, b""))
        informers = Informers(self.client)
        self.hub = Hub(transport, self.client, informers, TOPICS, epoch=epoch)
        async with running(informers.run(), transport.run(), self.hub.run()):
            yield self.hub

    @asynccontextmanager
    async def node_running(self, name="n1", handler=None):
        transport = MemoryTransport(self.broker, client_id=name, will=Message(TOPICS.gone(name), b""))
        link = NodeLink(transport, "c", name, self.tmp_path / name)
        link.transport = transport
        if handler is not None:
            link.serve_streams(handler)
        async with running(link.run()) as tasks:
            link.task = tasks[0]
            yield link

    def settled(self, *nodes):
        """Tell whether these nodes have acknowledged all they were sent."""
        sessions = [self.hub.sessions.get(node) for node in nodes]
        return all(s is not None and s.live and s.owed == s.acked for s in sessions)

    async def pod(self, name, node="n1", *, spec=None, **meta):
        fields = {
            "containers": [{"name": "main", "image": "localhost/x"}],
            "nodeName": node,
            "terminationGracePeriodSeconds": 5,
            **(spec or {}),
        }
        obj = core_v1.Pod(
            metadata=meta_v1.ObjectMeta(name=name, namespace="default", **meta),
            spec=msgspec.convert(fields, core_v1.PodSpec),
        )
        return await self.client.create(core.PODS, obj)

    async def config_map(self, name, **data):
        obj = core_v1.ConfigMap(metadata=meta_v1.ObjectMeta(name=name, namespace="default"), data=data)
        return await self.client.create(core.CONFIG_MAPS, obj)

    async def secret(self, name, **data):
        obj = core_v1.Secret(metadata=meta_v1.ObjectMeta(name=name, namespace="default"), string_data=data)
        return await self.client.create(core.SECRETS, obj)

    async def get(self, name):
        return await self.client.get(core.PODS, Key("default", name))


@pytest.fixture
async def world(api_client, tmp_path):
    meta = meta_v1.ObjectMeta(name="default", namespace="default")
    await api_client.create(core.SERVICE_ACCOUNTS, core_v1.ServiceAccount(metadata=meta))
    return World(api_client, tmp_path)
