"""Filling a structural schema's defaults. Doing it twice changes nothing."""

from copy import deepcopy
from typing import Any

from edgekube.api.structural.schema import Schema, below


def fill(value: Any, schema: Schema) -> None:
    """Set absent fields that have a default, in place; nulls that may not be null count as absent."""
    if isinstance(value, dict):
        _nulls(value, schema)
        for name, inner in (schema.get("properties") or {}).items():
            if name not in value and "default" in inner:
                value[name] = deepcopy(inner["default"])
        for name, item in value.items():
            inner = below(schema, name)
            if inner:
                fill(item, inner)
    elif isinstance(value, list):
        items = schema.get("items")
        if isinstance(items, dict):
            for item in value:
                fill(item, items)


def _nulls(value: dict[str, Any], schema: Schema) -> None:
    for name in [name for name, item in value.items() if item is None]:
        inner = (schema.get("properties") or {}).get(name)
        if inner is not None and not inner.get("nullable"):
            del value[name]
