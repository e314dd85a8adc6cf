"""The real transport on the loop the server runs on."""

import asyncio

import pytest
import uvloop

from contract.test_transport import MqttLab, inbox, running, take
from edgekube.transport.base import Message


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_messages_pass_under_uvloop(tmp_path):
    async def scene():
        lab = MqttLab(tmp_path)
        await lab.start_broker()
        hub, node = lab.open("hub"), lab.open("n1")
        own = inbox(node, "ek/c/n/n1/down")
        async with running(hub, node):
            await asyncio.gather(*(hub.publish(Message("ek/c/n/n1/down", b"%d" % n)) for n in range(500)))
            assert [m.payload for m in await take(own, 500)] == [b"%d" % n for n in range(500)]
            await lab.kill_broker()
            await lab.start_broker()
            while True:
                try:
                    await hub.publish(Message("ek/c/n/n1/down", b"again"))
                except Exception:
                    await asyncio.sleep(0.02)
                    continue
                if own.qsize():
                    break
                await asyncio.sleep(0.02)
        await lab.kill_broker()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scene())
