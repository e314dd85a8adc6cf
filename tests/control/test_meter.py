"""What work queues tell of themselves."""

from edgekube.control import meter
from edgekube.control.meter import Meter
from edgekube.control.queue import WorkQueue


async def test_a_queue_counts_what_it_does():
    queue = WorkQueue()
    queue.add("a")
    queue.add("a")
    queue.add("b")
    queue.add_after("c", 60)
    key = await queue.get()
    queue.add("a")
    lines = dict(
        line.rsplit(" ", 1) for line in meter.text([("q", len(queue), queue.meter)], 0.0) if line[0] != "#"
    )
    assert lines['workqueue_adds_total{name="q"}'] == "3"
    assert lines['workqueue_retries_total{name="q"}'] == "1"
    assert lines['workqueue_depth{name="q"}'] == "1"
    assert lines['workqueue_queue_duration_seconds_count{name="q"}'] == "1"
    assert lines['workqueue_work_duration_seconds_count{name="q"}'] == "0"
    queue.done(key)
    assert (queue.meter.works.counts.count(1), queue.meter.taken) == (1, {})
    assert queue.meter.queued.keys() == {"a", "b"}
    queue._cancel_timer("c")


def test_durations_and_what_is_under_way():
    one = Meter()
    one.added("a", 1.0)
    one.began("a", 1.5)
    one.ended("a", 3.5)
    one.added("b", 4.0)
    one.began("b", 4.0)
    one.added("c", 4.0)
    one.began("c", 5.0)
    lines = dict(line.rsplit(" ", 1) for line in meter.text([("q", 0, one)], 10.0) if line[0] != "#")
    assert lines['workqueue_unfinished_work_seconds{name="q"}'] == "11"
    assert lines['workqueue_longest_running_processor_seconds{name="q"}'] == "6"
    assert lines['workqueue_work_duration_seconds_sum{name="q"}'] == "2.000000"
    assert lines['workqueue_work_duration_seconds_bucket{name="q",le="1"}'] == "0"
    assert lines['workqueue_work_duration_seconds_bucket{name="q",le="10"}'] == "1"
    assert lines['workqueue_queue_duration_seconds_bucket{name="q",le="+Inf"}'] == "3"
