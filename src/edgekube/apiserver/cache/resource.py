"""
The watch cache of one resource: everything the API server reads, it reads here.

One task (`run`) lists and watches the store; all else is plain calls on the event loop. Revisions
are the store's, but `revision` moves only with this resource's own changes.
"""

import asyncio
import logging
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from edgekube.api.errors import Expired
from edgekube.api.selectors import ANY_FIELDS, EVERYTHING, FieldMatcher, LabelMatcher
from edgekube.apiserver.cache.entry import Decode, Entry, with_revision
from edgekube.apiserver.cache.event import Occurrence
from edgekube.apiserver.cache.index import WatcherIndex
from edgekube.apiserver.cache.page import EntryPage, Forms, collect
from edgekube.apiserver.cache.watcher import Filter, Watcher
from edgekube.store.base import Change, Compacted, Page, Record, Store, StoreUnavailable

log = logging.getLogger(__name__)

WINDOW = 1024
"""How many changes are kept for watches that start in the past."""
WINDOW_BYTES = 4 << 20
BUFFER = 4096
"""How many events may wait for one watcher before it is cut off."""
RETRY = 1.0
"""Seconds before the store is asked again when it cannot answer."""


class ResourceCache:
    """
    One resource's objects under `prefix` (which ends in `/`), current and in the recent past.

    `ready` is set once the first list is in. Before that nothing may be read.
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        decode: Decode,
        *,
        window: int = WINDOW,
        window_bytes: int = WINDOW_BYTES,
        buffer: int = BUFFER,
    ) -> None:
        self.prefix = prefix
        self.ready = asyncio.Event()
        self.revision = 0
        self.floor = 0
        """The oldest revision a watch may start after."""
        self._store, self._decode = store, decode
        self._window, self._window_bytes, self._buffer = window, window_bytes, buffer
        self._entries: dict[str, Entry] = {}
        self._paths: list[str] = []
        self._history: deque[Occurrence] = deque()
        self._weight = 0
        self._watchers = WatcherIndex()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    # ---- reading ----

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, namespace: str, name: str) -> Entry | None:
        """Return one object; `namespace` is "" for cluster-scoped resources."""
        return self._entries.get(f"{namespace}/{name}" if namespace else name)

    def page(
        self,
        namespace: str = "",
        *,
        labels: LabelMatcher = EVERYTHING,
        fields: FieldMatcher = ANY_FIELDS,
        limit: int = 0,
        after: str = "",
        at: int = 0,
    ) -> EntryPage:
        """
        Return objects in order from the path after `after`, at most `limit` (0: all).

        `at` asks for the state as of an earlier revision, so that the pages of one list fit together.
        Raises Expired when that is no longer known.
        """
        chosen = Filter(namespace, "", labels, fields)
        start, end = self._range(chosen)
        paths: Sequence[str] = self._paths
        at = min(at, self.revision)
        past = self._past(at) if at else {}
        if past:
            others = (path for path in past if not namespace or path.startswith(f"{namespace}/"))
            paths = sorted({*self._paths[start:end], *others})
            start, end = 0, len(paths)
        if after:
            start = max(start, bisect_right(paths, after))
        if not past and not limit and labels.empty and fields.empty:
            return EntryPage([self._entries[path] for path in paths[start:end]], at or self.revision)
        forms = Forms(self._entries, past)
        return collect(forms, paths[start:end], chosen, limit=limit, revision=at or self.revision)

    def _range(self, chosen: Filter) -> tuple[int, int]:
        """Return the part of the paths that a filter can match."""
        namespace, name = chosen.namespace, chosen.exact("metadata.name")
        path = f"{namespace}/{name}" if namespace else name or ""
        if name is not None and (namespace or path in self._entries):
            start = bisect_left(self._paths, path)
            return start, bisect_right(self._paths, path, start)
        if not namespace:
            return 0, len(self._paths)
        return bisect_left(self._paths, f"{namespace}/"), bisect_left(self._paths, f"{namespace}0")

    def _past(self, at: int) -> dict[str, Entry | None]:
        """Return what was otherwise at revision `at`: older forms, and None for what was not there."""
        self._check(at)
        past: dict[str, Entry | None] = {}
        for occurrence in reversed(self._history):
            if occurrence.revision <= at:
                break
            past[occurrence.entry.path] = occurrence.previous
        return past

    async def wait_for(self, revision: int) -> None:
        """
        Wait until the cache shows this resource's change of `revision`: read your own writes.

        `revision` must be that of a change under the prefix, or it may take for ever.
        """
        if revision > self.revision:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((revision, future))
            await future

    # ---- watching ----

    def watch(
        self,
        after: int | None,
        *,
        namespace: str = "",
        name: str = "",
        labels: LabelMatcher = EVERYTHING,
        fields: FieldMatcher = ANY_FIELDS,
    ) -> Watcher:
        """
        Watch changes with revision > `after`; None begins with an ADDED for every object there is.

        Close the watcher in the end. Raises Expired when `after` is older than the window.
        """
        chosen = Filter(namespace, name, labels, fields)
        initial: Sequence[Entry] = ()
        if after is None:
            initial = self._selected(chosen)
        else:
            self._check(after)
        watcher = Watcher(
            chosen,
            initial=initial,
            limit=self._buffer,
            current=lambda: self.revision,
            close=self._watchers.remove,
        )
        if after is not None:
            for occurrence in self._history:
                if occurrence.revision > after and (event := chosen.event(occurrence)) is not None:
                    watcher.offer(event)
        self._watchers.add(watcher)
        return watcher

    def _selected(self, chosen: Filter) -> Sequence[Entry]:
        start, end = self._range(chosen)
        entries = map(self._entries.__getitem__, self._paths[start:end])
        return [entry for entry in entries if chosen.matches(entry)]

    def _check(self, revision: int) -> None:
        if revision < self.floor:
            raise Expired(f"too old resource version: {revision} ({self.floor})")

    def close(self) -> None:
        """End every watch: the resource is no longer served."""
        for watcher in self._watchers.all():
            watcher.close()

    # ---- following the store ----

    async def run(self) -> None:
        """
        Follow the store until cancelled.

        After an outage it goes on where it was. Only when the store no longer has what was missed is
        it listed again.
        """
        listed = False
        while True:
            try:
                if not listed:
                    self._take(await self._store.list(self.prefix))
                    listed = True
                await self._follow()
            except Compacted:
                log.info("%s: the store no longer has what we missed; listing again", self.prefix)
                listed = False
            except StoreUnavailable as error:
                log.warning("%s: %s; asking again in %g s", self.prefix, error, RETRY)
                await asyncio.sleep(RETRY)

    async def _follow(self) -> None:
        async for changes in self._store.watch(self.prefix, after=self.revision):
            self._publish(filter(None, map(self._occurrence, changes)), changes[-1].record.revision)
        raise StoreUnavailable("the watch ended")

    def _entry(self, record: Record) -> Entry | None:
        try:
            return self._decode(record)
        except msgspec.MsgspecError:
            # One object that nobody can read must not hide all the others.
            log.exception("%s is not readable and is not served", record.key)
            return None

    def _occurrence(self, change: Change) -> Occurrence | None:
        path = change.record.key.removeprefix(self.prefix)
        previous = self._entries.get(path)
        if change.deleted:
            return self._gone(previous, change.record.revision) if previous else None
        entry = self._entry(change.record)
        if entry is None:
            return self._gone(previous, change.record.revision) if previous else None
        return Occurrence(entry, previous)

    @staticmethod
    def _gone(last: Entry, revision: int) -> Occurrence:
        entry = msgspec.structs.replace(last, revision=revision, raw=with_revision(last.raw, revision))
        return Occurrence(entry, last, deleted=True)

    def _take(self, page: Page) -> None:
        """
        Begin anew with a list.

        What happened since the last change we know of cannot be told any more: not which objects came
        and went meanwhile, nor when. So there is no history before this list, and every watch ends as
        one that starts too early does: its client lists again (410 Gone).
        """
        entries = filter(None, map(self._entry, page.records))
        self._entries = {entry.path: entry for entry in entries}
        self._paths = sorted(self._entries)
        self._history.clear()
        self._weight = 0
        self.floor = page.revision
        for watcher in self._watchers.all():
            watcher.expire()
        self._publish((), page.revision)
        self.ready.set()

    def _publish(self, occurrences: Iterable[Occurrence], revision: int) -> None:
        for occurrence in occurrences:
            self._store_entry(occurrence)
            self._history.append(occurrence)
            self._weight += occurrence.weight
            for chosen, watchers in self._watchers.concerned(occurrence.entry, occurrence.previous):
                if (event := chosen.event(occurrence)) is not None:
                    for watcher in watchers:
                        watcher.offer(event)
        self._trim()
        self.revision = revision
        still = []
        for wanted, future in self._waiting:
            if wanted > revision:
                still.append((wanted, future))
            elif not future.done():
                future.set_result(None)
        self._waiting = still

    def _store_entry(self, occurrence: Occurrence) -> None:
        path = occurrence.entry.path
        if occurrence.deleted:
            del self._entries[path]
            del self._paths[bisect_left(self._paths, path)]
            return
        if path not in self._entries:
            insort(self._paths, path)
        self._entries[path] = occurrence.entry

    def _trim(self) -> None:
        while len(self._history) > self._window or (
            self._weight > self._window_bytes and len(self._history) > 1
        ):
            gone = self._history.popleft()
            self._weight -= gone.weight
            self.floor = gone.revision
