"""Parts of a list, as of now or of an earlier revision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekube.apiserver.cache.entry import Entry
from edgekube.apiserver.cache.watcher import Filter


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Entries in the order of their paths, as of `revision`; `next` is where to go on, "" at the end."""

    entries: Sequence[Entry]
    revision: int
    next: str = ""
    remaining: int | None = None
    """How many more there are; None when selectors make that unknown (API concepts, remainingItemCount)."""


class Forms:
    """Objects by path, as they are but for those that were otherwise in the past."""

    def __init__(self, now: Mapping[str, Entry], past: Mapping[str, Entry | None]) -> None:
        self._now, self._past = now, past

    def get(self, path: str) -> Entry | None:
        """Return the form of an object."""
        return self._past[path] if path in self._past else self._now.get(path)


def collect(forms: Forms, paths: Sequence[str], chosen: Filter, *, limit: int, revision: int) -> EntryPage:
    """Return the objects at `paths` that a filter selects, at most `limit` (0: all)."""
    everything = chosen.labels.empty and chosen.fields.empty
    found: list[Entry] = []
    for index, path in enumerate(paths):
        entry = forms.get(path)
        if entry is None or not (everything or chosen.matches(entry)):
            continue
        if limit and len(found) == limit:
            remaining = sum(forms.get(other) is not None for other in paths[index:]) if everything else None
            return EntryPage(found, revision, found[-1].path, remaining)
        found.append(entry)
    return EntryPage(found, revision)
