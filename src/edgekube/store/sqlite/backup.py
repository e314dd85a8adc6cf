"""Copies of the store: taken while it runs, put back while it does not."""

import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path

from edgekube.store.base import Record, StoreError, StoreUnavailable
from edgekube.store.sqlite import rows
from edgekube.store.sqlite.place import lock, path_of

BUMP = 1_000_000_000
"""
How far revisions jump when a backup is put back: what was given away after the backup was taken must
not happen again (etcdutl's `--bump-revision` recommends the same).
"""


def copy_to(source: sqlite3.Connection, path: Path) -> None:
    """Write what `source` sees to `path`, all or nothing; closes `source`. Raises StoreUnavailable."""
    with closing(source):
        _produce(path, source.backup)


def write_new(path: Path, records: Iterable[Record], revision: int) -> None:
    """Write `records`, as of `revision`, to `path`, all or nothing. Raises StoreUnavailable."""

    def fill(connection: sqlite3.Connection) -> None:
        rows.create(connection)
        connection.execute("BEGIN")
        rows.write(connection, {record.key: record for record in records})
        rows.reserve(connection, revision)
        connection.execute("COMMIT")

    _produce(path, fill)


def restore(url: str, path: Path) -> None:
    """
    Make the store that `url` names out of the backup at `path`.

    The store must not exist: nothing is overwritten. Raises StoreError.
    """
    target = path_of(url)
    handle = lock(target)
    try:
        if target.exists():
            raise StoreError(f"{target} exists; move it away first")
        for leftover in ("-wal", "-shm"):
            target.with_name(target.name + leftover).unlink(missing_ok=True)
        with closing(_opened(path)) as source:
            _produce(target, lambda connection: _bumped(source, connection))
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"{path}: {error}") from error
    finally:
        os.close(handle)


def _bumped(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    source.backup(target)
    rows.reserve(target, rows.reserved(target) + BUMP)


def _opened(path: Path) -> sqlite3.Connection:
    """Open a backup and see that it is whole."""
    if not path.is_file():
        raise StoreError(f"{path}: no such file")
    connection = rows.plain(path)
    try:
        rows.check_layout(connection, path)
        verdict = connection.execute("PRAGMA quick_check").fetchone()[0]
    except BaseException:
        connection.close()
        raise
    if verdict != "ok":
        connection.close()
        raise StoreError(f"{path} is damaged: {verdict}")
    return connection


def _produce(path: Path, fill: Callable[[sqlite3.Connection], None]) -> None:
    """Make a file beside `path` and move it there when it is whole."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(rows.plain(partial)) as connection:
            connection.execute(f"PRAGMA page_size = {rows.PAGE_SIZE}")
            fill(connection)
            # One plain file, whole without any log beside it.
            connection.execute("PRAGMA journal_mode = DELETE")
        _settle(partial, path)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StoreUnavailable(f"{path}: {error}") from error


def _settle(partial: Path, path: Path) -> None:
    """Bring a finished file to flash under its name."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
