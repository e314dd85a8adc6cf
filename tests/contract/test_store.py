"""What every store promises."""

import asyncio
import tempfile
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from edgekube.api.resource import Durability
from edgekube.store.base import Compacted, FutureRevision, KeyExists, Mismatch, Record, StoreUnavailable
from edgekube.store.memory import MemoryStore
from edgekube.store.sqlite import SqliteStore

HISTORY = 20


def memory(_folder):
    return MemoryStore(changes=HISTORY)


def sqlite(folder):
    return SqliteStore(folder / "state.db", changes=HISTORY)


ADAPTERS = {"memory": memory, "sqlite": sqlite}


@pytest.fixture(params=ADAPTERS)
async def store(request, tmp_path):
    store = ADAPTERS[request.param](tmp_path)
    yield store
    await store.close()


@pytest.fixture(params=Durability)
def durability(request):
    return request.param


async def take(iterator, count):
    """Read batches until `count` changes are there."""
    changes = []
    while len(changes) < count:
        changes += await anext(iterator)
    return changes


async def test_put_then_get(store, durability):
    before = await store.revision()
    record = await store.put("/a/x", b"1", expected=0, durability=durability)
    assert record == Record("/a/x", b"1", record.revision, record.revision)
    assert record.revision > before
    assert await store.get("/a/x") == record
    assert await store.revision() == record.revision


async def test_get_of_a_missing_key(store):
    assert await store.get("/nothing") is None


async def test_update_keeps_created(store, durability):
    first = await store.put("/a/x", b"1", expected=0, durability=durability)
    second = await store.put("/a/x", b"2", expected=first.revision, durability=durability)
    assert second.created == first.created
    assert second.revision > first.revision
    assert (await store.get("/a/x")).value == b"2"


async def test_create_of_an_existing_key(store, durability):
    first = await store.put("/a/x", b"1", expected=0, durability=durability)
    with pytest.raises(KeyExists) as caught:
        await store.put("/a/x", b"2", expected=0, durability=durability)
    assert caught.value.current == first
    assert await store.revision() == first.revision


async def test_update_with_a_stale_revision(store, durability):
    first = await store.put("/a/x", b"1", expected=0, durability=durability)
    second = await store.put("/a/x", b"2", expected=first.revision, durability=durability)
    with pytest.raises(Mismatch) as caught:
        await store.put("/a/x", b"3", expected=first.revision, durability=durability)
    assert caught.value.current == second


async def test_update_of_a_missing_key(store):
    with pytest.raises(Mismatch) as caught:
        await store.put("/a/x", b"1", expected=7)
    assert caught.value.current is None


async def test_delete(store, durability):
    first = await store.put("/a/x", b"1", expected=0, durability=durability)
    with pytest.raises(Mismatch):
        await store.delete("/a/x", expected=first.revision + 1, durability=durability)
    gone = await store.delete("/a/x", expected=first.revision, durability=durability)
    assert (gone.value, gone.created) == (b"1", first.created)
    assert gone.revision > first.revision
    assert await store.get("/a/x") is None
    with pytest.raises(Mismatch) as caught:
        await store.delete("/a/x", expected=gone.revision, durability=durability)
    assert caught.value.current is None


async def test_create_again_after_delete(store, durability):
    first = await store.put("/a/x", b"1", expected=0, durability=durability)
    await store.delete("/a/x", expected=first.revision, durability=durability)
    again = await store.put("/a/x", b"2", expected=0, durability=durability)
    assert again.created == again.revision


@pytest.mark.parametrize("first", Durability)
@pytest.mark.parametrize("second", Durability)
@pytest.mark.parametrize("third", Durability)
async def test_a_key_may_change_its_class(store, first, second, third):
    one = await store.put("/a/x", b"1", expected=0, durability=first)
    two = await store.put("/a/x", b"2", expected=one.revision, durability=second)
    assert await store.get("/a/x") == two
    assert (await store.list("/a/")).records == [two]
    gone = await store.delete("/a/x", expected=two.revision, durability=third)
    assert gone.value == b"2"
    assert await store.get("/a/x") is None
    assert not (await store.list("/a/")).records


async def test_list_is_in_key_order_and_keeps_to_the_prefix(store):
    mixed = {"/a/c": Durability.DURABLE, "/a/a": Durability.VOLATILE, "/a/b": Durability.SOFT}
    for key, durability in {**mixed, "/b/a": Durability.DURABLE, "/a": Durability.DURABLE}.items():
        await store.put(key, key.encode(), expected=0, durability=durability)
    page = await store.list("/a/")
    assert [record.key for record in page.records] == ["/a/a", "/a/b", "/a/c"]
    assert page.revision == await store.revision()
    assert (page.more, page.remaining) == (False, 0)


async def test_list_in_pages(store):
    for index in range(7):
        durability = Durability.VOLATILE if index % 3 else Durability.DURABLE
        await store.put(f"/a/{index}", b"", expected=0, durability=durability)
    await store.put("/b/0", b"", expected=0)
    first = await store.list("/a/", limit=3)
    assert [record.key for record in first.records] == ["/a/0", "/a/1", "/a/2"]
    assert (first.more, first.remaining) == (True, 4)
    second = await store.list("/a/", limit=4, after="/a/2")
    assert [record.key for record in second.records] == ["/a/3", "/a/4", "/a/5", "/a/6"]
    assert not second.more
    assert not (await store.list("/a/", after="/a/6")).records


async def test_list_at_an_earlier_revision(store):
    one = await store.put("/a/x", b"1", expected=0)
    kept = await store.put("/a/k", b"k", expected=0, durability=Durability.VOLATILE)
    then = await store.revision()
    two = await store.put("/a/x", b"2", expected=one.revision)
    await store.put("/a/y", b"y", expected=0)
    await store.delete("/a/k", expected=kept.revision)
    page = await store.list("/a/", revision=then)
    assert page.records == [kept, one]
    assert page.revision == then
    paged = await store.list("/a/", revision=then, limit=1)
    assert paged.records == [kept]
    assert (paged.more, paged.remaining) == (True, 1)
    assert (await store.list("/a/", revision=two.revision, after="/a/k")).records == [two]


async def test_list_at_a_revision_that_is_too_old_or_yet_to_come(store):
    record = await store.put("/a/x", b"0", expected=0)
    then = record.revision
    for _ in range(HISTORY + 1):
        record = await store.put("/a/x", b"1", expected=record.revision)
    with pytest.raises(Compacted):
        await store.list("/a/", revision=then)
    with pytest.raises(FutureRevision):
        await store.list("/a/", revision=record.revision + 1)


async def test_watch_from_the_past_goes_on_with_the_present(store, durability):
    start = await store.revision()
    one = await store.put("/a/x", b"1", expected=0, durability=durability)
    await store.put("/b/x", b"other", expected=0, durability=durability)
    async with aclosing(store.watch("/a/", after=start)) as changes:
        (first,) = await take(changes, 1)
        two = await store.put("/a/x", b"2", expected=one.revision, durability=durability)
        gone = await store.delete("/a/x", expected=two.revision, durability=durability)
        second, third = await take(changes, 2)
    assert (first.record, first.previous, first.deleted) == (one, None, False)
    assert (second.record, second.previous, second.deleted) == (two, one, False)
    assert (third.record, third.previous, third.deleted) == (gone, two, True)
    assert third.record.value == b"2"


async def test_watch_starts_after_the_revision_given(store):
    one = await store.put("/a/x", b"1", expected=0)
    two = await store.put("/a/x", b"2", expected=one.revision)
    async with aclosing(store.watch("/a/", after=one.revision)) as changes:
        assert [change.record for change in await take(changes, 1)] == [two]


async def test_watch_tells_before_the_writer_is_answered(store):
    async with aclosing(store.watch("/a/", after=await store.revision())) as changes:
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        record = await store.put("/a/x", b"1", expected=0)
        # Nothing more has to happen for the watcher than its turn.
        for _ in range(3):
            await asyncio.sleep(0)
        assert waiting.done()
        assert [change.record for change in waiting.result()] == [record]


async def test_watch_from_before_the_history(store):
    start = await store.revision()
    record = await store.put("/a/x", b"0", expected=0)
    for _ in range(HISTORY):
        record = await store.put("/a/x", b"1", expected=record.revision)
    with pytest.raises(Compacted) as caught:
        await anext(store.watch("/a/", after=start))
    async with aclosing(store.watch("/a/", after=caught.value.oldest)) as changes:
        assert len(await take(changes, HISTORY)) == HISTORY


async def test_a_slow_watcher_is_told_to_list_again(store):
    async with aclosing(store.watch("/a/", after=await store.revision())) as changes:
        record = await store.put("/a/x", b"0", expected=0)
        assert len(await take(changes, 1)) == 1
        for _ in range(HISTORY + 1):
            record = await store.put("/a/x", b"1", expected=record.revision)
        with pytest.raises(Compacted):
            await anext(changes)


async def test_writes_elsewhere_do_not_tire_a_watcher(store):
    async with aclosing(store.watch("/a/", after=await store.revision())) as changes:
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        other = await store.put("/b/x", b"0", expected=0)
        for _ in range(2 * HISTORY):
            other = await store.put("/b/x", b"1", expected=other.revision)
        mine = await store.put("/a/x", b"1", expected=0)
        assert [change.record for change in await waiting] == [mine]


async def test_watch_can_be_cancelled(store):
    waiting = asyncio.ensure_future(anext(store.watch("/a/", after=await store.revision())))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await store.put("/a/x", b"1", expected=0)


async def test_concurrent_writers_are_told_in_order(store):
    """Every change is seen once, in order of revision, and answers agree with the events."""
    seen = []

    async def watch():
        async for batch in store.watch("/a/", after=1):
            seen.extend(batch)

    async def write(index):
        record = None
        for step in range(5):
            durability = list(Durability)[(index + step) % 3]
            expected = record.revision if record else 0
            record = await store.put(
                f"/a/{index % 4}/{index}", b"%d" % step, expected=expected, durability=durability
            )
            answers.append(record)

    answers = []
    watcher = asyncio.ensure_future(watch())
    await asyncio.sleep(0)
    await asyncio.gather(*(write(index) for index in range(3)))
    while len(seen) < 15:
        await asyncio.sleep(0)
    watcher.cancel()
    revisions = [change.record.revision for change in seen]
    assert revisions == sorted(set(revisions))
    assert sorted(answers, key=lambda record: record.revision) == [change.record for change in seen]


async def test_one_of_many_creators_wins(store, durability):
    results = await asyncio.gather(
        *(store.put("/a/x", b"%d" % index, expected=0, durability=durability) for index in range(8)),
        return_exceptions=True,
    )
    winners = [result for result in results if isinstance(result, Record)]
    assert len(winners) == 1
    assert all(
        isinstance(result, KeyExists) and result.current == winners[0]
        for result in results
        if result not in winners
    )
    assert await store.get("/a/x") == winners[0]


async def test_a_cancelled_writer_does_no_harm(store):
    writer = asyncio.ensure_future(store.put("/a/x", b"1", expected=0))
    await asyncio.sleep(0)
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    record = await store.put("/a/y", b"2", expected=0)
    assert await store.get("/a/y") == record


async def test_a_snapshot_opens_as_a_store(store, tmp_path):
    one = await store.put("/a/x", b"1", expected=0)
    path = tmp_path / "backup.db"
    revision = await store.snapshot(path)
    assert revision == one.revision
    await store.put("/a/y", b"2", expected=0)
    copy = SqliteStore(path)
    try:
        assert [record.value for record in (await copy.list("/")).records] == [b"1"]
        assert await copy.revision() > revision
    finally:
        await copy.close()


async def test_a_snapshot_replaces_an_older_one(store, tmp_path):
    one = await store.put("/a/x", b"1", expected=0)
    await store.snapshot(tmp_path / "backup.db")
    await store.delete("/a/x", expected=one.revision)
    await store.snapshot(tmp_path / "backup.db")
    copy = SqliteStore(tmp_path / "backup.db")
    try:
        assert not (await copy.list("/")).records
    finally:
        await copy.close()


async def test_a_snapshot_that_cannot_be_written(store, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable):
        await store.snapshot(tmp_path / "file" / "backup.db")
    await store.put("/a/x", b"1", expected=0)


async def test_a_closed_store_says_so(store):
    watch = store.watch("/", after=await store.revision())
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    for call in (store.get("/x"), store.list("/"), store.put("/x", b"", expected=0), store.revision()):
        with pytest.raises(StoreUnavailable):
            await call
    with pytest.raises(StopAsyncIteration):
        await waiting


KEYS = st.sampled_from(
    ["/a/", "/a/a", "/a/b", "/a/b/c", "/b/", "/b/a", "/a-/x", "/a", "/é/☃", "/a/\U0001f600"]
)
PREFIXES = st.sampled_from(["", "/", "/a", "/a/", "/b/", "/a/b", "/é", "/zzz"])


class StoreMachine(RuleBasedStateMachine):
    """A store against a dict, a revision counter and a log."""

    open_store = staticmethod(memory)
    keys = Bundle("keys")

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()

    @initialize()
    def open(self):
        self.store = self.runner.run(self.opened())
        self.model = {}
        self.states = {}
        self.log = []
        self.revision = self.runner.run(self.store.revision())
        self.states[self.revision] = {}
        self.start = self.revision

    async def opened(self):
        return self.open_store(Path(self.folder.name))

    def accept(self, record):
        assert record.revision > self.revision
        self.revision = record.revision

    @rule(
        key=KEYS, value=st.binary(max_size=3000), stale=st.booleans(), durability=st.sampled_from(Durability)
    )
    def put(self, key, value, stale, durability):
        current = self.model.get(key)
        expected = (current.revision if current else 0) + stale
        if stale:
            with pytest.raises(Mismatch) as caught:
                self.runner.run(self.store.put(key, value, expected=expected, durability=durability))
            assert caught.value.current == current
            return
        record = self.runner.run(self.store.put(key, value, expected=expected, durability=durability))
        self.accept(record)
        assert record == Record(key, value, record.revision, current.created if current else record.revision)
        self.model[key] = record
        self.note((record, current, False), durability)

    @rule(key=KEYS, durability=st.sampled_from(Durability))
    def delete(self, key, durability):
        current = self.model.get(key)
        if current is None:
            with pytest.raises(Mismatch):
                self.runner.run(self.store.delete(key, expected=self.revision, durability=durability))
            return
        record = self.runner.run(self.store.delete(key, expected=current.revision, durability=durability))
        self.accept(record)
        del self.model[key]
        self.note((record, current, True), durability)

    def note(self, change, _durability):
        self.states[self.revision] = dict(self.model)
        self.log.append(change)

    @rule(key=KEYS)
    def get(self, key):
        assert self.runner.run(self.store.get(key)) == self.model.get(key)

    @rule(
        prefix=PREFIXES,
        limit=st.integers(0, 4),
        after=st.one_of(st.just(""), KEYS),
        back=st.integers(0, HISTORY + 2),
    )
    def list(self, prefix, limit, after, back):
        then = sorted(self.states)[-1 - min(back, len(self.states) - 1)]
        asked = 0 if then == self.revision else then
        try:
            page = self.runner.run(self.store.list(prefix, limit=limit, after=after, revision=asked))
        except Compacted:
            assert back >= HISTORY
            return
        state = self.states[then]
        wanted = [state[key] for key in sorted(state) if key.startswith(prefix) and key > after]
        cut = wanted[:limit] if limit else wanted
        assert list(page.records) == cut
        assert (page.revision, page.more) == (then, len(cut) < len(wanted))
        assert page.remaining == len(wanted) - len(cut)

    @rule(prefix=PREFIXES, back=st.integers(0, HISTORY))
    def watch(self, prefix, back):
        floor = self.log[-1 - back][0].revision if back < len(self.log) else self.start
        wanted = [
            change for change in self.log if change[0].revision > floor and change[0].key.startswith(prefix)
        ]
        seen = self.runner.run(self.collect(prefix, floor, len(wanted)))
        assert [(change.record, change.previous, change.deleted) for change in seen] == wanted

    async def collect(self, prefix, after, count):
        if not count:
            return []
        async with aclosing(self.store.watch(prefix, after=after)) as changes:
            return await take(changes, count)

    @invariant()
    def revision_is_the_last_change(self):
        if hasattr(self, "store"):
            assert self.runner.run(self.store.revision()) == self.revision

    def teardown(self):
        if hasattr(self, "store"):
            self.runner.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()


class SqliteMachine(StoreMachine):
    """The same, with restarts: volatile values vanish, all others stay."""

    open_store = staticmethod(sqlite)

    def __init__(self):
        super().__init__()
        self.stored = {}

    def note(self, change, durability):
        super().note(change, durability)
        record, _, deleted = change
        if deleted:
            self.stored.pop(record.key, None)
        elif durability is not Durability.VOLATILE:
            self.stored[record.key] = record

    @rule()
    def restart(self):
        self.runner.run(self.store.close())
        before, wrote = self.revision, bool(self.log)
        self.store = self.runner.run(self.opened())
        self.revision = self.start = self.runner.run(self.store.revision())
        assert self.revision > before if wrote else self.revision == before
        records = self.runner.run(self.store.list("")).records
        assert list(records) == [self.stored[key] for key in sorted(self.stored)]
        self.model = dict(self.stored)
        self.states, self.log = {self.revision: dict(self.model)}, []
        with pytest.raises(Compacted):
            self.runner.run(self.collect("", self.revision - 1, 1))


CHECKS = settings(
    max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestMemoryStateful = StoreMachine.TestCase
TestMemoryStateful.settings = CHECKS
TestSqliteStateful = SqliteMachine.TestCase
TestSqliteStateful.settings = settings(CHECKS, max_examples=15)
