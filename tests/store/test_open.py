"""Choosing a store by URL."""

import pytest

from edgekube.store.base import StoreError
from edgekube.store.memory import MemoryStore
from edgekube.store.open import open_store, restore
from edgekube.store.sqlite import SqliteStore


async def test_schemes(tmp_path):
    assert isinstance(open_store("memory://"), MemoryStore)
    store = open_store(f"sqlite://{tmp_path}/a%20b.db")
    assert isinstance(store, SqliteStore)
    await store.put("/k", b"1", expected=0)
    await store.snapshot(tmp_path / "backup.db")
    await store.close()
    assert (tmp_path / "a b.db").exists()
    restore(f"sqlite://{tmp_path}/c.db", tmp_path / "backup.db")
    assert (tmp_path / "c.db").exists()


@pytest.mark.parametrize("url", ["floppy:///a", "", "/var/lib/state.db"])
def test_unknown_schemes(url):
    with pytest.raises(StoreError, match="memory, sqlite"):
        open_store(url)


def test_memory_has_nothing_to_restore(tmp_path):
    with pytest.raises(StoreError):
        restore("memory://", tmp_path / "backup.db")
