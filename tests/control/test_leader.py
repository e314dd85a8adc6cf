"""Leader election against the real API server: one leads, the other follows when it stops."""

import asyncio

import pytest

from edgekube.api.kinds.coordination_v1 import LEASES
from edgekube.api.resource import Key
from edgekube.api.types import coordination_v1
from edgekube.client.typed import Client
from edgekube.control.leader import Elector, LeadershipLost, Seen, Terms, wish

KEY = Key("kube-system", "edgekube-controllers")
TERMS = Terms(duration=1.0, deadline=0.6, retry=0.02)


def lease(holder="", duration=15, transitions=1):
    return coordination_v1.Lease(
        spec=coordination_v1.LeaseSpec(
            holder_identity=holder, lease_duration_seconds=duration, acquire_time="then", lease_transitions=transitions
        )
    )  # fmt: skip


@pytest.mark.parametrize(("holder", "elapsed", "takes", "transitions"), [
    ("", 0, True, 2), ("me", 0, True, 1), ("other", 14.9, False, None), ("other", 15, True, 2),
])  # fmt: skip
def test_who_may_take_it(holder, elapsed, takes, transitions):
    found = lease(holder)
    wanted = wish(found, Seen(found.spec, 100.0), "me", terms=Terms(), clock=0.0, tick=100.0 + elapsed)
    assert (wanted is not None) == takes
    if wanted is not None:
        assert (wanted.spec.holder_identity, wanted.spec.lease_transitions) == ("me", transitions)
        assert (wanted.spec.acquire_time == "then") == (holder == "me")


class Leading:
    def __init__(self):
        self.now = set()
        self.most = 0

    def by(self, name):
        async def lead():
            self.now.add(name)
            self.most = max(self.most, len(self.now))
            try:
                await asyncio.Event().wait()
            finally:
                self.now.discard(name)

        return lead


async def until(check):
    async with asyncio.timeout(10):
        while not check():
            await asyncio.sleep(0.005)


@pytest.fixture
async def leading(api_client):
    leading, tasks = Leading(), {}
    for name in "ab":
        elector = Elector(api_client, KEY, name, terms=TERMS)
        tasks[name] = asyncio.create_task(elector.run(leading.by(name)))
    yield leading, tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert leading.most == 1


async def test_the_second_follows_when_the_first_goes(api_client, leading):
    state, tasks = leading
    await until(lambda: state.now)
    (first,) = state.now
    tasks[first].cancel()
    await until(lambda: state.now and first not in state.now)
    held = await api_client.get(LEASES, KEY)
    assert held.spec.holder_identity in state.now
    assert held.spec.lease_transitions == 2


class Cut:
    """A carrier whose line can be cut."""

    def __init__(self, carrier):
        self._carrier, self.cut = carrier, False

    async def do(self, call):
        if self.cut:
            await asyncio.Event().wait()
        return await self._carrier.do(call)


async def test_a_leader_that_is_cut_off_stops_before_another_begins(api_client, api_carrier):
    state, line = Leading(), Cut(api_carrier)
    lost = asyncio.create_task(Elector(Client(line), KEY, "a", terms=TERMS).run(state.by("a")))
    await until(lambda: state.now)
    other = asyncio.create_task(Elector(api_client, KEY, "b", terms=TERMS).run(state.by("b")))
    line.cut = True
    await until(lambda: state.now == {"b"})
    with pytest.raises(LeadershipLost):
        await lost
    assert state.most == 1
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)
