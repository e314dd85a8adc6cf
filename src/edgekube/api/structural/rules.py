"""Whether a schema is structural (apiextensions apiserver/schema/validation.go)."""

from typing import Any

from edgekube.api.cel.program import CelError
from edgekube.api.structural.pruning import prune
from edgekube.api.structural.schema import (
    EMBEDDED,
    INT_OR_STRING,
    LIST_TYPE,
    MAP_KEYS,
    MAP_TYPE,
    PRESERVE,
    Schema,
    field_path,
)  # fmt: skip
from edgekube.api.structural.validating import matches, validate
from edgekube.api.validation.problems import Problems

TYPES = ("array", "boolean", "integer", "number", "object", "string")
STRUCTURAL = "must be empty to be structural"
_OUTSIDE = ("type", "default", "additionalProperties", "nullable", "title", "description", PRESERVE, EMBEDDED, INT_OR_STRING, LIST_TYPE, MAP_KEYS, MAP_TYPE)  # fmt: skip
_NEVER = ("$ref", "definitions", "dependencies", "patternProperties", "additionalItems", "id", "$schema")


def check(schema: Schema, path: str, problems: Problems) -> None:
    """Check the root of a version's schema."""
    if schema.get("type") != "object":
        if schema.get("type"):
            problems.invalid(f"{path}.type", schema["type"], "must be object at the root")
        else:
            problems.required(f"{path}.type", "must not be empty at the root")
    if PRESERVE in schema and schema[PRESERVE] is not True:
        problems.invalid(f"{path}.{PRESERVE}", schema[PRESERVE], "must be true or undefined")
    _node(schema, path, problems, root=True)


def _node(schema: Schema, path: str, problems: Problems, *, root: bool = False) -> None:
    for word in _NEVER:
        if schema.get(word):
            problems.forbidden(f"{path}.{word}", f"{word} is not supported")
    if schema.get("uniqueItems"):
        problems.forbidden(f"{path}.uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes quadratic")  # fmt: skip
    _type(schema, path, problems, root=root)
    _map_or_struct(schema, path, problems)
    _list(schema, path, problems)
    _pattern(schema, path, problems)
    if "default" in schema:
        _default(schema, path, problems)
    _below(schema, path, problems, root=root)
    for word in ("allOf", "anyOf", "oneOf"):
        for number, inner in enumerate(schema.get(word) or ()):
            _value_only(inner, schema, f"{path}.{word}[{number}]", problems)
    if schema.get("not"):
        _value_only(schema["not"], schema, f"{path}.not", problems)


def _below(schema: Schema, path: str, problems: Problems, *, root: bool) -> None:
    for name, inner in (schema.get("properties") or {}).items():
        if not (root and name in {"metadata", "apiVersion", "kind"}):
            _node(inner, f"{path}.properties[{name}]", problems)
    for word in ("additionalProperties", "items"):
        if isinstance(schema.get(word), dict):
            _node(schema[word], f"{path}.{word}", problems)


def _type(schema: Schema, path: str, problems: Problems, *, root: bool) -> None:
    kind = schema.get("type", "")
    if kind and kind not in TYPES:
        problems.unsupported(f"{path}.type", kind, TYPES)
    if not kind and not root and not (schema.get(INT_OR_STRING) or schema.get(PRESERVE)):
        problems.required(f"{path}.type", "must not be empty for specified object fields")
    if schema.get(INT_OR_STRING) and kind:
        problems.forbidden(f"{path}.type", f"must be empty if {INT_OR_STRING} is true")
    if schema.get(EMBEDDED) and kind != "object":
        problems.invalid(f"{path}.type", kind, f"must be object if {EMBEDDED} is true")


def _map_or_struct(schema: Schema, path: str, problems: Problems) -> None:
    if schema.get("properties") and schema.get("additionalProperties"):
        problems.forbidden(
            f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive"
        )
    if schema.get("additionalProperties") is False:
        problems.forbidden(f"{path}.additionalProperties", "additionalProperties cannot be set to false")
    kind = schema.get(MAP_TYPE)
    if kind is not None and kind not in {"atomic", "granular"}:
        problems.unsupported(f"{path}.{MAP_TYPE}", kind, ("atomic", "granular"))


def _list(schema: Schema, path: str, problems: Problems) -> None:
    items, kind, keys = schema.get("items"), schema.get(LIST_TYPE), schema.get(MAP_KEYS) or ()
    if isinstance(items, list):
        problems.forbidden(f"{path}.items", "items must be a schema object and not an array")
        return
    if schema.get("type") == "array" and items is None:
        problems.required(f"{path}.items", "must be specified")
    if kind is None:
        if keys:
            problems.required(f"{path}.{LIST_TYPE}", "must be map if x-kubernetes-list-map-keys is non-empty")
        return
    if kind not in {"atomic", "set", "map"}:
        problems.unsupported(f"{path}.{LIST_TYPE}", kind, ("atomic", "map", "set"))
    if schema.get("type") != "array":
        problems.invalid(f"{path}.type", schema.get("type", ""), f"must be array if {LIST_TYPE} is specified")
    if kind == "map":
        if not keys:
            problems.required(f"{path}.{MAP_KEYS}", "must not be empty if x-kubernetes-list-type is map")
        _map_keys(items or {}, keys, path, problems=problems)


def _map_keys(items: Schema, keys: Any, path: str, *, problems: Problems) -> None:
    known, required = items.get("properties") or {}, items.get("required") or ()
    for number, key in enumerate(keys):
        where = f"{path}.{MAP_KEYS}[{number}]"
        if key not in known:
            problems.invalid(where, key, "entries must all be names of item properties")
        elif key not in required and "default" not in known[key]:
            problems.required(f"{path}.items.properties[{key}].default", "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property")  # fmt: skip


def _pattern(schema: Schema, path: str, problems: Problems) -> None:
    pattern = schema.get("pattern")
    if not pattern:
        return
    try:
        matches("", pattern)
    except CelError as error:
        problems.invalid(
            f"{path}.pattern", pattern, f"must be a valid regular expression, but isn't: {error}"
        )


def _default(schema: Schema, path: str, problems: Problems) -> None:
    value, trial = schema["default"], Problems()
    if isinstance(value, dict):
        from copy import deepcopy  # noqa: PLC0415 - seldom

        for unknown in prune(deepcopy(value), schema):
            problems.invalid(f"{path}.default", value, f"must not have unknown fields: {unknown}")
    validate(value, schema, field_path(path, "default"), trial)
    problems.causes += trial.causes


def _value_only(inner: Schema, outer: Schema, path: str, problems: Problems) -> None:
    """Check a schema inside of allOf, anyOf, oneOf or not: it may only restrict values."""
    simple = outer.get(INT_OR_STRING) and set(inner) == {"type"}
    for word in _OUTSIDE:
        if word in inner and not simple:
            problems.forbidden(f"{path}.{word}", STRUCTURAL)
    for name, below in (inner.get("properties") or {}).items():
        known = (outer.get("properties") or {}).get(name)
        if known is None and not outer.get(PRESERVE) and not outer.get("additionalProperties"):
            problems.required(f"{path.rsplit('.', 1)[0]}.properties[{name}]", f"because it is defined in {path}.properties[{name}]")  # fmt: skip
        _value_only(below, known or {}, f"{path}.properties[{name}]", problems)
    for word in ("allOf", "anyOf", "oneOf"):
        for number, below in enumerate(inner.get(word) or ()):
            _value_only(below, outer, f"{path}.{word}[{number}]", problems)
