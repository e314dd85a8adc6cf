"""What a node says about rules that are not ours, and about a full table of connections."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from edgekube.network.base import Flows
from edgekube.network.foreign import Chain, Field, Hook, Match, MemoryForeignRules, Rule, Verdict
from edgekube.network.memory import MemoryServiceRules
from edgekube.proxy.diagnosis import CONNECTIONS, OBSTRUCTED, Diagnosis
from edgekube.proxy.obstacles import obstacles, probes

ACCEPT, DROP, NONE = Verdict.ACCEPT, Verdict.DROP, Verdict.NONE
ESTABLISHED = Match(Field.STATE, bytes(4), (2).to_bytes(4, "little"), equal=False)
DOCKER = Match(Field.OUT, b"docker0".ljust(16, b"\0"))
UNKNOWN = Match()
PACKETS = probes("10.244.1.2", "10.96.0.10")


def forward(*rules: Rule, drops: bool = True, family: str = "ip", hook: Hook = Hook.FORWARD) -> Chain:
    return Chain(family=family, table="filter", name="FORWARD", hook=hook, drops=drops, rules=rules)


def sub(name: str, *rules: Rule) -> Chain:
    return Chain(family="ip", table="filter", name=name, rules=rules)


@pytest.mark.parametrize(
    ("chains", "stopped"),
    [
        ([forward()], True),
        ([forward(drops=False)], False),
        ([forward(family="ip6")], False),
        ([forward(family="inet")], True),
        ([forward(hook=Hook.NONE)], False),
        # What Docker has: its own bridges alone are let through.
        ([forward(Rule((), NONE), Rule((DOCKER, ESTABLISHED), ACCEPT), Rule((DOCKER,), ACCEPT))], True),
        ([forward(Rule((ESTABLISHED,), ACCEPT))], True),
        ([forward(Rule((), ACCEPT))], False),
        # What is not understood may let it through.
        ([forward(Rule((UNKNOWN,), ACCEPT))], False),
        ([forward(Rule((UNKNOWN, DOCKER), ACCEPT))], True),
        ([forward(Rule((UNKNOWN,), DROP), drops=False)], False),
        ([forward(Rule((Match(Field.IN, b"ek"),), ACCEPT), Rule((Match(Field.OUT, b"ek"),), ACCEPT))], False),
        ([forward(Rule((ESTABLISHED,), DROP), drops=False)], False),
        ([forward(Rule((Match(Field.SOURCE, b"\x0a\xf4"),), DROP), drops=False)], True),
        ([forward(Rule((), Verdict.JUMP, "user")), sub("user", Rule((), Verdict.RETURN))], True),
        ([forward(Rule((), Verdict.JUMP, "user")), sub("user", Rule((), ACCEPT))], False),
        ([forward(Rule((), Verdict.JUMP, "user"), drops=False), sub("user", Rule((), DROP))], True),
        ([forward(Rule((UNKNOWN,), Verdict.JUMP, "user")), sub("user", Rule((), ACCEPT))], False),
        ([forward(Rule((UNKNOWN,), Verdict.JUMP, "user")), sub("user", Rule((DOCKER,), ACCEPT))], True),
        ([forward(Rule((), Verdict.GOTO, "user"), Rule((), ACCEPT)), sub("user")], True),
        ([forward(Rule((UNKNOWN,), Verdict.GOTO, "user"), Rule((), DROP)), sub("user")], False),
        ([forward(Rule((), Verdict.JUMP, "missing"))], False),
        ([forward(Rule((), Verdict.JUMP, "loop")), sub("loop", Rule((), Verdict.JUMP, "loop"))], False),
    ],
)
def test_only_what_is_certain_is_an_obstacle(chains, stopped):
    assert bool(obstacles(chains, PACKETS)) is stopped


def test_it_is_said_what_is_stopped():
    (found,) = obstacles([forward(Rule((Match(Field.OUT, b"ek"),), ACCEPT))], PACKETS)
    assert str(found) == (
        "another program's chain FORWARD of table ip filter drops what pods send: let interfaces ek* pass there"
    )
    both = obstacles([forward(family="inet")], (*PACKETS, *probes("fd00::2", "")))
    assert len(both[0].stops) == 3
    closed = Chain(family="inet", table="fw", name="in", hook=Hook.INPUT, drops=True)
    (found,) = obstacles([closed], PACKETS)
    assert found.stops == ("what pods ask the node's DNS",)
    open_for_dns = Rule((Match(Field.PROTOCOL, b"\x11"), Match(Field.PORT, b"\0\x35")), ACCEPT)
    opened = Chain(family="inet", table="fw", name="in", hook=Hook.INPUT, drops=True, rules=(open_for_dns,))
    assert obstacles([opened], PACKETS) == []


class Heard:
    """A Reporter's one verb that is used here."""

    def __init__(self):
        self.events = []

    def event(self, event):
        self.events.append(event)

    def said(self, reason):
        return [event.message for event in self.events if event.reason == reason]


@asynccontextmanager
async def running(rules, foreign):
    heard = Heard()
    look = Diagnosis(heard, "here", rules, foreign, probes=lambda: PACKETS, check=10)
    task = asyncio.create_task(look.run())
    try:
        yield heard
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.looptime
async def test_a_full_table_of_connections_is_said_once():
    rules = MemoryServiceRules()
    async with running(rules, MemoryForeignRules()) as heard:
        for known, times in ((10, 0), (96, 1), (99, 1), (90, 1), (50, 1), (94, 1), (100, 2)):
            rules.tracked = Flows(known, 100)
            await asyncio.sleep(20)
            assert len(heard.said(CONNECTIONS)) == times
        assert "96 of at most 100" in heard.said(CONNECTIONS)[0]


@pytest.mark.looptime
async def test_an_obstacle_is_said_once_and_again_when_it_is_back():
    foreign = MemoryForeignRules()
    async with running(MemoryServiceRules(), foreign) as heard:
        for there, times in (((), 0), ([forward()], 1), ([forward()], 1), ((), 1), ([forward()], 2)):
            foreign.there = there
            await asyncio.sleep(20)
            assert len(heard.said(OBSTRUCTED)) == times
        assert "table ip filter" in heard.events[0].message
        assert (heard.events[0].path, heard.events[0].type) == ("v1/nodes", "Warning")
