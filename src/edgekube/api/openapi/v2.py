"""
OpenAPI v2 as older clients and kubectl's fallback read it: definitions, as JSON and as gnostic's protobuf.

Field numbers are those of gnostic's openapiv2/OpenAPIv2.proto. Paths are left out: clients ask v3 for them.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from edgekube.api.openapi import custom
from edgekube.api.openapi.components import components
from edgekube.api.openapi.custom import SchemaOf
from edgekube.api.openapi.paths import paths
from edgekube.api.protobuf.wire import write_bytes, write_number
from edgekube.api.resource import AnyResource
from edgekube.api.schema import Schemas

Tree = dict[str, Any]
V3, V2 = "#/components/schemas/", "#/definitions/"
_KEPT = frozenset({"oneOf", "anyOf", "not", "nullable"})
"""Words v2 does not have."""
_PRESERVE, _KINDS = "x-kubernetes-preserve-unknown-fields", "x-kubernetes-group-version-kind"


def document(schemas: Schemas, rows: Iterable[AnyResource], version: str, *, schema_of: SchemaOf) -> Tree:
    """Return the whole document."""
    rows = tuple(rows)
    _, roots = paths(schemas, [row for row in rows if row.custom is None])
    definitions = components(schemas, roots | set(custom.ROOTS))
    for row in rows:
        if row.custom is not None:
            definitions |= custom.schemas(row, schema_of(row))
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": {},
        "definitions": {name: _definition(schema) for name, schema in sorted(definitions.items())},
    }


def merged(definitions: Tree, others: Iterable[Tree]) -> Tree:
    """
    Return definitions with those of extension servers.

    Ours hold for names of Kubernetes' own; of others the second with the same name and another content
    gets a number, as Kubernetes does it (`…_v2`).
    """
    found = dict(definitions)
    for more in others:
        names: dict[str, str] = {}
        for name, schema in more.items():
            free, number = name, 2
            while free in found and found[free] != schema and not name.startswith("io.k8s."):
                free, number = f"{name}_v{number}", number + 1
            names[name] = free
        for name, schema in more.items():
            found.setdefault(names[name], _renamed(schema, names))
    return dict(sorted(found.items()))


def _renamed(value: Any, names: Mapping[str, str], old: str = V2, new: str = V2) -> Any:
    if isinstance(value, dict):
        return {
            key: new + names.get(name := inner.removeprefix(old), name)
            if key == "$ref" and isinstance(inner, str)
            else _renamed(inner, names, old, new)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_renamed(inner, names, old, new) for inner in value]
    return value


def closure(definitions: Tree, group: str, version: str) -> Tree:
    """Return the definitions of a group version's kinds, and what they refer to; raises KeyError, TypeError."""
    waiting = [
        name
        for name, schema in definitions.items()
        if any(kind["group"] == group and kind["version"] == version for kind in schema.get(_KINDS, ()))
    ]
    found: Tree = {}
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = definitions[name]
            waiting += _references(found[name])
    return found


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        here = [value["$ref"].removeprefix(V2)] if isinstance(value.get("$ref"), str) else []
        return here + [name for inner in value.values() for name in _references(inner)]
    return [name for inner in value for name in _references(inner)] if isinstance(value, list) else []


def older(schema: Any) -> Tree:
    """Return a v3 schema in v2's words."""
    return _schema(schema)


def newer(definitions: Tree, paths: Tree, title: str) -> Tree:
    """
    Return definitions and paths as a v3 document.

    Of operations what clients look for is kept: the kind they are about, and query parameters.
    """
    schemas = {name: _renamed(schema, {}, V2, V3) for name, schema in definitions.items()}
    info = {"title": title, "version": "unversioned"}
    return {"openapi": "3.0.0", "info": info, "paths": _paths(paths), "components": {"schemas": schemas}}


_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch"})


def _paths(paths: Tree) -> Tree:
    return {
        path: {
            name: _operation(value) if name in _METHODS else _parameters(value)
            for name, value in entry.items()
            if name in {*_METHODS, "parameters"}
        }
        for path, entry in paths.items()
    }


def _operation(operation: Tree) -> Tree:
    kept = {
        name: value
        for name, value in operation.items()
        if name.startswith("x-kubernetes-") or name in {"description", "operationId", "tags"}
    }
    return {
        **kept,
        "parameters": _parameters(operation.get("parameters") or []),
        "responses": {"200": {"description": "OK"}},
    }


def _parameters(parameters: list[Tree]) -> list[Tree]:
    beside = ("name", "in", "description", "required")
    return [
        {
            **{name: one[name] for name in beside if name in one},
            "schema": {name: one[name] for name in ("type", "uniqueItems") if name in one},
        }
        for one in parameters
        if one.get("in") in {"query", "path"}
    ]


def _definition(schema: Any) -> Tree:
    """
    Return a kind's v3 schema in v2's words.

    Of one that takes any field nothing is told: who reads v2 takes the fields it names for all there are
    (apiextensions-apiserver, pkg/controller/openapi/builder).
    """
    if not schema.get(_PRESERVE) or _KINDS not in schema:
        return _schema(schema)
    return {"type": "object", _KINDS: schema[_KINDS]}


def _schema(schema: Any) -> Tree:
    """Return a v3 schema in v2's words."""
    found: Tree = {}
    for name, value in schema.items():
        if name in _KEPT:
            continue
        if name == "$ref":
            found[name] = value.replace(V3, V2)
        elif name == "properties":
            found[name] = {key: _schema(inner) for key, inner in value.items()}
        elif name in {"items", "additionalProperties"} and isinstance(value, dict):
            found[name] = _schema(value)
        elif name == "allOf":
            found |= _merged(value)
        else:
            found[name] = value
    if schema.get(_PRESERVE) or schema.get("format") == "int-or-string":
        found.setdefault("type", "object" if "format" not in schema else "string")
    return found


def _merged(parts: list[Tree]) -> Tree:
    """Return a reference that v3 wraps to put a text beside it; other compositions are left out."""
    return _schema(parts[0]) if len(parts) == 1 and "$ref" in parts[0] else {}


def encode(tree: Tree) -> bytes:
    """Return the document as gnostic's protobuf."""
    info = _text(1, tree["info"]["title"]) + _text(2, tree["info"]["version"])
    definitions = b"".join(_named(name, _message(schema)) for name, schema in tree["definitions"].items())
    return (
        _text(1, tree["swagger"]) + write_bytes(2, info) + write_bytes(8, b"") + write_bytes(9, definitions)
    )


def _named(name: str, value: bytes) -> bytes:
    """Return an entry of Definitions or Properties: NamedSchema."""
    return write_bytes(1, _text(1, name) + write_bytes(2, value))


def _message(schema: Tree) -> bytes:
    out = bytearray()
    for name, value in schema.items():
        if name in _FIELDS:
            number, write = _FIELDS[name]
            out += write(number, value)
        elif name.startswith("x-"):
            out += write_bytes(31, _text(1, name) + write_bytes(2, _any(value)))
    return bytes(out)


def _text(number: int, value: str) -> bytes:
    return write_bytes(number, value.encode())


def _any(value: Any) -> bytes:
    """Return an Any by its YAML, which JSON is."""
    return _text(2, msgspec.json.encode(value).decode())


def _type(number: int, value: str) -> bytes:
    return write_bytes(number, _text(1, value))


def _properties(number: int, value: Tree) -> bytes:
    return write_bytes(number, b"".join(_named(name, _message(inner)) for name, inner in value.items()))


def _items(number: int, value: Tree) -> bytes:
    return write_bytes(number, write_bytes(1, _message(value)))


def _more(number: int, value: Any) -> bytes:
    inner = write_bytes(1, _message(value)) if isinstance(value, dict) else write_number(2, int(bool(value)))
    return write_bytes(number, inner)


def _texts(number: int, value: list[str]) -> bytes:
    return b"".join(_text(number, one) for one in value)


def _values(number: int, value: list[Any]) -> bytes:
    return b"".join(write_bytes(number, _any(one)) for one in value)


def _flag(number: int, value: bool) -> bytes:  # noqa: FBT001 - one of many writers of one shape
    return write_number(number, int(value)) if value else b""


_FIELDS: Mapping[str, tuple[int, Callable[[int, Any], bytes]]] = {
    "$ref": (1, _text), "format": (2, _text), "title": (3, _text), "description": (4, _text),
    "default": (5, lambda number, value: write_bytes(number, _any(value))), "maxLength": (11, write_number),
    "minLength": (12, write_number), "pattern": (13, _text), "maxItems": (14, write_number),
    "minItems": (15, write_number), "uniqueItems": (16, _flag), "required": (19, _texts), "enum": (20, _values),
    "additionalProperties": (21, _more), "type": (22, _type), "items": (23, _items), "properties": (25, _properties),
}  # fmt: skip
