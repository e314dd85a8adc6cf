"""
A live local copy of objects: what every loop reads.

On the master it is filled by an Informer (list + watch), on a node by the deltas the hub sends.
Loops only know `Reader`.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from edgekube.api.resource import Key, Object, key_of

T = TypeVar("T", bound=Object)
T_co = TypeVar("T_co", bound=Object, covariant=True)
Handler = Callable[[T | None, T | None], None]


class Reader(Protocol[T_co]):
    """Read with `get` and iteration; hear of changes with `subscribe`."""

    synced: asyncio.Event
    """Set once the copy has been complete for the first time."""

    def get(self, key: Key) -> T_co | None:
        """Return the object as last seen."""
        ...

    def __iter__(self) -> Iterator[T_co]: ...

    def subscribe(self, handler: Handler[T_co]) -> None:
        """Call `handler(old, new)` for every change, starting with what is there; it must not block."""
        ...


class Copy(Generic[T]):
    """The one implementation of Reader: a dict and its subscribers. Writers call `set`, `drop`, `replace`."""

    def __init__(self, objects: Iterable[T] = ()) -> None:
        self.synced = asyncio.Event()
        self._objects: dict[Key, T] = {key_of(obj): obj for obj in objects}
        self._handlers: list[Handler[T]] = []

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._objects.values()))

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, key: Key) -> T | None:
        """Return the object as last seen."""
        return self._objects.get(key)

    def subscribe(self, handler: Handler[T]) -> None:
        """Call `handler(old, new)` for every change, starting with what is there; it must not block."""
        self._handlers.append(handler)
        for obj in tuple(self._objects.values()):
            handler(None, obj)

    def set(self, obj: T) -> None:
        """Remember `obj`; the same resource version again is no change."""
        key = key_of(obj)
        old = self._objects.get(key)
        if old is not None and _same(old, obj):
            return
        self._objects[key] = obj
        self._tell(old, obj)

    def drop(self, key: Key) -> None:
        """Forget the object of that key, if there is one."""
        old = self._objects.pop(key, None)
        if old is not None:
            self._tell(old, None)

    def replace(self, objects: Iterable[T]) -> None:
        """Become exactly `objects`; the difference is reported as if it had been watched."""
        fresh = {key_of(obj): obj for obj in objects}
        for key in self._objects.keys() - fresh.keys():
            self.drop(key)
        for obj in fresh.values():
            self.set(obj)
        self.synced.set()

    def _tell(self, old: T | None, new: T | None) -> None:
        for handler in self._handlers:
            handler(old, new)


def _same(old: Object, new: Object) -> bool:
    version = new.metadata.resource_version
    return bool(version) and old.metadata.resource_version == version and old.metadata.uid == new.metadata.uid
