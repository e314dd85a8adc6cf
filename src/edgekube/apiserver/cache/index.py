"""Finds the watchers an event may concern, so that a thousand watchers of one node each cost little."""

from collections.abc import Iterator

from edgekube.apiserver.cache.entry import Entry
from edgekube.apiserver.cache.watcher import Watcher

INDEXED = ("metadata.name", "spec.nodeName", "metadata.namespace")
"""Fields that narrow a watch, the most telling first."""
Bucket = tuple[str, str]
ALL: Bucket = ("", "")


class WatcherIndex:
    """Every watcher is in one bucket: that of the first indexed field it wants an exact value of."""

    def __init__(self) -> None:
        self._buckets: dict[Bucket, dict[Watcher, None]] = {}

    def __iter__(self) -> Iterator[Watcher]:
        for watchers in tuple(self._buckets.values()):
            yield from tuple(watchers)

    def add(self, watcher: Watcher) -> None:
        """Remember a watcher."""
        self._buckets.setdefault(_bucket(watcher), {})[watcher] = None

    def remove(self, watcher: Watcher) -> None:
        """Forget a watcher."""
        bucket = _bucket(watcher)
        watchers = self._buckets.get(bucket, {})
        watchers.pop(watcher, None)
        if not watchers:
            self._buckets.pop(bucket, None)

    def concerned(self, entry: Entry, previous: Entry | None) -> Iterator[Watcher]:
        """Return the watchers that may select either form of an object, each once."""
        yield from self._buckets.get(ALL, ())
        for field in INDEXED:
            now = entry.fields.get(field, "")
            yield from self._buckets.get((field, now), ())
            if previous is not None and (before := previous.fields.get(field, "")) != now:
                yield from self._buckets.get((field, before), ())


def _bucket(watcher: Watcher) -> Bucket:
    for field in INDEXED:
        value = watcher.filter.exact(field)
        if value is not None:
            return (field, value)
    return ALL
