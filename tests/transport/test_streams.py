"""Streams between master and node over a broker in memory."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from edgekube.api.errors import ServiceUnavailable, Timeout
from edgekube.transport.base import STDIN, STDOUT, Message, StreamClosed, StreamRequest
from edgekube.transport.line import CHUNK, WINDOW
from edgekube.transport.memory import MemoryBroker, MemoryTransport
from edgekube.transport.streams import Acceptor, Gateway
from edgekube.transport.topics import Topics

WAIT = 20
TOPICS = Topics("c")
ASK = StreamRequest(kind="exec", namespace="default", pod="p", uid="u")


class World:
    def __init__(self):
        self.broker = MemoryBroker()
        self.largest = 0
        self.broker.taps.append(lambda _who, m: setattr(self, "largest", max(self.largest, len(m.payload))))
        self.tasks = []

    def start(self, handler):
        hub = MemoryTransport(self.broker, client_id="hub", will=Message(TOPICS.all_gone, b""))
        node = MemoryTransport(self.broker, client_id="n1", will=Message(TOPICS.gone("n1"), b""))
        self.gateway = Gateway(hub, TOPICS, patience=1.0)
        self.acceptor = Acceptor(node, TOPICS, "n1", handler)
        self.tasks = [asyncio.create_task(x.run()) for x in (hub, node, self.gateway, self.acceptor)]

    async def open(self):
        return await asyncio.wait_for(self.gateway.open("n1", ASK), WAIT)

    async def stop(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@asynccontextmanager
async def world_of(handler):
    world = World()
    world.start(handler)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    try:
        yield world
    finally:
        await world.stop()


async def receive(stream):
    return await asyncio.wait_for(stream.receive(), WAIT)


async def echo(_request, stream):
    while (frame := await stream.receive()) is not None:
        _channel, data = frame
        await stream.send(STDOUT, data)
        if not data:
            return


async def test_an_echo_and_a_clean_end():
    async with world_of(echo) as world:
        stream = await world.open()
        await stream.send(STDIN, b"hello")
        await stream.send(STDIN, b"")
        assert [await receive(stream) for _ in range(3)] == [(STDOUT, b"hello"), (STDOUT, b""), None]
        with pytest.raises(StreamClosed):
            await stream.send(STDIN, b"too late")
        assert len(world.gateway) == len(world.acceptor) == 0


async def test_what_the_handler_raises_is_the_reason():
    async def broken(_request, _stream):
        raise RuntimeError("no such container")

    async with world_of(broken) as world:
        stream = await world.open()
        with pytest.raises(StreamClosed, match="no such container"):
            await receive(stream)


async def test_data_sent_before_the_end_arrives_before_it():
    async def handler(_request, stream):
        await stream.send(STDOUT, b"some")
        raise RuntimeError("then broken")

    async with world_of(handler) as world:
        stream = await world.open()
        assert await receive(stream) == (STDOUT, b"some")
        with pytest.raises(StreamClosed, match="then broken"):
            await receive(stream)


async def test_fifty_megabytes_through_a_slow_reader_stay_bounded_and_in_order():
    total, block = 50 << 20, bytes(range(256)) * 400
    ahead = 0
    state = {"sent": 0, "read": 0}

    async def source(_request, stream):
        while state["sent"] < total:
            await stream.send(STDOUT, block)
            state["sent"] += len(block)
        await stream.send(STDOUT, b"")

    async with world_of(source) as world:
        stream = await world.open()
        position = 0
        while (frame := await receive(stream)) is not None and frame[1]:
            data = frame[1]
            offset = position % len(block)
            assert data == (block * 2)[offset : offset + len(data)]
            position += len(data)
            ahead = max(ahead, state["sent"] - position)
            if position % 7 == 0:
                await asyncio.sleep(0)
        assert position == state["sent"] >= total
        assert ahead <= WINDOW + len(block)
        assert world.largest <= CHUNK + 100


async def test_a_reader_that_does_not_read_stops_the_sender_and_nobody_else():
    sent = {"a": 0, "b": 0}

    async def source(_request, stream):
        name = "a" if not sent["a"] else "b"
        for _ in range(200):
            await stream.send(STDOUT, bytes(CHUNK))
            sent[name] += CHUNK

    async with world_of(source) as world:
        stuck = await world.open()
        while sent["a"] < WINDOW - 2 * CHUNK:
            await asyncio.sleep(0)
        other = await world.open()
        got = 0
        while (frame := await receive(other)) is not None:
            got += len(frame[1])
        assert got == 200 * CHUNK
        assert sent["a"] <= WINDOW
        await stuck.close()


async def test_empty_frames_are_bounded_too():
    sent = 0

    async def source(_request, stream):
        nonlocal sent
        while True:
            await stream.send(STDOUT, b"")
            sent += 1

    async with world_of(source) as world:
        stream = await world.open()
        await asyncio.sleep(0.1)
        assert 0 < sent <= WINDOW // 64
        await stream.close("enough")


async def test_closing_cancels_a_handler_that_does_not_listen(monkeypatch):
    monkeypatch.setattr("edgekube.transport.streams.GRACE", 0.01)
    cancelled = asyncio.Event()

    async def deaf(_request, _stream):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with world_of(deaf) as world:
        stream = await world.open()
        await stream.close("the client went away")
        await asyncio.wait_for(cancelled.wait(), WAIT)


@pytest.mark.parametrize("who", ["n1", "hub"])
async def test_a_lost_connection_ends_both_sides(who):
    ended = asyncio.Queue()

    async def handler(_request, stream):
        try:
            await stream.receive()
        except StreamClosed as error:
            ended.put_nowait(error.reason)

    async with world_of(handler) as world:
        stream = await world.open()
        world.broker.disconnect(who)
        with pytest.raises(StreamClosed):
            await receive(stream)
        assert await asyncio.wait_for(ended.get(), WAIT)
        assert len(world.gateway) == len(world.acceptor) == 0


async def test_lost_frames_end_the_stream_rather_than_corrupt_it():
    ended = asyncio.Queue()

    async def handler(_request, stream):
        try:
            for number in range(3):
                await stream.send(STDOUT, b"%d" % number)
            await stream.receive()
        except StreamClosed as error:
            ended.put_nowait(error.reason)

    async with world_of(handler) as world:
        lost = []

        def loses(message):
            if message.payload.endswith(b"1") and not lost:
                lost.append(message)
                return True
            return False

        world.broker.loses = loses
        stream = await world.open()
        assert await receive(stream) == (STDOUT, b"0")
        with pytest.raises(StreamClosed, match="lost"):
            await receive(stream)
        await stream.close()
        assert "lost" in await asyncio.wait_for(ended.get(), WAIT)


async def test_a_peer_that_forgot_the_stream_says_so():
    ended = asyncio.Queue()

    async def handler(_request, stream):
        try:
            while True:
                await stream.send(STDOUT, bytes(CHUNK))
                await asyncio.sleep(0)
        except StreamClosed as error:
            ended.put_nowait(error.reason)

    async with world_of(handler) as world:
        stream = await world.open()
        world.broker.loses = lambda m: m.topic.endswith("/in")  # the end is lost
        await stream.close()
        await asyncio.sleep(0)
        world.broker.loses = lambda _m: False
        assert await asyncio.wait_for(ended.get(), WAIT) == "unknown stream"


async def test_a_node_that_is_away_or_silent():
    async with world_of(echo) as world:
        world.gateway._present = lambda node: node != "n2"
        with pytest.raises(ServiceUnavailable):
            await world.gateway.open("n2", ASK)
        with pytest.raises(Timeout):
            await world.gateway.open("n3", ASK)
        assert len(world.gateway) == 0
