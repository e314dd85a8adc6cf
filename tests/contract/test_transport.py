"""What every transport must do; the MQTT one runs against a real mosquitto with TLS and ACLs."""

import asyncio
import os
import signal
import socket
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from edgekube.app.broker import Broker, BrokerOptions
from edgekube.lib import pki
from edgekube.transport import memory, mqtt
from edgekube.transport.base import Delivery, Disconnected, LinkState, Message
from edgekube.transport.options import TransportOptions

WAIT = 20


class MemoryLab:
    def __init__(self):
        self.broker = memory.MemoryBroker()

    def open(self, name, will=None):
        options = TransportOptions(brokers=("memory://",), client_id=name, will=will)
        return memory.open_transport(options, broker=self.broker)

    async def kill_broker(self):
        self.broker.stop()

    async def start_broker(self):
        self.broker.start()


class MqttLab:
    def __init__(self, folder):
        self.folder = folder
        self.authority = pki.new_authority("test-ca", datetime.now(UTC))
        (folder / "ca.crt").write_bytes(self.authority.certificate)
        self.issue("broker", hosts=("127.0.0.1", "localhost"))
        self.port = free_port()
        self.task = None

    def issue(self, name, hosts=()):
        subject = pki.Subject(name=name, hosts=hosts)
        pair = pki.issue(self.authority, subject, datetime.now(UTC))
        pair.save(self.folder / f"{name}.crt", self.folder / f"{name}.key")

    def options(self):
        return BrokerOptions(
            directory=self.folder / "mosquitto", cluster="c", port=self.port, bind="127.0.0.1",
            authority=self.folder / "ca.crt", certificate=self.folder / "broker.crt",
            key=self.folder / "broker.key",
        )  # fmt: skip

    def open(self, name, will=None, brokers=None):
        self.issue(name)
        options = TransportOptions(
            brokers=brokers or (f"mqtts://127.0.0.1:{self.port}",), client_id=name, will=will,
            authority=self.folder / "ca.crt", certificate=self.folder / f"{name}.crt",
            key=self.folder / f"{name}.key",
        )  # fmt: skip
        return mqtt.open_transport(options)

    async def start_broker(self):
        self.broker = Broker(self.options())
        self.task = asyncio.create_task(self.broker.run())
        await asyncio.wait_for(self.broker.up.wait(), WAIT)

    async def kill_broker(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(params=["memory", "mqtt"])
async def lab(request, tmp_path):
    made = MemoryLab() if request.param == "memory" else MqttLab(tmp_path)
    await made.start_broker()
    yield made
    await made.kill_broker()


@asynccontextmanager
async def running(*transports):
    tasks = []
    for transport in transports:
        up = asyncio.Event()
        transport.on_state(lambda state, up=up: up.set() if state is LinkState.UP else None)
        tasks.append(asyncio.create_task(transport.run()))
        await asyncio.wait_for(up.wait(), WAIT)
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def inbox(transport, topic_filter):
    queue = asyncio.Queue()
    transport.subscribe(topic_filter, queue.put_nowait)
    return queue


async def take(queue, count=1):
    return [await asyncio.wait_for(queue.get(), WAIT) for _ in range(count)]


async def test_messages_arrive_in_order_at_every_subscriber_that_wants_them(lab):
    hub, node = lab.open("hub"), lab.open("n1")
    own, everyone = inbox(node, "ek/c/n/n1/down"), inbox(node, "ek/c/all/#")
    upward = inbox(hub, "ek/c/n/+/up")
    async with running(hub, node):
        sends = [hub.publish(Message("ek/c/n/n1/down", b"%d" % n)) for n in range(300)]
        await asyncio.gather(*sends)
        assert [m.payload for m in await take(own, 300)] == [b"%d" % n for n in range(300)]
        await hub.publish(Message("ek/c/all/down", b"all"))
        await node.publish(Message("ek/c/n/n1/up", b"up"), delivery=Delivery.AT_MOST_ONCE)
        assert (await take(everyone))[0].topic == "ek/c/all/down"
        assert (await take(upward))[0].payload == b"up"
        assert own.empty()


async def test_a_subscription_made_while_connected_works(lab):
    hub, node = lab.open("hub"), lab.open("n1")
    async with running(hub, node):
        late = inbox(node, "ek/c/n/n1/late")
        for _ in range(200):
            await hub.publish(Message("ek/c/n/n1/late", b"x"))
            if not late.empty():
                break
            await asyncio.sleep(0.05)
        assert (await take(late))[0].payload == b"x"


async def test_publishing_without_a_connection_says_so(lab):
    transport = lab.open("hub")
    with pytest.raises(Disconnected):
        await transport.publish(Message("ek/c/all/down", b""))


async def test_the_will_is_sent_when_a_client_ends(lab):
    hub, node = lab.open("hub"), lab.open("n1", will=Message("ek/c/n/n1/gone", b"run-1"))
    wills = inbox(hub, "ek/c/n/+/gone")
    async with running(hub):
        async with running(node):
            assert wills.empty()
        assert (await take(wills))[0].payload == b"run-1"


async def test_a_second_connection_of_a_name_ends_the_first(lab):
    hub, old = lab.open("hub"), lab.open("n1", will=Message("ek/c/n/n1/gone", b"old"))
    wills = inbox(hub, "ek/c/n/+/gone")
    async with running(hub, old) as tasks:
        new = lab.open("n1", will=Message("ek/c/n/n1/gone", b"new"))
        states = asyncio.Queue()
        old.on_state(states.put_nowait)
        old.on_state(lambda _state: tasks[1].cancel())
        async with running(new):
            assert (await take(states))[0] is LinkState.DOWN
            assert (await take(wills))[0].payload == b"old"


async def test_clients_come_back_after_the_broker_did(lab):
    hub, node = lab.open("hub"), lab.open("n1")
    own = inbox(node, "ek/c/n/n1/down")
    states, hub_states = asyncio.Queue(), asyncio.Queue()
    async with running(hub, node):
        node.on_state(states.put_nowait)
        hub.on_state(hub_states.put_nowait)
        await lab.kill_broker()
        assert (await take(states))[0] is LinkState.DOWN
        await lab.start_broker()
        assert (await take(states))[0] is LinkState.UP
        assert await take(hub_states, 2) == [LinkState.DOWN, LinkState.UP]
        await hub.publish(Message("ek/c/n/n1/down", b"again"))
        assert (await take(own))[0].payload == b"again"


async def test_large_messages_pass(lab):
    hub, node = lab.open("hub"), lab.open("n1")
    own = inbox(node, "ek/c/n/n1/down")
    async with running(hub, node):
        payload = bytes(range(256)) * 8000
        await hub.publish(Message("ek/c/n/n1/down", payload))
        assert (await take(own))[0].payload == payload


@pytest.fixture
async def real(tmp_path):
    made = MqttLab(tmp_path)
    await made.start_broker()
    yield made
    await made.kill_broker()


async def test_a_node_cannot_hear_or_say_what_is_another_nodes(real):
    hub, one, two = real.open("hub"), real.open("n1"), real.open("n2")
    spied, everything = inbox(two, "ek/c/n/n1/#"), inbox(two, "#")
    forged = inbox(hub, "ek/c/#")
    own = inbox(one, "ek/c/n/n1/down")
    async with running(hub, one, two):
        await two.publish(Message("ek/c/n/n1/up", b"forged"))
        await two.publish(Message("ek/c/all/down", b"forged"))
        await hub.publish(Message("ek/c/n/n1/down", b"secret"))
        assert (await take(own))[0].payload == b"secret"
        await two.publish(Message("ek/c/n/n2/up", b"mine"))
        heard = [(m.topic, m.payload) for m in await take(forged, 2)]
        assert heard == [("ek/c/n/n1/down", b"secret"), ("ek/c/n/n2/up", b"mine")]
        await hub.publish(Message("ek/c/n/n2/down", b"end"))
        assert [m.payload for m in await take(everything, 2)] == [b"mine", b"end"]
        assert spied.empty()


async def test_brokers_are_tried_in_turn(real):
    dead = f"mqtts://127.0.0.1:{free_port()}"
    transport = real.open("n1", brokers=(dead, f"mqtts://127.0.0.1:{real.port}"))
    async with running(transport):
        await transport.publish(Message("ek/c/n/n1/up", b"x"))


async def test_a_client_without_a_certificate_is_refused(real):
    options = TransportOptions(
        brokers=(f"mqtts://127.0.0.1:{real.port}",), client_id="x", authority=real.folder / "ca.crt"
    )
    transport = mqtt.open_transport(options)
    up = asyncio.Event()
    transport.on_state(lambda _state: up.set())
    task = asyncio.create_task(transport.run())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(up.wait(), 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_mosquitto_is_started_again_when_it_dies(real):
    first = real.broker.pid
    os.kill(first, signal.SIGKILL)
    while real.broker.pid in {0, first}:
        await asyncio.sleep(0.01)
    await asyncio.wait_for(real.broker.up.wait(), WAIT)
    async with running(real.open("hub")):
        pass


async def test_what_waits_for_a_lost_connection_ends_with_it(real, monkeypatch):
    """Not some seconds later: what comes after it would wait as long."""
    transport = real.open("n1")
    async with running(transport):
        monkeypatch.setattr(mqtt, "TIMEOUT", 1000)
        os.kill(real.broker.pid, signal.SIGSTOP)
        try:
            waiting = asyncio.create_task(transport.publish(Message("ek/c/n/n1/up", b"x")))
            await asyncio.sleep(0)
            transport.renew()
            with pytest.raises(Disconnected):
                await asyncio.wait_for(waiting, WAIT)
        finally:
            os.kill(real.broker.pid, signal.SIGCONT)


async def test_connects_anew_when_told_to(lab):
    mine, other = lab.open("mine"), lab.open("other")
    states = []
    mine.on_state(states.append)
    got = inbox(mine, "ek/c/all/down")
    async with running(mine, other):
        mine.renew()
        async with asyncio.timeout(WAIT):
            while states != [LinkState.UP, LinkState.DOWN, LinkState.UP]:
                await asyncio.sleep(0.01)
        await mine.publish(Message("ek/c/n/mine/up", b"still"))
        mine.renew()
        async with asyncio.timeout(WAIT):
            while states[3:] != [LinkState.DOWN, LinkState.UP]:
                await asyncio.sleep(0.01)
    assert got.empty()


async def test_does_not_wait_for_its_turn_when_told_to_connect(lab):
    await lab.kill_broker()
    mine = lab.open("mine")
    up = asyncio.Event()
    mine.on_state(lambda state: up.set() if state is LinkState.UP else None)
    task = asyncio.create_task(mine.run())
    # Long enough for the waits to have grown, were they not cut short.
    for _ in range(20):
        mine.renew()
        await asyncio.sleep(0.01)
    await lab.start_broker()
    mine.renew()
    await asyncio.wait_for(up.wait(), WAIT)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
