"""Changes as watchers see them; an event is encoded once, and only if somebody watches."""

from enum import Enum

import msgspec

from edgekube.apiserver.cache.entry import Entry, with_revision


class EventType(Enum):
    """The types of watch events that stand for changes (meta/v1 WatchEvent)."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


HEADS = {kind: b'{"type":"%s","object":' % kind.value.encode() for kind in EventType}


class WatchEvent:
    """One event as watchers get it; the same value goes to all of them."""

    __slots__ = ("_frame", "entry", "type")

    def __init__(self, kind: EventType, entry: Entry) -> None:
        self.type = kind
        self.entry = entry
        """The object to show; `entry.revision` is the event's."""
        self._frame: bytes | None = None

    @property
    def frame(self) -> bytes:
        """The encoded line: `{"type":…,"object":…}` and a line feed."""
        if self._frame is None:
            self._frame = b"".join((HEADS[self.type], self.entry.raw, b"}\n"))
        return self._frame


class Occurrence:
    """A change of one object: `entry` is its new form (of a deletion the last one, at the deletion's revision)."""

    __slots__ = ("_shared", "deleted", "entry", "previous", "revision")

    def __init__(self, entry: Entry, previous: Entry | None, *, deleted: bool = False) -> None:
        self.entry = entry
        self.previous = previous
        self.deleted = deleted
        self.revision = entry.revision
        self._shared: dict[EventType, WatchEvent] = {}

    @property
    def weight(self) -> int:
        """How many bytes it keeps alive."""
        return len(self.entry.raw) + (len(self.previous.raw) if self.previous else 0)

    def seen(self, *, before: bool, now: bool) -> WatchEvent | None:
        """Return the event for a watcher that selects the old form (`before`), the new one (`now`), both or none."""
        if self.deleted:
            return self._event(EventType.DELETED) if before else None
        if now:
            return self._event(EventType.MODIFIED if before else EventType.ADDED)
        return self._event(EventType.DELETED) if before else None

    def _event(self, kind: EventType) -> WatchEvent:
        event = self._shared.get(kind)
        if event is None:
            event = self._shared[kind] = WatchEvent(kind, self._shown(kind))
        return event

    def _shown(self, kind: EventType) -> Entry:
        """Who selects an object no longer is shown its last selected form, at the new revision."""
        if kind is not EventType.DELETED or self.deleted or self.previous is None:
            return self.entry
        raw = with_revision(self.previous.raw, self.revision)
        return msgspec.structs.replace(self.previous, revision=self.revision, raw=raw)
