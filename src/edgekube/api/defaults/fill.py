"""Filling absent fields."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Tree = dict[str, Any]


def fill(tree: Tree, values: Mapping[str, Any]) -> None:
    """Set each field that is absent. Values must be immutable."""
    for name, value in values.items():
        tree.setdefault(name, value)


def fill_empty(tree: Tree, values: Mapping[str, Any]) -> None:
    """Set each field that is absent, "" or 0: in Go these are no pointers, so the two are the same."""
    for name, value in values.items():
        if not tree.get(name):
            tree[name] = value


def items(tree: Tree, *fields: str) -> Iterator[Tree]:
    """Return the objects in the lists named."""
    for field in fields:
        yield from tree.get(field, ())


def present(tree: Tree, fields: Iterable[str]) -> Iterator[Tree]:
    """Return the sub-objects that are there."""
    for field in fields:
        if field in tree:
            yield tree[field]
