"""
The file's layout: one row per key, with its current value, and how far revisions are reserved.

Small pages and no history keep the bytes written per put low, for flash wears out by bytes; a table
with rowids keeps more of a value on its leaf page and writes a third less than one without.
`sqlite3 <file> 'select key, value from kv'` shows everything.
"""

import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from edgekube.store.base import Record, StoreUnavailable

APPLICATION_ID = 0x656B7562
VERSION = 1
PAGE_SIZE = 1024
AUTOCHECKPOINT = 4000
"""Pages in the write-ahead log before it is copied into the file."""
CACHE_KIB = 2048
BUSY = 5.0
"""Seconds to wait for somebody who inspects the file."""

SCHEMA = """
CREATE TABLE kv (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, created INTEGER NOT NULL, value BLOB NOT NULL
);
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('reserved', 0);
"""
GET = "SELECT key, value, revision, created FROM kv WHERE key = ?"
PUT = (
    "INSERT INTO kv (key, value, revision, created) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision, created = excluded.created"
)
DELETE = "DELETE FROM kv WHERE key = ?"
RANGE = "FROM kv WHERE key >= ? AND key < ?"
LIST = f"SELECT key, value, revision, created {RANGE} ORDER BY key LIMIT ?"
COUNT = f"SELECT count(*) {RANGE}"
LAST = "\U0010ffff"


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, making it if need be. Raises StoreUnavailable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Secrets are in it; SQLite gives its other files the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return _prepared(path)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"{path}: {error}") from error


def _prepared(path: Path) -> sqlite3.Connection:
    connection = plain(path)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        _log_ahead(connection, path)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {AUTOCHECKPOINT}")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        if pragma(connection, "application_id") == 0 and pragma(connection, "schema_version") == 0:
            create(connection)
        check_layout(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _log_ahead(connection: sqlite3.Connection, path: Path) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreUnavailable(
            f"{path}: this file system carries no write-ahead log (is it a network share?)"
        )


def plain(path: Path) -> sqlite3.Connection:
    """Open a connection with explicit transactions, for one thread at a time."""
    return sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)


def create(connection: sqlite3.Connection) -> None:
    """Make the tables."""
    connection.executescript(
        f"BEGIN IMMEDIATE; {SCHEMA}"
        f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
    )


def check_layout(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StoreUnavailable if the file is not a store that this program knows."""
    if pragma(connection, "application_id") != APPLICATION_ID:
        raise StoreUnavailable(f"{path} is not a store of edgekube")
    if pragma(connection, "user_version") != VERSION:
        raise StoreUnavailable(f"{path} was written by another version of edgekube")


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Return a number that SQLite keeps of the file."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def read(connection: sqlite3.Connection, key: str) -> Record | None:
    """Return a key's row."""
    row = connection.execute(GET, (key,)).fetchone()
    return Record(*row) if row else None


def read_range(connection: sqlite3.Connection, prefix: str, *, after: str, limit: int) -> list[Record]:
    """Return the rows under `prefix` that come after the key `after`, at most `limit` (0: all)."""
    return [Record(*row) for row in connection.execute(LIST, (*_span(prefix, after), limit or -1))]


def count_range(connection: sqlite3.Connection, prefix: str, *, after: str) -> int:
    """Return how many rows under `prefix` come after the key `after`."""
    return int(connection.execute(COUNT, _span(prefix, after)).fetchone()[0])


def _span(prefix: str, after: str) -> tuple[str, str]:
    """Return the first key that may come and one after the last (of assigned characters)."""
    return (f"{after}\0" if after >= prefix and after else prefix), prefix + LAST


def write(connection: sqlite3.Connection, rows: Mapping[str, Record | None]) -> None:
    """Store rows, within the caller's transaction; None deletes."""
    puts = [(key, row.value, row.revision, row.created) for key, row in rows.items() if row is not None]
    gone = [(key,) for key, row in rows.items() if row is None]
    if puts:
        connection.executemany(PUT, puts)
    if gone:
        connection.executemany(DELETE, gone)


def reserved(connection: sqlite3.Connection) -> int:
    """Return the revision up to which this file's users may have given revisions away."""
    return int(connection.execute("SELECT value FROM meta WHERE name = 'reserved'").fetchone()[0])


def reserve(connection: sqlite3.Connection, revision: int) -> None:
    """Allow revisions up to `revision`, within the caller's transaction."""
    connection.execute("UPDATE meta SET value = ? WHERE name = 'reserved'", (revision,))
