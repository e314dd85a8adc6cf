"""Watches: what the cache tells, with bookmarks and an end (Kubernetes docs, "Efficient detection of changes")."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import msgspec

from edgekube.api.errors import Expired, StatusError
from edgekube.api.resource import AnyResource
from edgekube.apiserver.cache import Watcher

BOOKMARK_SECONDS = 60.0
INITIAL_END = {"k8s.io/initial-events-end": "true"}


@dataclass(frozen=True, slots=True)
class Event:
    """One watch event: `raw` is the object, `frame` the whole line `{"type":…,"object":…}` with its line feed."""

    type: str
    raw: bytes
    frame: bytes


Events = AsyncIterator[Sequence[Event]]


def event(kind: str, raw: bytes) -> Event:
    """Return an event that is not shared with other watchers."""
    return Event(kind, raw, b'{"type":"%b","object":%b}\n' % (kind.encode(), raw))


def bookmark(row: AnyResource, revision: int, *, initial: bool = False) -> Event:
    """Return a bookmark; `initial` marks the end of the initial events (KEP-3157)."""
    metadata: dict[str, object] = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial:
        metadata["annotations"] = INITIAL_END
    tree = {"kind": row.kind, "apiVersion": row.api_version, "metadata": metadata}
    return event("BOOKMARK", msgspec.json.encode(tree))


def failed(error: StatusError) -> Event:
    """Return an error as the last event of a watch."""
    return event("ERROR", msgspec.json.encode(error.tree()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a watch goes on: for `seconds`, with bookmarks or not, the end of initial events marked or not."""

    seconds: float
    bookmarks: bool = False
    marked: bool = False


async def follow(row: AnyResource, watcher: Watcher, terms: Terms) -> Events:
    """Yield batches of events until the time is over or the watcher lost track."""
    loop = asyncio.get_running_loop()
    end = loop.time() + terms.seconds
    pause = BOOKMARK_SECONDS if terms.bookmarks else terms.seconds
    timer = loop.call_at(min(end, loop.time() + pause), watcher.nudge)
    marked = not terms.marked
    try:
        while True:
            if not marked and watcher.synced:
                marked = True
                yield (bookmark(row, watcher.revision, initial=True),)
            batch = await watcher.batch()
            if batch:
                yield [Event(item.type.value, item.entry.raw, item.frame) for item in batch]
                continue
            if watcher.closed or loop.time() >= end:
                return
            timer = loop.call_at(min(end, loop.time() + pause), watcher.nudge)
            yield (bookmark(row, watcher.revision),)
    except Expired as error:
        yield (failed(error),)
    finally:
        timer.cancel()
        watcher.close()


async def refused(error: StatusError) -> Events:
    """Yield nothing but an error."""
    yield (failed(error),)


async def close(events: Events) -> None:
    """End a watch before its time."""
    end = getattr(events, "aclose", None)
    if end is not None:
        await end()
