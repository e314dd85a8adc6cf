"""Dropping what a structural schema does not know."""

from typing import Any

from edgekube.api.structural.schema import EMBEDDED, IDENTITY, PRESERVE, Schema, below, field_path


def prune(tree: dict[str, Any], schema: Schema) -> list[str]:
    """Drop unknown fields of a whole object in place; return their paths."""
    unknown: list[str] = []
    _object(tree, schema, "", unknown, kept=IDENTITY)
    return unknown


def _value(value: Any, schema: Schema, path: str, unknown: list[str]) -> None:
    if isinstance(value, dict):
        _object(value, schema, path, unknown, kept=IDENTITY if schema.get(EMBEDDED) else ())
    elif isinstance(value, list):
        items = schema.get("items")
        if isinstance(items, dict):
            for number, item in enumerate(value):
                _value(item, items, f"{path}[{number}]", unknown)


def _object(
    tree: dict[str, Any], schema: Schema, path: str, unknown: list[str], *, kept: tuple[str, ...]
) -> None:
    preserve = bool(schema.get(PRESERVE))
    known = bool(schema.get("properties"))
    for name in list(tree):
        if name in kept:
            continue
        inner = below(schema, name)
        if inner is not None:
            where = field_path(path, name) if known and name in schema["properties"] else f"{path}[{name}]"
            _value(tree[name], inner, where, unknown)
        elif not preserve:
            unknown.append(field_path(path, name))
            del tree[name]
