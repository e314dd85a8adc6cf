"""Custom resources, by the columns their definition names (apiextensions tableconvertor)."""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from edgekube.api import jsonpath
from edgekube.api.custom import Column as Definition
from edgekube.api.custom import CustomKind
from edgekube.apiserver.printers.base import NAME, Column, Printer, name, since
from edgekube.apiserver.request import Tree

AGE = Definition("Age", "date", ".metadata.creationTimestamp")
"""What shows when a definition names no columns."""


def printer(kind: CustomKind) -> Printer:
    """Return the printer of a version."""
    return _printer(tuple(kind.columns) or (AGE,))


@lru_cache(maxsize=256)
def _printer(definitions: tuple[Definition, ...]) -> Printer:
    columns = [Column(d.name, d.type, d.format, d.priority) for d in definitions]
    paths = [jsonpath.parse(d.path) for d in definitions]

    def cells(obj: Tree, now: datetime) -> list[Any]:
        found = zip(definitions, paths, strict=True)
        return [name(obj), *(_cell(d.type, path.find(obj), now) for d, path in found)]

    return Printer((NAME, *columns), cells)


def _cell(kind: str, values: list[Any], now: datetime) -> Any:
    if not values or values[0] is None:
        return None
    if kind == "date":
        return _ago(values[0], now)
    if kind in _KINDS:
        return values[0] if isinstance(values[0], _KINDS[kind]) else None
    return ",".join(map(_text, values))


_KINDS: Mapping[str, type | tuple[type, ...]] = {"integer": int, "number": (int, float), "boolean": bool}


def _ago(value: Any, now: datetime) -> str:
    try:
        return since(value, now)
    except (ValueError, TypeError):
        return "<invalid>"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
