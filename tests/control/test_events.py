"""Events: told once, counted after, never too many."""

import asyncio

import pytest

from edgekube.api.kinds import core_v1 as core
from edgekube.api.types import core_v1, meta_v1
from edgekube.control.events import BURST, QUEUE, SIMILAR, EventSink

POD = core_v1.Pod(
    metadata=meta_v1.ObjectMeta(name="web", namespace="default", uid="u1"), spec=core_v1.PodSpec()
)


def pod(name):
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(name=name, namespace="default", uid=name), spec=core_v1.PodSpec()
    )


class Time:
    now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def time():
    return Time()


@pytest.fixture
async def sink(api_client, time):
    sink = EventSink(api_client, time)
    task = asyncio.create_task(sink.run())
    yield sink
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def events(client, sink):
    for _ in range(2000):
        if not sink._pending:
            break
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)
    return (await client.list(core.EVENTS, namespace="default")).items


async def test_an_event_says_who_what_and_why(api_client, sink):
    sink.recorder("kubelet").warning(POD, "BackOff", "restarting failed container")
    (event,) = await events(api_client, sink)
    assert (event.type, event.reason, event.message) == ("Warning", "BackOff", "restarting failed container")
    assert (event.involved_object.kind, event.involved_object.name, event.involved_object.uid) == (
        "Pod",
        "web",
        "u1",
    )
    assert event.source.component == "kubelet"
    assert event.count == 1


async def test_the_same_again_is_counted(api_client, sink, time):
    recorder = sink.recorder("kubelet")
    for _ in range(3):
        recorder.normal(POD, "Pulled", "image there")
        await events(api_client, sink)
        time.now += 10
    (event,) = await events(api_client, sink)
    assert event.count == 3
    assert event.last_timestamp > event.first_timestamp


async def test_after_a_while_it_is_a_new_event(api_client, sink, time):
    recorder = sink.recorder("kubelet")
    recorder.normal(POD, "Pulled", "image there")
    await events(api_client, sink)
    time.now += 3600
    recorder.normal(POD, "Pulled", "image there")
    assert [event.count for event in await events(api_client, sink)] == [1, 1]


async def test_many_alike_are_combined(api_client, sink):
    recorder = sink.recorder("kubelet")
    for number in range(SIMILAR + 5):
        recorder.normal(POD, "Failed", f"attempt {number}")
    messages = [event.message for event in await events(api_client, sink)]
    assert sum(message.startswith("(combined from similar events)") for message in messages) == 5


async def test_a_chatterbox_is_cut_off_and_heard_again_later(api_client, sink, time):
    recorder = sink.recorder("kubelet")
    for number in range(BURST + 20):
        recorder.normal(POD, f"Reason{number}", "text")
    assert sink.dropped == 20
    time.now += 301
    recorder.normal(POD, "Late", "text")
    assert sink.dropped == 20
    assert "Late" in {event.reason for event in await events(api_client, sink)}


async def test_the_queue_is_bounded(api_client, time):
    sink = EventSink(api_client, time)
    for number in range(QUEUE + 50):
        sink.recorder("kubelet").normal(pod(f"p{number}"), "Killing", "text")
    assert (len(sink._pending), sink.dropped) == (QUEUE, 50)


async def test_an_event_that_cannot_be_written_is_lost_quietly(api_client, sink):
    gone = core_v1.Pod(
        metadata=meta_v1.ObjectMeta(name="x", namespace="nowhere", uid="x"), spec=core_v1.PodSpec()
    )
    sink.recorder("kubelet").normal(gone, "Killing", "text")
    sink.recorder("kubelet").normal(POD, "Killing", "text")
    assert len(await events(api_client, sink)) == 1
