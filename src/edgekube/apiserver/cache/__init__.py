"""The watch cache, from which the API server serves every read."""

from edgekube.apiserver.cache.entry import Decode, Entry, Selectable, entry_decoder, with_revision
from edgekube.apiserver.cache.event import EventType, WatchEvent
from edgekube.apiserver.cache.page import EntryPage
from edgekube.apiserver.cache.resource import ResourceCache
from edgekube.apiserver.cache.watcher import Watcher

__all__ = [
    "Decode", "Entry", "EntryPage", "EventType", "ResourceCache", "Selectable", "WatchEvent", "Watcher",
    "entry_decoder", "with_revision",
]  # fmt: skip
