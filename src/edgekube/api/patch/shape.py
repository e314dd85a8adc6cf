"""What a strategic merge patch must know of a kind's fields."""

from dataclasses import dataclass
from typing import Protocol


class Shape(Protocol):
    """The fields of a struct."""

    def field(self, name: str) -> "FieldShape | None":
        """Return how a field merges; None if the struct has no such field."""
        ...


@dataclass(frozen=True, slots=True)
class FieldShape:
    """How one field merges."""

    strategies: tuple[str, ...]
    """Of `merge`, `replace` and `retainKeys`; empty for the default (maps merge, the rest is replaced)."""
    merge_key: str
    """The field that names the items of a merged list; "" for lists of plain values."""
    shape: Shape | None
    """Of the sub-object, or of the list's items or the map's values."""
