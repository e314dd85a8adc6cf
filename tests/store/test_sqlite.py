"""What the embedded store promises beyond the contract: few writes, and nothing lost."""

import asyncio
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from edgekube.api.resource import Durability
from edgekube.store.base import Compacted, StoreError, StoreUnavailable
from edgekube.store.sqlite import SqliteStore, open_store, restore
from edgekube.store.sqlite.backup import BUMP
from edgekube.store.sqlite.writer import BLOCK

NEVER = 3600.0
SOFT, VOLATILE = Durability.SOFT, Durability.VOLATILE


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


@pytest.fixture
async def store(path):
    store = SqliteStore(path, flush=NEVER)
    yield store
    await store.close()


def files(path):
    """What a write would change."""
    found = {file.name: file.stat() for file in path.parent.iterdir()}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}


async def test_concurrent_writers_share_commits(store):
    async def write(index):
        revision = 0
        for step in range(10):
            record = await store.put(f"/k/{index}", b"%d" % step, expected=revision)
            revision = record.revision

    await asyncio.gather(*(write(index) for index in range(64)))
    assert store.counters.writes == 640
    assert store.counters.commits <= 160
    assert store.counters.synced == store.counters.commits


async def test_an_idle_store_writes_nothing(store, path):
    record = await store.put("/k", b"1", expected=0)
    commits, before = store.counters.commits, files(path)
    for _ in range(3):
        await store.get("/k")
        await store.list("/")
        await store.revision()
        with pytest.raises(StoreError):
            await store.put("/k", b"2", expected=record.revision + 1)
        with pytest.raises(StoreError):
            await store.delete("/none", expected=1)
    assert store.counters.commits == commits
    assert files(path) == before


async def test_opening_and_reading_writes_no_row(path):
    for _ in range(3):
        store = SqliteStore(path)
        await store.list("/")
        assert store.counters.commits == 0
        await store.close()


async def test_soft_writes_are_not_synced_one_by_one(store):
    await store.put("/k", b"0", expected=0)
    synced = store.counters.synced
    for index in range(5):
        await store.put(f"/soft/{index}", b"1", expected=0, durability=SOFT)
    assert store.counters.synced == synced
    assert store.counters.flushes == 0


async def test_soft_writes_are_synced_by_the_clock_once(path):
    store = SqliteStore(path, flush=0.01)
    try:
        await store.put("/k", b"0", expected=0)
        await store.put("/soft", b"1", expected=0, durability=SOFT)
        while not store.counters.flushes:
            await asyncio.sleep(0.005)
        commits, before = store.counters.commits, files(path)
        await asyncio.sleep(0.05)
        assert store.counters.flushes == 1
        assert (store.counters.commits, files(path)) == (commits, before)
    finally:
        await store.close()


async def test_a_durable_write_syncs_the_soft_ones_before_it(store):
    await store.put("/k", b"0", expected=0)
    await store.put("/soft", b"1", expected=0, durability=SOFT)
    assert store._writer._unsynced_since
    await store.put("/durable", b"1", expected=0)
    assert not store._writer._unsynced_since


async def test_volatile_writes_cost_one_reservation(store):
    revision = 0
    for step in range(100):
        record = await store.put("/lease", b"%d" % step, expected=revision, durability=VOLATILE)
        revision = record.revision
    await store.delete("/lease", expected=revision, durability=VOLATILE)
    assert store.counters.commits == 1


async def test_deleting_what_is_only_in_memory_costs_nothing(store):
    record = await store.put("/lease", b"1", expected=0, durability=VOLATILE)
    commits = store.counters.commits
    await store.delete("/lease", expected=record.revision)
    assert store.counters.commits == commits


async def test_after_a_restart(path):
    store = SqliteStore(path)
    await store.put("/durable", b"1", expected=0)
    await store.put("/soft", b"2", expected=0, durability=SOFT)
    last = await store.put("/volatile", b"3", expected=0, durability=VOLATILE)
    await store.close()
    store = SqliteStore(path)
    try:
        assert [record.key for record in (await store.list("/")).records] == ["/durable", "/soft"]
        assert await store.revision() > last.revision
        with pytest.raises(Compacted):
            await anext(store.watch("/", after=last.revision))
    finally:
        await store.close()


async def test_reservations_stay_ahead(path, monkeypatch):
    monkeypatch.setattr("edgekube.store.sqlite.writer.BLOCK", 10)
    store = SqliteStore(path)
    revision = 0
    for step in range(35):
        record = await store.put("/k", b"%d" % step, expected=revision, durability=VOLATILE)
        revision = record.revision
        with sqlite3.connect(path) as other:
            assert other.execute("SELECT value FROM meta").fetchone()[0] >= revision
        other.close()
    assert 3 <= store.counters.commits <= 5
    await store.close()


async def test_a_full_disk_is_told_and_survived(store):
    record = await store.put("/k", b"1", expected=0)
    lease = await store.put("/lease", b"1", expected=0, durability=VOLATILE)
    connection = store._writer.connection
    await store._between(lambda _: connection.execute("PRAGMA max_page_count = 1"))
    results = await asyncio.gather(
        store.put("/k", b"x" * 100_000, expected=record.revision),
        store.put("/lease", b"2", expected=lease.revision, durability=VOLATILE),
        store.put("/new", b"x" * 100_000, expected=0, durability=SOFT),
        return_exceptions=True,
    )
    assert isinstance(results[0], StoreUnavailable)
    assert isinstance(results[0].__cause__, sqlite3.Error)
    assert results[1].value == b"2"
    assert isinstance(results[2], StoreUnavailable)
    assert await store.get("/k") == record
    await store._between(lambda _: connection.execute("PRAGMA max_page_count = 1000000"))
    again = await store.put("/k", b"y" * 100_000, expected=record.revision)
    assert again.revision > results[1].revision
    assert await store.get("/new") is None


async def test_an_io_error_is_told_and_survived(store, path):
    record = await store.put("/k", b"1", expected=0)
    wal = path.with_name("state.db-wal")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size + 2000, limits[1]))
    try:
        with pytest.raises(StoreUnavailable):
            await store.put("/k", b"x" * 100_000, expected=record.revision)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert await store.get("/k") == record
    await store.put("/k", b"x" * 100_000, expected=record.revision)
    assert (await store.get("/k")).value == b"x" * 100_000


async def test_a_second_process_is_refused(store, path):
    with pytest.raises(StoreUnavailable, match="in use"):
        SqliteStore(path)
    await store.put("/k", b"1", expected=0)


def make_text(path):
    path.write_text("not a database at all, but long enough to have a header that SQLite may look at")


def make_foreign(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.close()


async def make_newer(path):
    store = SqliteStore(path)
    await store.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize(
    ("make", "says"),
    [(make_text, "not a database"), (make_foreign, "not a store"), (make_newer, "another version")],
)
async def test_files_that_are_no_store(path, make, says):
    made = make(path)
    if made is not None:
        await made
    for _ in range(2):  # the lock is let go
        with pytest.raises(StoreUnavailable, match=says):
            SqliteStore(path)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite://host/path"])
def test_urls_without_a_path(url):
    with pytest.raises(StoreUnavailable):
        open_store(url)


async def test_secrets_are_readable_by_the_owner_only(store, path):
    await store.put("/secret", b"1", expected=0)
    await store.snapshot(path.parent / "backup.db")
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


async def test_restore(store, path, tmp_path):
    record = await store.put("/k", b"1", expected=0)
    revision = await store.snapshot(tmp_path / "backup.db")
    later = await store.put("/k", b"2", expected=record.revision)
    target = tmp_path / "elsewhere" / "new.db"
    restore(f"sqlite://{target}", tmp_path / "backup.db")
    copy = SqliteStore(target)
    try:
        assert await copy.get("/k") == record
        assert await copy.revision() > max(later.revision, revision + BUMP - 1)
        with pytest.raises(Compacted):
            await anext(copy.watch("/", after=later.revision))
    finally:
        await copy.close()
    with pytest.raises(StoreError, match="exists"):
        restore(f"sqlite://{target}", tmp_path / "backup.db")
    with pytest.raises(StoreUnavailable, match="in use"):
        restore(f"sqlite://{path}", tmp_path / "backup.db")


async def test_restore_of_what_is_no_backup(tmp_path):
    target = f"sqlite://{tmp_path / 'new.db'}"
    with pytest.raises(StoreError, match="no such file"):
        restore(target, tmp_path / "none")
    make_text(tmp_path / "text")
    with pytest.raises(StoreUnavailable, match="not a database"):
        restore(target, tmp_path / "text")
    make_foreign(tmp_path / "foreign")
    with pytest.raises(StoreUnavailable, match="not a store"):
        restore(target, tmp_path / "foreign")
    assert not (tmp_path / "new.db").exists()


async def test_snapshot_while_writing(store, tmp_path):
    """A backup is the state at its revision: all that was there, and nothing of what came later."""
    revisions = {}

    async def write(index):
        for step in range(20):
            record = await store.put(f"/k/{index}/{step}", random.randbytes(2000), expected=0)
            revisions[record.key] = record.revision

    writers = [asyncio.ensure_future(write(index)) for index in range(4)]
    while len(revisions) < 20:
        await asyncio.sleep(0)
    revision = await store.snapshot(tmp_path / "backup.db")
    await asyncio.gather(*writers)
    copy = SqliteStore(tmp_path / "backup.db")
    try:
        found = {record.key: record.revision for record in (await copy.list("/")).records}
    finally:
        await copy.close()
    assert found == {key: value for key, value in revisions.items() if value <= revision}
    assert len(found) >= 20


async def test_a_torn_log_leaves_a_state_that_was(store, path, tmp_path):
    """A power cut may lose the unsynced end of the log, but never something in the middle."""
    expected = []
    for step in range(12):
        before = expected[-4].revision if step >= 4 else 0
        durability = SOFT if step >= 4 else Durability.DURABLE
        value = random.randbytes(1500)
        expected.append(await store.put(f"/k/{step % 4}", value, expected=before, durability=durability))
    states = [{record.key: record for record in expected[:count]} for count in range(len(expected) + 1)]
    wal = path.with_name("state.db-wal").read_bytes()
    seen = set()
    for number, length in enumerate(range(0, len(wal) + 1, 1700)):
        torn = tmp_path / f"torn{number}.db"
        shutil.copy(path, torn)
        torn.with_name(torn.name + "-wal").write_bytes(wal[:length])
        try:
            copy = SqliteStore(torn)
        except StoreUnavailable:
            assert length < 20_000  # cut within the making of the tables
            continue
        found = {record.key: record for record in (await copy.list("/")).records}
        await copy.close()
        assert found in states
        seen.add(states.index(found))
    assert len(seen) > 3


WRITER = Path(__file__).with_name("writer.py")


def killed_run(path, lines):
    """Let a process write until it has acknowledged `lines` writes, kill it, and return what it acknowledged."""
    with subprocess.Popen([sys.executable, WRITER, path], stdout=subprocess.PIPE) as child:
        heard = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        heard += child.stdout.readlines()
    words = [line.decode().split() for line in heard if line.endswith(b"\n")]
    return [(key, int(revision), int(step)) for key, revision, step in words]


async def test_kill_loses_nothing_acknowledged(path):
    dice = random.Random(7)
    revisions = set()
    for _ in range(4):
        acknowledged = killed_run(path, dice.randrange(1, 400))
        assert acknowledged
        fresh = {revision for _, revision, _ in acknowledged}
        assert len(fresh) == len(acknowledged)
        assert min(fresh) > max(revisions, default=0)
        revisions |= fresh
        latest = {
            key: (revision, step) for key, revision, step in sorted(acknowledged, key=lambda ack: ack[1])
        }
        store = SqliteStore(path)
        try:
            for key, (revision, step) in latest.items():
                record = await store.get(key)
                if key.startswith("/volatile/"):
                    assert record is None
                else:
                    # One more write may have been on its way.
                    assert (record.revision, int(record.value)) == (revision, step) or int(
                        record.value
                    ) == step + 1
            assert await store.revision() > max(revisions)
            assert await store.revision() <= max(revisions) + 2 * BLOCK
        finally:
            await store.close()
