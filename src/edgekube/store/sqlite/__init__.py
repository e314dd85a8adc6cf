"""The embedded store: SQLite holds the current state, memory the recent past."""

from edgekube.store.sqlite.backup import restore
from edgekube.store.sqlite.store import SqliteStore, open_store

__all__ = ["SqliteStore", "open_store", "restore"]
