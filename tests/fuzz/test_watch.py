"""
Watches under concurrent writers while the store forgets: each event once, in order, or 410 and a new list.

What a client knows in the end is what there is, however often it had to begin anew.
"""

import asyncio
import random
from itertools import pairwise

import msgspec
import pytest

from edgekube.api.schema import Schemas
from edgekube.apiserver import caches
from edgekube.apiserver.bootstrap import BootstrapConfig, bootstrap
from edgekube.apiserver.cache import ResourceCache
from edgekube.apiserver.identity import User
from edgekube.apiserver.request import Request
from edgekube.apiserver.server import ApiServer, ApiServerConfig
from edgekube.client.typed import Client
from edgekube.store.memory import MemoryStore
from edgekube.store.sqlite import open_store

ADMIN = User("admin", ("system:masters", "system:authenticated"))
MAPS = "/api/v1/namespaces/default/configmaps"
SCHEMAS = Schemas.load()


class Api:
    def __init__(self, server):
        self.server = server

    async def send(self, method, path, body=None, *, kind="json", **query):
        data = b"" if body is None else msgspec.json.encode(body)
        headers = {"content-type": f"application/{kind}"}
        return await self.server.handler.answer(
            Request(method=method, path=path, user=ADMIN, query=query, headers=headers, body=data)
        )


class Client410:
    """Lists and watches as client-go's reflector; notes every event of every watch."""

    def __init__(self, api, seed, *, patience):
        self.api, self.random, self.patience = api, random.Random(seed), patience
        self.known, self.version, self.listed, self.log = {}, 0, 0, []

    async def run(self):
        while True:
            await self.list()
            while await self.watch():
                # Leave and come back: a watch goes on where the last one ended.
                await asyncio.sleep(self.random.choice((0, 0, self.patience)))

    async def list(self):
        tree = msgspec.json.decode((await self.api.send("GET", MAPS)).body)
        self.listed += 1
        self.version = int(tree["metadata"]["resourceVersion"])
        self.known = {item["metadata"]["name"]: item for item in tree["items"]}

    async def watch(self):
        """Follow for some events; return whether the watch can go on from here."""
        answer = await self.api.send(
            "GET", MAPS, watch="1", resourceVersion=str(self.version), allowWatchBookmarks="true"
        )
        if answer.code == 410:
            return False
        assert answer.code == 200, answer.body
        left = self.random.randrange(1, 40)
        try:
            async for batch in answer.events:
                for event in batch:
                    tree = msgspec.json.decode(event.raw)
                    if event.type == "ERROR":
                        assert tree["code"] == 410, tree
                        return False
                    self.take(event.type, tree)
                    left -= 1
                # A batch is taken whole: what was handed over is not asked for again.
                if left <= 0:
                    return True
        finally:
            await answer.events.aclose()
        return True

    def take(self, kind, item):
        version = int(item["metadata"]["resourceVersion"])
        if kind == "BOOKMARK":
            assert version >= self.version
            self.version = version
            return
        name = item["metadata"]["name"]
        assert version > self.version, "an event came twice, or late"
        # Each kind of event follows from what there was: nothing in between was left out.
        assert (kind == "ADDED") == (name not in self.known), (kind, name)
        self.log.append((version, kind, name))
        self.version = version
        if kind == "DELETED":
            del self.known[name]
        else:
            self.known[name] = item


async def write(api, seed, rounds):
    """Create, change and delete objects of its own by chance."""
    chance, mine = random.Random(seed), set()
    written = []
    for number in range(rounds):
        name = f"w{seed}-{chance.randrange(5)}"
        if name not in mine:
            answer, kind = (
                await api.send("POST", MAPS, {"metadata": {"name": name}, "data": {"n": str(number)}}),
                "ADDED",
            )
            mine.add(name)
        elif chance.random() < 0.3:
            answer, kind = await api.send("DELETE", f"{MAPS}/{name}"), "DELETED"
            mine.discard(name)
        else:
            change = {"data": {"n": str(number)}}
            answer, kind = (
                await api.send("PATCH", f"{MAPS}/{name}", change, kind="merge-patch+json"),
                "MODIFIED",
            )
        assert answer.code in {200, 201}, answer.body
        written.append((kind, name))
        if chance.random() < 0.3:
            await asyncio.sleep(0)
    return written


@pytest.fixture
async def run(monkeypatch):
    """Start a server; a small window makes its caches forget what a slow watcher still wants."""
    tasks = []

    async def start(store, *, window):
        class Small(ResourceCache):
            def __init__(self, *rest, **more):
                super().__init__(*rest, **{"window": window, **more})

        monkeypatch.setattr(caches, "ResourceCache", Small)
        server = ApiServer(store, SCHEMAS, ApiServerConfig())
        tasks.append(asyncio.create_task(server.run()))
        await server.ready.wait()
        await bootstrap(Client(server.local(ADMIN)), BootstrapConfig(address="192.0.2.1"))
        return Api(server)

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def settled(watchers, final):
    async with asyncio.timeout(20):
        while any(watcher.known != final for watcher in watchers):
            await asyncio.sleep(0.01)


def stores(tmp_path):
    return {
        "memory": MemoryStore,
        "forgetful memory": lambda: MemoryStore(changes=20),
        "sqlite": lambda: open_store(f"sqlite:///{tmp_path}/db"),
    }


@pytest.mark.parametrize("window", [10, 10_000])
@pytest.mark.parametrize("kind", ["memory", "forgetful memory", "sqlite"])
async def test_every_event_once_and_in_order(run, tmp_path, kind, window):
    api = await run(stores(tmp_path)[kind](), window=window)
    watchers = [Client410(api, seed, patience=0.02) for seed in range(10)]
    tasks = [asyncio.create_task(watcher.run()) for watcher in watchers]
    written = await asyncio.gather(*(write(api, seed, 60) for seed in range(5)))
    tree = msgspec.json.decode((await api.send("GET", MAPS)).body)
    await settled(watchers, {item["metadata"]["name"]: item for item in tree["items"]})
    failed = [task.exception() for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert failed == []
    for watcher in watchers:
        assert all(earlier[0] < later[0] for earlier, later in pairwise(watcher.log))
        assert watcher.log
    if window == 10_000 and kind != "forgetful memory":
        whole = [watcher for watcher in watchers if watcher.listed == 1]
        assert whole == watchers, "nothing was forgotten, so nobody had to begin anew"
        for mine in written:
            name = mine[0][1].partition("-")[0] + "-"
            for watcher in whole:
                seen = [(kind, who) for _, kind, who in watcher.log if who.startswith(name)]
                assert seen == mine[len(mine) - len(seen) :]
    if window == 10:
        assert sum(watcher.listed for watcher in watchers) > len(watchers), "the window was never left"
