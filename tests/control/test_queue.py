"""The three promises of the work queue, for every interleaving that hypothesis can find."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekube.control.queue import WorkQueue


async def test_a_key_waits_once_however_often_it_is_added():
    queue = WorkQueue[str]()
    for _ in range(3):
        queue.add("a")
    assert len(queue) == 1


async def test_a_key_added_while_worked_on_comes_back_after_done():
    queue = WorkQueue[str]()
    queue.add("a")
    key = await queue.get()
    queue.add("a")
    assert len(queue) == 0
    queue.done(key)
    assert await queue.get() == "a"


@pytest.mark.looptime
async def test_the_earlier_of_two_delays_wins(looptime):
    queue = WorkQueue[str]()
    queue.add_after("a", 60)
    queue.add_after("a", 10)
    queue.add_after("a", 30)
    assert await queue.get() == "a"
    assert looptime == 10


@pytest.mark.looptime
async def test_an_add_overtakes_a_delay(looptime):
    queue = WorkQueue[str]()
    queue.add_after("a", 60)
    queue.add("a")
    queue.done(await queue.get())
    await asyncio.sleep(100)
    assert len(queue) == 0
    assert looptime == 100


async def test_all_of_several_waiting_workers_get_keys():
    queue = WorkQueue[str]()
    workers = [asyncio.ensure_future(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    for key in "abc":
        queue.add(key)
    assert sorted(await asyncio.gather(*workers)) == ["a", "b", "c"]


steps = st.lists(st.tuples(st.sampled_from(["add", "get", "done"]), st.sampled_from("abc")))


@settings(max_examples=500, deadline=None)
@given(steps)
def test_no_order_of_calls_breaks_the_promises(script):
    queue, working, owed, runs = WorkQueue[str](), set(), set(), Counter()
    for step, key in script:
        if step == "add":
            queue.add(key)
            owed.add(key)
        elif step == "get" and len(queue):
            coro = queue.get()
            try:
                coro.send(None)
            except StopIteration as stop:
                taken = stop.value
            assert taken not in working
            assert taken in owed
            working.add(taken)
            owed.discard(taken)
            runs[taken] += 1
        elif step == "done" and key in working:
            working.discard(key)
            queue.done(key)
        assert len(queue) == len(owed - working)
