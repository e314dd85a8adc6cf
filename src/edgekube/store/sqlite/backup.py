"""Copies of the store: taken while it runs, put back while it does not."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from edgekube.store.base import StoreError, StoreUnavailable
from edgekube.store.sqlite import rows

BUMP = 1_000_000_000
"""
How far revisions jump when a backup is put back: what was given away after the backup was taken must
not happen again (etcdutl's `--bump-revision` recommends the same).
"""


def copy_to(source: sqlite3.Connection, path: Path) -> None:
    """Write what `source` sees to `path`, all or nothing; closes `source`. Raises StoreUnavailable."""
    partial = path.with_name(path.name + ".partial")
    try:
        with closing(source):
            partial.unlink(missing_ok=True)
            os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            _copy(source, partial)
        _settle(partial, path)
    except (OSError, sqlite3.Error) as error:
        partial.unlink(missing_ok=True)
        raise StoreUnavailable(f"{path}: {error}") from error


def restore(url: str, path: Path) -> None:
    """
    Make the store that `url` names out of the backup at `path`.

    The store must not exist: nothing is overwritten. Raises StoreError.
    """
    from edgekube.store.sqlite.store import lock, path_of  # noqa: PLC0415 - it imports this module

    target = path_of(url)
    handle = lock(target)
    partial = target.with_name(target.name + ".partial")
    try:
        if target.exists():
            raise StoreError(f"{target} exists; move it away first")
        partial.unlink(missing_ok=True)
        with closing(_opened(path)) as source:
            os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            _copy(source, partial)
        with closing(rows.plain(partial)) as connection:
            rows.reserve(connection, rows.reserved(connection) + BUMP)
        for leftover in ("-wal", "-shm"):
            target.with_name(target.name + leftover).unlink(missing_ok=True)
        _settle(partial, target)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"{path}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
        os.close(handle)


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


def _copy(source: sqlite3.Connection, target: Path) -> None:
    with closing(rows.plain(target)) as connection:
        source.backup(connection)
        # One plain file, whole without any log beside it.
        connection.execute("PRAGMA journal_mode = DELETE")


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
