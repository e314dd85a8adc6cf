"""Finds the watchers an event may concern, so that a thousand watchers of one node each cost little."""

from collections.abc import Iterable, Iterator, Sequence

from edgekube.apiserver.cache.entry import Entry
from edgekube.apiserver.cache.watcher import Filter, Watcher

INDEXED = ("metadata.name", "spec.nodeName", "metadata.namespace")
"""Fields that narrow a watch, the most telling first."""
Bucket = tuple[str, str]
ALL: Bucket = ("", "")


Group = dict[Watcher, None]


class WatcherIndex:
    """
    Every watcher is in one bucket: that of the first indexed field it wants an exact value of.

    In a bucket, watchers that select the same are one group, for which an event is decided once.
    """

    def __init__(self) -> None:
        self._buckets: dict[Bucket, dict[Filter, Group]] = {}

    def add(self, watcher: Watcher) -> None:
        """Remember a watcher."""
        groups = self._buckets.setdefault(_bucket(watcher.filter), {})
        groups.setdefault(watcher.filter, {})[watcher] = None

    def remove(self, watcher: Watcher) -> None:
        """Forget a watcher."""
        bucket, chosen = _bucket(watcher.filter), watcher.filter
        groups = self._buckets.get(bucket, {})
        group = groups.get(chosen, {})
        group.pop(watcher, None)
        if not group:
            groups.pop(chosen, None)
        if not groups:
            self._buckets.pop(bucket, None)

    def all(self) -> Sequence[Watcher]:
        """Return every watcher."""
        return [w for groups in self._buckets.values() for group in groups.values() for w in group]

    def concerned(self, entry: Entry, previous: Entry | None) -> Iterator[tuple[Filter, Group]]:
        """Return the groups that may select either form of an object, each once."""
        yield from self._groups(ALL)
        for field in INDEXED:
            now = entry.fields.get(field, "")
            yield from self._groups((field, now))
            if previous is not None and (before := previous.fields.get(field, "")) != now:
                yield from self._groups((field, before))

    def _groups(self, bucket: Bucket) -> Iterable[tuple[Filter, Group]]:
        groups = self._buckets.get(bucket)
        return groups.items() if groups else ()


def _bucket(chosen: Filter) -> Bucket:
    for field in INDEXED:
        value = chosen.exact(field)
        if value is not None:
            return (field, value)
    return ALL
