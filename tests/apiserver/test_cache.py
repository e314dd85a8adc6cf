"""The watch cache."""

import asyncio
import json
import random
from contextlib import asynccontextmanager

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.errors import Expired
from edgekube.api.resource import Durability, Key
from edgekube.api.selectors import parse_fields, parse_labels
from edgekube.apiserver.cache import EventType, ResourceCache, Selectable, entry_decoder, with_revision
from edgekube.apiserver.cache.index import WatcherIndex
from edgekube.apiserver.cache.watcher import Filter, Watcher
from edgekube.store.base import Compacted, Record, StoreUnavailable
from edgekube.store.memory import MemoryStore
from edgekube.store.sqlite import SqliteStore

PODS = "/registry/pods/"
SELECTABLE = {
    "spec.nodeName": Selectable("spec.nodeName"),
    "status.phase": Selectable("status.phase"),
    "spec.hostNetwork": Selectable("spec.hostNetwork", "false"),
    "spec.priority": Selectable("spec.priority"),
}


def pod(name, namespace="default", *, labels=None, node="", phase="", **spec):
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{name}",
        **({"labels": labels} if labels else {}),
    }
    tree = {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": metadata,
        "spec": {**({"nodeName": node} if node else {}), **spec},
    }
    return msgspec.json.encode(tree | ({"status": {"phase": phase}} if phase else {}))


class World:
    """A store, the cache of its pods, and what a registry does."""

    def __init__(self, store, cache):
        self.store, self.cache = store, cache

    async def put(self, name, namespace="default", **shape):
        key = f"{PODS}{namespace}/{name}"
        current = await self.store.get(key)
        expected = current.revision if current else 0
        record = await self.store.put(key, pod(name, namespace, **shape), expected=expected)
        await self.cache.wait_for(record.revision)
        return record.revision

    async def delete(self, name, namespace="default"):
        key = f"{PODS}{namespace}/{name}"
        record = await self.store.delete(key, expected=(await self.store.get(key)).revision)
        await self.cache.wait_for(record.revision)
        return record.revision


@asynccontextmanager
async def running(store, **options):
    cache = ResourceCache(store, PODS, entry_decoder(SELECTABLE), **options)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(cache.run())
        await cache.ready.wait()
        yield World(store, cache)
        task.cancel()


@pytest.fixture
async def world():
    async with running(MemoryStore()) as world:
        yield world


async def drain(watcher):
    """Return what waits, as (type, name, revision)."""
    events = []
    while True:
        waiting = asyncio.ensure_future(watcher.batch())
        await asyncio.sleep(0)
        if not waiting.done():
            waiting.cancel()
            return events
        events += [(event.type.value, event.entry.name, event.entry.revision) for event in waiting.result()]


# ---- entries ----


async def test_an_entry_has_what_selection_needs():
    value = pod("a", labels={"app": "web"}, node="n1", phase="Running", hostNetwork=True, priority=7)
    entry = entry_decoder(SELECTABLE)(Record(f"{PODS}default/a", value, 7, 5))
    assert (entry.key, entry.path, entry.uid) == (Key("default", "a"), "default/a", "uid-a")
    assert (entry.revision, entry.created, entry.labels) == (7, 5, {"app": "web"})
    assert entry.fields == {
        "metadata.name": "a",
        "metadata.namespace": "default",
        "spec.nodeName": "n1",
        "status.phase": "Running",
        "spec.hostNetwork": "true",
        "spec.priority": "7",
    }
    tree = json.loads(entry.raw)
    assert tree["metadata"].pop("resourceVersion") == "7"
    assert tree == json.loads(value)


async def test_absent_fields():
    entry = entry_decoder(SELECTABLE)(Record("/registry/nodes/n", b'{"metadata":{"name":"n"}}', 7, 5))
    assert entry.path == "n"
    assert entry.fields["spec.nodeName"] == ""
    assert entry.fields["spec.hostNetwork"] == "false"


@pytest.mark.parametrize("value", [b"", b"[]", b'{"metadata":[]}', b'{"metadata":{"name":1}}', b"\xff"])
async def test_what_is_no_object(value):
    with pytest.raises(msgspec.MsgspecError):
        entry_decoder(SELECTABLE)(Record("/k", value, 1, 1))


NESTED = st.recursive(
    st.one_of(st.text(alphabet='ab"\\{}[]:,metadata', max_size=12), st.integers(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(["metadata", "x", "resourceVersion"]), inner, max_size=2)),
    max_leaves=6,
)  # fmt: skip
MEMBERS = st.dictionaries(st.sampled_from(["kind", "apiVersion", "spec", "data"]), NESTED, max_size=4)
METADATA = st.dictionaries(st.sampled_from(["name", "labels", "annotations"]), NESTED, max_size=3)


@given(MEMBERS, METADATA, st.randoms(use_true_random=False), st.integers(1, 2**63), st.booleans())
def test_the_revision_goes_into_any_object(members, metadata, dice, revision, spaced):
    names = [*members, "metadata"]
    dice.shuffle(names)
    tree = {name: (metadata if name == "metadata" else members[name]) for name in names}
    value = json.dumps(tree).encode() if spaced else msgspec.json.encode(tree)
    wanted = {**tree, "metadata": {**metadata, "resourceVersion": str(revision)}}
    once = with_revision(value, revision - 1)
    assert json.loads(with_revision(value, revision)) == wanted
    assert json.loads(with_revision(once, revision)) == wanted
    assert once.count(b'"resourceVersion":"%d"' % (revision - 1)) == 1


def test_our_own_encoding_is_not_decoded():
    value = pod("a")
    assert with_revision(value, 7) == value.replace(b'"metadata":{', b'"metadata":{"resourceVersion":"7",')
    assert with_revision(with_revision(value, 7), 123) == with_revision(value, 123)
    assert with_revision(b'{"metadata":{}}', 7) == b'{"metadata":{"resourceVersion":"7"}}'
    assert (
        with_revision(b'{"metadata":{"resourceVersion":"7"}}', 8) == b'{"metadata":{"resourceVersion":"8"}}'
    )


# ---- reading ----


async def test_what_was_there_before(tmp_path):
    store = SqliteStore(tmp_path / "state.db")
    try:
        await store.put(f"{PODS}default/a", pod("a"), expected=0)
        await store.put(f"{PODS}default/broken", b"{", expected=0)
        await store.put("/registry/podsandmore/default/x", pod("x"), expected=0)
        async with running(store) as world:
            assert len(world.cache) == 1
            assert world.cache.get("default", "a").name == "a"
            assert world.cache.revision == await store.revision()
    finally:
        await store.close()


async def test_read_your_writes(world):
    revision = await world.put("a")
    assert world.cache.get("default", "a").revision == revision == world.cache.revision
    assert world.cache.get("other", "a") is None
    await world.delete("a")
    assert world.cache.get("default", "a") is None
    await world.cache.wait_for(revision)


async def test_pages_are_in_key_order(world):
    for namespace, name in [("b", "x"), ("a", "y"), ("a-b", "z"), ("a", "x"), ("b", "a")]:
        await world.put(name, namespace)
    everything = [entry.path for entry in world.cache.page().entries]
    assert everything == sorted(everything)
    assert len(everything) == 5
    assert [entry.path for entry in world.cache.page("a").entries] == ["a/x", "a/y"]
    assert world.cache.page("none").entries == []
    found, after = [], ""
    while True:
        page = world.cache.page(limit=2, after=after)
        found += [entry.path for entry in page.entries]
        assert page.remaining == (5 - len(found) if page.next else None)
        if not page.next:
            break
        after = page.next
    assert found == everything
    assert world.cache.page("a", limit=1, after="a/x").next == ""


async def test_pages_with_selectors(world):
    for index in range(6):
        await world.put(f"p{index}", labels={"parity": str(index % 2)}, node=f"n{index % 3}")
    odd = world.cache.page(labels=parse_labels("parity=1"))
    assert [entry.name for entry in odd.entries] == ["p1", "p3", "p5"]
    both = world.cache.page(labels=parse_labels("parity=1"), fields=parse_fields("spec.nodeName=n0"))
    assert [entry.name for entry in both.entries] == ["p3"]
    first = world.cache.page(labels=parse_labels("parity=1"), limit=2)
    assert (first.next, first.remaining) == ("default/p3", None)
    named = world.cache.page("default", fields=parse_fields("metadata.name=p2"))
    assert [entry.name for entry in named.entries] == ["p2"]
    assert not world.cache.page("other", fields=parse_fields("metadata.name=p2")).entries
    assert [entry.name for entry in world.cache.page(fields=parse_fields("metadata.name=p2")).entries] == [
        "p2"
    ]


async def test_later_pages_show_the_time_of_the_first(world):
    for name in "abc":
        await world.put(name)
    first = world.cache.page(limit=1)
    before = [(entry.name, entry.revision) for entry in world.cache.page().entries]
    await world.delete("b")
    await world.put("aa")
    await world.put("c", phase="Running")
    await world.put("c", phase="Failed")
    second = world.cache.page(limit=1, after=first.next, at=first.revision)
    third = world.cache.page(limit=5, after=second.next, at=first.revision)
    pages = [*first.entries, *second.entries, *third.entries]
    assert [(entry.name, entry.revision) for entry in pages] == before
    assert {first.revision, second.revision, third.revision} == {first.revision}
    assert [entry.name for entry in world.cache.page().entries] == ["a", "aa", "c"]
    then = world.cache.page("default", fields=parse_fields("metadata.name=b"), at=first.revision)
    assert [entry.name for entry in then.entries] == ["b"]


async def test_a_page_of_a_forgotten_time():
    async with running(MemoryStore(), window=2) as world:
        await world.put("a")
        then = world.cache.revision
        for phase in "xyz":
            await world.put("a", phase=phase)
        with pytest.raises(Expired):
            world.cache.page(at=then)


# ---- watching ----


async def test_a_frame_is_the_event_in_json_and_shared(world):
    with world.cache.watch(world.cache.revision) as one, world.cache.watch(world.cache.revision) as two:
        revision = await world.put("a")
        (first,), (second,) = await one.batch(), await two.batch()
    assert first.frame is second.frame
    assert first.frame.endswith(b"}\n")
    event = json.loads(first.frame)
    assert event["type"] == "ADDED"
    assert event["object"]["metadata"] == {
        "name": "a",
        "namespace": "default",
        "uid": "uid-a",
        "resourceVersion": str(revision),
    }


async def test_watch_from_a_revision(world):
    first = await world.put("a")
    second = await world.put("a", phase="Running")
    with world.cache.watch(first) as watcher:
        third = await world.delete("a")
        assert await drain(watcher) == [("MODIFIED", "a", second), ("DELETED", "a", third)]
        assert watcher.revision == third


async def test_a_deleted_object_is_shown_as_it_was_last(world):
    with world.cache.watch(world.cache.revision) as watcher:
        await world.put("a", phase="Running")
        revision = await world.delete("a")
        event = json.loads((await watcher.batch())[-1].frame)
    assert event["type"] == "DELETED"
    assert event["object"]["status"] == {"phase": "Running"}
    assert event["object"]["metadata"]["resourceVersion"] == str(revision)


async def test_watch_from_the_start_begins_with_what_is_there(world):
    names = [f"p{index:03}" for index in range(600)]
    for name in names:
        await world.put(name)
    start = world.cache.revision
    with world.cache.watch(None) as watcher:
        await world.put("p000", phase="Running")
        found, sizes = [], []
        while not watcher.synced:
            batch = await watcher.batch()
            sizes.append(len(batch))
            found += batch
        assert [event.entry.name for event in found] == names
        assert {event.type for event in found} == {EventType.ADDED}
        assert max(sizes) < 600
        assert watcher.revision == start
        assert await drain(watcher) == [("MODIFIED", "p000", start + 1)]
        assert watcher.revision == start + 1


async def test_watch_from_the_start_of_nothing(world):
    with world.cache.watch(None) as watcher:
        assert watcher.synced
        assert await drain(watcher) == []


async def test_objects_enter_and_leave_a_label_selector(world):
    with world.cache.watch(world.cache.revision, labels=parse_labels("app=web")) as watcher:
        await world.put("a", labels={"app": "db"})
        entered = await world.put("a", labels={"app": "web"})
        changed = await world.put("a", labels={"app": "web"}, phase="Running")
        left = await world.put("a", labels={"app": "db"}, phase="Failed")
        await world.put("a", labels={"app": "db"}, phase="Gone")
        batch = await watcher.batch()
        again = await world.put("a", labels={"app": "web"})
        gone = await world.delete("a")
        assert await drain(watcher) == [("ADDED", "a", again), ("DELETED", "a", gone)]
    assert [(event.type.value, event.entry.revision) for event in batch] == [
        ("ADDED", entered),
        ("MODIFIED", changed),
        ("DELETED", left),
    ]
    shown = json.loads(batch[-1].frame)["object"]
    assert shown["metadata"]["labels"] == {"app": "web"}
    assert shown["status"] == {"phase": "Running"}
    assert shown["metadata"]["resourceVersion"] == str(left)


async def test_objects_enter_and_leave_an_indexed_field(world):
    """A pod bound to a node, as its kubelet sees it."""
    with (
        world.cache.watch(world.cache.revision, fields=parse_fields("spec.nodeName=n1")) as mine,
        world.cache.watch(world.cache.revision, fields=parse_fields("spec.nodeName=n2")) as other,
        world.cache.watch(world.cache.revision, fields=parse_fields("spec.nodeName=")) as unbound,
        world.cache.watch(world.cache.revision, fields=parse_fields("spec.nodeName!=n1")) as elsewhere,
    ):
        made = await world.put("a")
        bound = await world.put("a", node="n1")
        gone = await world.delete("a")
        assert await drain(mine) == [("ADDED", "a", bound), ("DELETED", "a", gone)]
        assert await drain(other) == []
        assert await drain(unbound) == [("ADDED", "a", made), ("DELETED", "a", bound)]
        assert await drain(elsewhere) == [("ADDED", "a", made), ("DELETED", "a", bound)]


async def test_watch_of_a_namespace_and_of_a_name(world):
    with (
        world.cache.watch(world.cache.revision, namespace="x") as namespace,
        world.cache.watch(world.cache.revision, namespace="x", name="b") as one,
        world.cache.watch(
            world.cache.revision, namespace="x", fields=parse_fields("metadata.name=b")
        ) as field,
    ):
        await world.put("b", "y")
        a, b = await world.put("a", "x"), await world.put("b", "x")
        assert await drain(namespace) == [("ADDED", "a", a), ("ADDED", "b", b)]
        assert await drain(one) == await drain(field) == [("ADDED", "b", b)]
    with (
        world.cache.watch(None, namespace="x", name="b") as one,
        world.cache.watch(None, namespace="x", name="z") as none,
    ):
        assert await drain(one) == [("ADDED", "b", b)]
        assert await drain(none) == []


async def test_one_node_s_watcher_is_not_asked_about_the_others(world):
    index, closed = WatcherIndex(), []

    def watcher(text):
        chosen = Filter(fields=parse_fields(text))
        return Watcher(chosen, initial=(), limit=1, current=lambda: 0, close=closed.append)

    everything, *nodes = [watcher(""), *(watcher(f"spec.nodeName=n{number}") for number in range(100))]
    twin = watcher("spec.nodeName=n7")
    for each in (everything, *nodes, twin):
        index.add(each)
    await world.put("a", node="n7")
    old = world.cache.get("default", "a")
    await world.put("a", node="n8")
    new = world.cache.get("default", "a")
    assert [list(group) for _, group in index.concerned(old, None)] == [[everything], [nodes[7], twin]]
    assert [list(group) for _, group in index.concerned(old, old)] == [[everything], [nodes[7], twin]]
    assert [list(group) for _, group in index.concerned(new, old)] == [
        [everything],
        [nodes[8]],
        [nodes[7], twin],
    ]
    for each in (everything, *nodes):
        index.remove(each)
        index.remove(each)
    assert [list(group) for _, group in index.concerned(new, old)] == [[twin]]


async def test_a_watch_that_starts_too_early():
    async with running(MemoryStore(), window=3) as world:
        start = world.cache.revision
        revisions = [await world.put("a", phase=str(index)) for index in range(4)]
        with pytest.raises(Expired, match=f"too old resource version: {start}"):
            world.cache.watch(start)
        with world.cache.watch(revisions[0]) as watcher:
            assert [revision for _, _, revision in await drain(watcher)] == revisions[1:]


async def test_the_window_is_bounded_by_bytes():
    async with running(MemoryStore(), window_bytes=10_000) as world:
        start = world.cache.revision
        for index in range(5):
            await world.put("a", phase=str(index) * 3000)
        with pytest.raises(Expired):
            world.cache.watch(start)
        world.cache.watch(world.cache.revision).close()


async def test_a_slow_watcher_is_cut_off():
    async with running(MemoryStore(), buffer=3) as world:
        with (
            world.cache.watch(world.cache.revision) as slow,
            world.cache.watch(world.cache.revision) as quick,
        ):
            for index in range(4):
                await world.put("a", phase=str(index))
                assert len(await drain(quick)) == 1
            with pytest.raises(Expired):
                await slow.batch()


async def test_a_closed_watcher_ends_its_reader(world):
    watcher = world.cache.watch(world.cache.revision)
    seen = []

    async def read():
        seen.extend([event.entry.name async for event in watcher])

    reader = asyncio.ensure_future(read())
    await world.put("a")
    await asyncio.sleep(0)
    watcher.close()
    watcher.close()
    await reader
    await world.put("b")
    assert seen == ["a"]


async def test_a_nudge_wakes_the_reader_once(world):
    with world.cache.watch(world.cache.revision) as watcher:
        waiting = asyncio.ensure_future(watcher.batch())
        await asyncio.sleep(0)
        watcher.nudge()
        assert await waiting == []
        revision = await world.put("a")
        assert await drain(watcher) == [("ADDED", "a", revision)]


async def test_waiting_for_a_batch_can_be_cancelled_without_loss(world):
    with world.cache.watch(world.cache.revision) as watcher:
        waiting = asyncio.ensure_future(watcher.batch())
        await asyncio.sleep(0)
        waiting.cancel()
        revision = await world.put("a")
        assert await drain(watcher) == [("ADDED", "a", revision)]


async def replay(watcher, seen):
    async for event in watcher:
        seen.append(event)


@pytest.mark.parametrize("adapter", ["memory", "sqlite"])
async def test_every_event_once_and_in_order(adapter, tmp_path):
    """Concurrent writers; watchers that start at any time end up with the same objects, in the same order."""
    store = MemoryStore() if adapter == "memory" else SqliteStore(tmp_path / "state.db")
    dice = random.Random(3)
    try:
        async with running(store) as world:
            start = world.cache.revision
            histories, watchers, readers = [], [], []

            def watch():
                watchers.append(world.cache.watch(start))
                histories.append([])
                readers.append(asyncio.ensure_future(replay(watchers[-1], histories[-1])))

            async def write(index):
                revision = 0
                for _ in range(20):
                    key, durability = f"{PODS}default/p{index}", dice.choice(list(Durability))
                    if revision and dice.random() < 0.3:
                        await store.delete(key, expected=revision, durability=durability)
                        revision = 0
                    else:
                        record = await store.put(
                            key, pod(f"p{index}"), expected=revision, durability=durability
                        )
                        revision = record.revision
                    if dice.random() < 0.1:
                        watch()

            watch()
            await asyncio.gather(*(write(index) for index in range(8)))
            await world.cache.wait_for(await store.revision())
            for _ in range(3):
                await asyncio.sleep(0)
            for watcher in watchers:
                watcher.close()
            await asyncio.gather(*readers)
            first = [(event.type, event.entry.name, event.entry.revision) for event in histories[0]]
            assert len(first) == 160
            assert [revision for _, _, revision in first] == sorted({revision for _, _, revision in first})
            for history in histories:
                assert [(event.type, event.entry.name, event.entry.revision) for event in history] == first
            alive = {}
            for kind, name, revision in first:
                assert (kind is EventType.ADDED) == (name not in alive)
                alive[name] = revision
                if kind is EventType.DELETED:
                    del alive[name]
            assert {entry.name: entry.revision for entry in world.cache.page().entries} == alive
    finally:
        await store.close()


# ---- when the store fails ----


class Gap:
    """A store whose watch can be broken off."""

    def __init__(self, store):
        self._store = store
        self.broken = None
        self.lists = 0

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def list(self, prefix):
        self.lists += 1
        return await self._store.list(prefix)

    async def watch(self, prefix, *, after):
        async for batch in self._store.watch(prefix, after=after):
            if self.broken is not None:
                error, self.broken = self.broken, None
                raise error
            yield batch


async def test_listing_again_ends_every_watch():
    """The cache's task is away for longer than the store remembers: nobody can tell what happened meanwhile."""
    store = Gap(MemoryStore(changes=2))
    async with running(store) as world:
        kept, gone, other = await world.put("kept"), await world.put("gone"), await world.put("other")
        before = world.cache.revision
        with world.cache.watch(before) as watcher, world.cache.watch(None, name="kept") as fresh:
            put, delete = store._store.put, store._store.delete
            # None of these gives the cache its turn.
            record = await put(f"{PODS}default/new", pod("new"), expected=0)
            await delete(f"{PODS}default/gone", expected=gone)
            last = await delete(f"{PODS}default/other", expected=other)
            await world.cache.wait_for(last.revision)
            assert store.lists == 2
            for each in (watcher, fresh):
                with pytest.raises(Expired):
                    await each.batch()
        assert [entry.name for entry in world.cache.page().entries] == ["kept", "new"]
        assert world.cache.get("default", "kept").revision == kept
        for revision in (before, record.revision, last.revision - 1):
            with pytest.raises(Expired):
                world.cache.watch(revision)
            with pytest.raises(Expired):
                world.cache.page(at=revision)
        with world.cache.watch(last.revision) as watcher:
            later = await world.put("new", phase="Running")
            assert await drain(watcher) == [("MODIFIED", "new", later)]


@pytest.mark.looptime
async def test_a_store_that_is_away_for_a_while():
    """The watch of the store goes on where it was: its clients do not notice."""
    store = Gap(MemoryStore())
    async with running(store) as world:
        first = await world.put("a")
        with world.cache.watch(first) as watcher:
            store.broken = StoreUnavailable("gone fishing")
            revision = await world.put("b")
            gone = await world.delete("a")
            assert store.lists == 1
            assert await drain(watcher) == [("ADDED", "b", revision), ("DELETED", "a", gone)]


class Client:
    """
    Lists, watches, breaks off and watches again from something it got; `told` is what it was told in one go.

    `since` is the revision it listed at.
    """

    def __init__(self, world):
        self.world, self.watcher, self.expired = world, None, 0
        self.list()

    def list(self):
        page = self.world.cache.page()
        self.since, self.told = page.revision, []
        self.watch(page.revision)

    def watch(self, revision):
        if self.watcher is not None:
            self.watcher.close()
        try:
            self.watcher = self.world.cache.watch(revision)
        except Expired:
            self.expired += 1
            self.list()

    def resume(self, dice):
        """Forget what came after some event, and watch on from there."""
        kept = dice.randint(0, len(self.told))
        del self.told[kept:]
        self.watch(self.told[-1][2] if self.told else self.since)

    async def read(self):
        try:
            self.told += await drain(self.watcher)
        except Expired:
            self.expired += 1
            self.list()


STEPS = st.lists(
    st.sampled_from(
        ["put", "put", "put", "delete", "delete", "turn", "read", "resume", "burst", "outage", "join"]
    ),
    max_size=60,
)


@pytest.mark.looptime
@given(STEPS, st.integers(0, 2**16), st.integers(2, 12))
async def test_a_client_is_told_every_event_once_or_that_it_missed_some(steps, seed, window):
    """Whatever the store forgets and whenever clients resume: no gap, no repetition, no disorder."""
    store, dice = Gap(MemoryStore(changes=8)), random.Random(seed)
    async with running(store, window=window) as world:
        truth, alive = [], {}

        async def put():
            name = dice.choice("abcde")
            record = await store.put(f"{PODS}default/{name}", pod(name), expected=alive.get(name, 0))
            truth.append(("MODIFIED" if name in alive else "ADDED", name, record.revision))
            alive[name] = record.revision

        async def delete():
            if alive:
                name = dice.choice(sorted(alive))
                record = await store.delete(f"{PODS}default/{name}", expected=alive.pop(name))
                truth.append(("DELETED", name, record.revision))

        async def settle():
            if truth:
                await world.cache.wait_for(truth[-1][2])

        clients = [Client(world)]
        for step in steps:
            match step:
                case "put":
                    await put()
                case "delete":
                    await delete()
                case "burst":
                    for _ in range(6):
                        await dice.choice((put, delete))()
                case "turn":
                    await settle()
                case "outage":
                    store.broken = dice.choice((StoreUnavailable("away"), Compacted(0)))
                case "join":
                    clients.append(Client(world))
                case "read":
                    await dice.choice(clients).read()
                case "resume":
                    dice.choice(clients).resume(dice)
        await settle()
        for client in clients:
            await client.read()
            await client.read()
            assert client.told == [event for event in truth if event[2] > client.since]
            client.watcher.close()
        assert {entry.name: entry.revision for entry in world.cache.page().entries} == alive


async def test_an_object_that_cannot_be_read_is_left_out(world, caplog):
    revision = await world.put("a")
    with world.cache.watch(revision) as watcher:
        broken = await world.store.put(f"{PODS}default/a", b"{", expected=revision)
        await world.cache.wait_for(broken.revision)
        assert world.cache.get("default", "a") is None
        gone = await world.store.delete(f"{PODS}default/a", expected=broken.revision)
        await world.cache.wait_for(gone.revision)
        again = await world.put("a")
        assert await drain(watcher) == [("DELETED", "a", broken.revision), ("ADDED", "a", again)]
    assert "not readable" in caplog.text
