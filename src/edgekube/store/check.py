"""The rules of a write, the same for every embedded adapter."""

from collections.abc import Sequence

from edgekube.store.base import KeyExists, Mismatch, Page, Record


def check(key: str, current: Record | None, expected: int) -> None:
    """Raise KeyExists or Mismatch unless `expected` is the key's current revision (0: no such key)."""
    if expected == 0 and current is not None:
        raise KeyExists(current)
    if expected != (current.revision if current else 0):
        raise Mismatch(key, current)


def check_present(key: str, current: Record | None, expected: int) -> Record:
    """Return the record to delete; raise Mismatch unless its revision is `expected`."""
    if current is None or current.revision != expected:
        raise Mismatch(key, current)
    return current


def cut(records: Sequence[Record], *, after: str, limit: int, revision: int) -> Page:
    """Return the page of `records` (in key order) that comes after the key `after`."""
    following = [record for record in records if record.key > after] if after else records
    if not limit or len(following) <= limit:
        return Page(following, revision)
    return Page(following[:limit], revision, more=True, remaining=len(following) - limit)
