"""A lookup over a Reader that follows its changes: from any value of an object to the objects that have it."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from edgekube.api.resource import Key, Object, key_of
from edgekube.control.reader import Reader

T = TypeVar("T", bound=Object)
V = TypeVar("V", bound=Hashable)


class Index(Generic[T, V]):
    """Objects by every value `values(object)` yields; ask with `of`."""

    def __init__(self, reader: Reader[T], values: Callable[[T], Iterable[V]]) -> None:
        self._values = values
        self._found: defaultdict[V, dict[Key, T]] = defaultdict(dict)
        reader.subscribe(self._follow)

    def of(self, value: V) -> tuple[T, ...]:
        """Return the objects that have `value`."""
        found = self._found.get(value)
        return tuple(found.values()) if found else ()

    def _follow(self, old: T | None, new: T | None) -> None:
        if old is not None:
            for value in self._values(old):
                found = self._found[value]
                found.pop(key_of(old), None)
                if not found:
                    del self._found[value]
        if new is not None:
            for value in self._values(new):
                self._found[value][key_of(new)] = new
