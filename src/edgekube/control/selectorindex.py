"""Selectors found by the labels they demand: of hundreds of them only those are looked at that may match."""

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from edgekube.api.types import meta_v1
from edgekube.control.selectors import Labels

K = TypeVar("K", bound=Hashable)

_Place = tuple[str, str, str]
"""A namespace ("" for any) and a label that is demanded ("", "" for none)."""


class SelectorIndex(Generic[K]):
    """Keys of selectors by namespace and one label each; `candidates` may name some that do not match."""

    def __init__(self) -> None:
        self._places: dict[K, _Place] = {}
        self._found: dict[_Place, dict[K, None]] = {}

    def put(self, key: K, namespace: str, selector: meta_v1.LabelSelector | None) -> None:
        """Remember a selector for objects of a namespace ("": of any); None matches all."""
        self.drop(key)
        demanded = min(selector.match_labels.items(), default=("", "")) if selector is not None else ("", "")
        place = self._places[key] = (namespace, *demanded)
        self._found.setdefault(place, {})[key] = None

    def drop(self, key: K) -> None:
        """Forget a selector, if it is known."""
        place = self._places.pop(key, None)
        if place is not None:
            held = self._found[place]
            del held[key]
            if not held:
                del self._found[place]

    def candidates(self, namespace: str, labels: Labels) -> Iterator[K]:
        """Yield every key whose selector may match an object, each once."""
        for where in (namespace, ""):
            yield from self._found.get((where, "", ""), ())
            for name, value in labels.items():
                yield from self._found.get((where, name, value), ())
