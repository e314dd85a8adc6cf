"""The control loop: retries, patience, and isolation of a bad object."""

import asyncio

import pytest

from edgekube.api.errors import Conflict, Forbidden, Invalid
from edgekube.api.resource import Key
from edgekube.client.base import Unreachable
from edgekube.control.reader import Copy
from edgekube.control.reconcile import Controller, Terminal

pytestmark = pytest.mark.looptime

POD = Key("default", "web")


class Script:
    """A reconciler that replays answers and notes when it was asked."""

    def __init__(self, *answers):
        self.answers, self.calls = list(answers), []

    async def reconcile(self, key):
        self.calls.append(asyncio.get_running_loop().time())
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


async def run(script, seconds=200, keys=(POD,)):
    controller = Controller("test", script)
    for key in keys:
        controller.queue.add(key)
    try:
        async with asyncio.timeout(seconds):
            await controller.run()
    except TimeoutError:
        pass
    return script.calls


async def test_failures_retry_with_growing_delay():
    calls = await run(Script(OSError("a"), OSError("b"), OSError("c")))
    assert calls == pytest.approx([0, 0.005, 0.015, 0.035], abs=1e-3)


@pytest.mark.parametrize("error", [Invalid("no image"), Terminal("never")])
async def test_a_hopeless_error_is_retried_late_only(error):
    assert await run(Script(error), 400) == pytest.approx([0, 300], abs=1e-3)


@pytest.mark.parametrize("error", [Conflict("changed"), Forbidden("not yet"), Unreachable("cut")])
async def test_what_may_pass_is_retried_soon(error):
    assert len(await run(Script(error), 1)) == 2


async def test_it_looks_again_when_asked_to():
    assert await run(Script(30.0)) == pytest.approx([0, 30], abs=1e-3)


async def test_one_bad_object_does_not_stop_the_others():
    class Picky(Script):
        async def reconcile(self, key):
            await super().reconcile(key)
            if key == POD:
                raise OSError("bad")

    script = Picky()
    calls = await run(script, 0.001, (POD, Key("default", "good")))
    assert len(calls) == 2


async def test_it_waits_for_its_caches():
    script, reader = Script(), Copy()
    controller = Controller("test", script)
    controller.watch(reader, lambda _: [POD])
    controller.queue.add(POD)
    task = asyncio.create_task(controller.run())
    await asyncio.sleep(5)
    assert script.calls == []
    reader.replace(())
    await asyncio.sleep(1)
    assert len(script.calls) == 1
    task.cancel()


async def test_a_key_is_never_worked_on_twice_at_once():
    class Slow:
        active, most, total = 0, 0, 0

        async def reconcile(self, _key):
            self.active += 1
            self.total += 1
            self.most = max(self.most, self.active)
            await asyncio.sleep(1)
            self.active -= 1

    slow = Slow()
    controller = Controller("test", slow, workers=4)
    task = asyncio.create_task(controller.run())
    for _ in range(5):
        controller.queue.add(POD)
        await asyncio.sleep(0.3)
    await asyncio.sleep(5)
    assert (slow.most, slow.total) == (1, 3)
    task.cancel()
