"""The informer over the real API server, with faults on the way."""

import asyncio

import pytest

from edgekube.api.errors import Expired
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1
from edgekube.client.base import Unreachable
from edgekube.client.typed import Client
from edgekube.control.index import Index
from edgekube.control.informer import Informer, Informers
from edgekube.control.writer import Writer


def config_map(name, **data):
    return core_v1.ConfigMap(metadata=meta_v1.ObjectMeta(name=name, namespace="default"), data=data)


class Faulty:
    """A carrier with a bad line: `faults` are raised by watches, `deaf` ones deliver nothing."""

    def __init__(self, carrier):
        self.carrier, self.faults, self.ends, self.deaf = carrier, [], 0, False
        self.lists, self.watches = 0, []

    async def do(self, call):
        self.lists += call.verb == "list"
        return await self.carrier.do(call)

    async def watch(self, call):
        self.watches.append(asyncio.get_running_loop().time())
        if self.faults:
            raise self.faults.pop(0)
        if self.ends:
            self.ends -= 1
            return
        if self.deaf:
            await asyncio.Event().wait()
        async for event in self.carrier.watch(call):
            yield event


@pytest.fixture
def line(api_carrier):
    return Faulty(api_carrier)


@pytest.fixture
async def informer(line):
    informer = Informer(
        Client(line), core.CONFIG_MAPS, fields="metadata.namespace=default", jitter=lambda: 0.5
    )
    task = asyncio.create_task(informer.run())
    await informer.synced.wait()
    yield informer
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def settle():
    for _ in range(50):
        await asyncio.sleep(0)


async def shows(informer, name, data):
    for _ in range(2000):
        found = informer.get(Key("default", name))
        if (found.data if found else None) == data:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{name}: {found}")


async def test_it_follows(informer, api_client):
    await api_client.create(core.CONFIG_MAPS, config_map("a", x="1"))
    await shows(informer, "a", {"x": "1"})
    await api_client.patch(core.CONFIG_MAPS, Key("default", "a"), {"data": {"x": "2"}})
    await shows(informer, "a", {"x": "2"})
    await api_client.delete(core.CONFIG_MAPS, Key("default", "a"))
    await shows(informer, "a", None)


async def test_long_lists_come_in_pages(line, api_client, monkeypatch):
    for number in range(7):
        await api_client.create(core.CONFIG_MAPS, config_map(f"c{number}"))
    monkeypatch.setattr("edgekube.control.informer.PAGE", 3)
    informer = Informer(Client(line), core.CONFIG_MAPS, fields="metadata.namespace=default")
    task = asyncio.create_task(informer.run())
    await informer.synced.wait()
    assert len(informer) == 7
    assert line.lists == 3
    task.cancel()


@pytest.mark.looptime
async def test_watches_that_end_at_once_make_no_hot_loop(line):
    line.ends = 10**9
    informer = Informer(Client(line), core.CONFIG_MAPS, jitter=lambda: 0.5)
    task = asyncio.create_task(informer.run())
    await asyncio.sleep(60)
    assert 5 < len(line.watches) < 15
    assert line.lists == 1
    task.cancel()


async def test_a_broken_watch_goes_on_where_it_was(line, api_client):
    line.faults = [Unreachable("cut")]
    informer = Informer(
        Client(line), core.CONFIG_MAPS, fields="metadata.namespace=default", jitter=lambda: 0.0
    )
    task = asyncio.create_task(informer.run())
    await informer.synced.wait()
    await api_client.create(core.CONFIG_MAPS, config_map("a", x="1"))
    await shows(informer, "a", {"x": "1"})
    assert line.lists == 1
    task.cancel()


async def test_a_compacted_watch_lists_again_and_tells_the_difference(line, api_client):
    await api_client.create(core.CONFIG_MAPS, config_map("old"))
    line.faults = [Expired("compacted")]
    informer = Informer(
        Client(line), core.CONFIG_MAPS, fields="metadata.namespace=default", jitter=lambda: 0.0
    )
    heard = []
    informer.subscribe(lambda old, new: heard.append((old and old.metadata.name, new and new.metadata.name)))
    task = asyncio.create_task(informer.run())
    await informer.synced.wait()
    await api_client.delete(core.CONFIG_MAPS, Key("default", "old"))
    await api_client.create(core.CONFIG_MAPS, config_map("new"))
    await shows(informer, "new", {})
    assert heard == [(None, "old"), ("old", None), (None, "new")]
    assert line.lists == 2
    task.cancel()


async def test_own_writes_show_before_the_watch_brings_them(line, api_client):
    line.deaf = True
    informer = Informer(Client(line), core.CONFIG_MAPS, fields="metadata.namespace=default")
    task = asyncio.create_task(informer.run())
    await informer.synced.wait()
    writer = Writer(api_client, informer)
    made = await writer.create(config_map("a", x="1"))
    assert informer.get(Key("default", "a")) == made
    await writer.patch(Key("default", "a"), {"data": {"x": "2"}})
    assert informer.get(Key("default", "a")).data == {"x": "2"}
    assert await writer.delete(made)
    assert informer.get(Key("default", "a")) is None
    assert not await writer.delete(made)
    task.cancel()


async def test_late_news_of_own_writes_do_not_go_back_in_time(informer, api_client):
    writer = Writer(api_client, informer)
    await writer.create(config_map("a", x="0"))
    seen = []
    informer.subscribe(lambda _old, new: seen.append(int(new.data["x"])) if new else None)
    for number in range(1, 20):
        await writer.patch(Key("default", "a"), {"data": {"x": str(number)}})
        await asyncio.sleep(0)
    await settle()
    assert seen == sorted(seen)
    assert informer.get(Key("default", "a")).data == {"x": "19"}


async def test_a_stale_answer_does_not_bring_back_the_dead(informer, api_client):
    made = await api_client.create(core.CONFIG_MAPS, config_map("a"))
    await shows(informer, "a", {})
    await api_client.delete(core.CONFIG_MAPS, Key("default", "a"))
    await shows(informer, "a", None)
    informer.learn(made)
    assert informer.get(Key("default", "a")) is None


async def test_an_index_follows(informer, api_client):
    index = Index(informer, lambda found: found.data.values())
    await api_client.create(core.CONFIG_MAPS, config_map("a", x="red"))
    await shows(informer, "a", {"x": "red"})
    assert [found.metadata.name for found in index.of("red")] == ["a"]
    await api_client.patch(core.CONFIG_MAPS, Key("default", "a"), {"data": {"x": "blue"}})
    await shows(informer, "a", {"x": "blue"})
    assert index.of("red") == ()
    await api_client.delete(core.CONFIG_MAPS, Key("default", "a"))
    await shows(informer, "a", None)
    assert index.of("blue") == ()


async def test_informers_asked_for_later_run_as_well(api_client):
    informers = Informers(api_client)
    task = asyncio.create_task(informers.run())
    await asyncio.sleep(0)
    late = informers.of(core.NAMESPACES)
    assert informers.of(core.NAMESPACES) is late
    await asyncio.wait_for(late.synced.wait(), 10)
    assert informers.of(core.NAMESPACES, fields="metadata.name=default") is not late
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
