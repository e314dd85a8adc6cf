"""Checking values by a structural schema, worded as Kubernetes words it (kube-openapi validation, apiextensions)."""

import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from edgekube.api.cel.program import compile_expression
from edgekube.api.structural.formats import CHECKS
from edgekube.api.structural.schema import (
    EMBEDDED,
    IDENTITY,
    INT_OR_STRING,
    LIST_TYPE,
    MAP_KEYS,
    PRESERVE,
    Schema,
    below,
    field_path,
)  # fmt: skip
from edgekube.api.validation.problems import Problems

Check = Callable[[Any, Schema, str, Problems], None]
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "number": (int, float), "integer": int,
}  # fmt: skip


def validate(value: Any, schema: Schema, path: str, problems: Problems) -> None:
    """Note what is wrong with `value`; the root's path is ""."""
    if value is None:
        if not (schema.get("nullable") or not schema.get("type")):
            _mistyped(value, schema["type"], path, problems)
        return
    if not _type_fits(value, schema, path, problems):
        return
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        supported = [
            one if isinstance(one, str) else msgspec.json.encode(one).decode() for one in schema["enum"]
        ]
        problems.unsupported(path, value, supported)
    for kind, checks in _CHECKS.items():
        if isinstance(value, kind) and not (kind is not bool and isinstance(value, bool)):
            checks(value, schema, path, problems)
    _composed(value, schema, path, problems)


def _type_fits(value: Any, schema: Schema, path: str, problems: Problems) -> bool:
    if schema.get(INT_OR_STRING):
        if isinstance(value, (int, str)) and not isinstance(value, bool):
            return True
        _mistyped(value, "integer,string", path, problems)
        return False
    wanted = schema.get("type")
    if not wanted:
        return True
    # A type there is not is refused elsewhere, while its default comes here.
    fits = isinstance(value, _TYPES.get(wanted, object)) and (
        wanted == "boolean" or not isinstance(value, bool)
    )
    if wanted == "integer" and isinstance(value, float):
        fits = value.is_integer()
    if not fits:
        _mistyped(value, wanted, path, problems)
    return fits


def _mistyped(value: Any, wanted: str, path: str, problems: Problems) -> None:
    name = type_name(value)
    problems.invalid(path, name, f'{path} in body must be of type {wanted}: "{name}"')


def type_name(value: Any) -> str:
    """Return a value's JSON type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, float):
        return "number"
    return next(name for name, kind in _TYPES.items() if isinstance(value, kind) and name != "number")


def _same(left: Any, right: Any) -> bool:
    numbers = (int, float)
    alike = type(left) is type(right) or (type(left) in numbers and type(right) in numbers)
    return alike and bool(left == right)


def _string(value: str, schema: Schema, path: str, problems: Problems) -> None:
    if len(value) > schema.get("maxLength", len(value)):
        problems.too_long(path, schema["maxLength"])
    if len(value) < schema.get("minLength", 0):
        problems.invalid(path, value, f"{path} in body should be at least {schema['minLength']} chars long")
    pattern = schema.get("pattern")
    if pattern and not matches(value, pattern):
        problems.invalid(path, value, f"{path} in body should match '{pattern}'")
    check = CHECKS.get(schema.get("format", "")) if not schema.get(INT_OR_STRING) else None
    if check is not None and not check(value):
        problems.invalid(path, value, f'{path} in body must be of type {schema["format"]}: "{value}"')


def matches(text: str, pattern: str) -> bool:
    """
    Tell whether an RE2 pattern is found in `text`; raises CelError for what is no pattern.

    CEL's engine takes linear time, as RE2 does: a pattern that backtracks would stop the whole server.
    """
    return compile_expression("text.matches(pattern)").holds({"text": text, "pattern": _ascii(pattern)})


_SHORT = {"d": "0-9", "w": "0-9A-Za-z_", "s": "\\t\\n\\f\\r "}
"""RE2's short classes know ASCII only."""
_TOKEN = re.compile(r"\\(.)|(\[:\^?\w+:\])|(\[)|(\])", re.DOTALL)


@lru_cache(maxsize=512)
def _ascii(pattern: str) -> str:
    """Write out RE2's short classes."""
    inside = False

    def written(match: re.Match[str]) -> str:
        nonlocal inside
        short, _, opens, closes = match.groups()
        inside = (inside or bool(opens)) and not closes
        if short is None or short.lower() not in _SHORT:
            return match[0]
        if short.islower():
            return _SHORT[short] if inside else f"[{_SHORT[short]}]"
        return f"[^{_SHORT[short.lower()]}]"

    return _TOKEN.sub(written, pattern)


def _number(value: float, schema: Schema, path: str, problems: Problems) -> None:
    most, least, step = schema.get("maximum"), schema.get("minimum"), schema.get("multipleOf")
    if most is not None:
        strict = bool(schema.get("exclusiveMaximum"))
        if value > most or (strict and value == most):
            how = "less than" if strict else "less than or equal to"
            problems.invalid(path, value, f"{path} in body should be {how} {_text(most)}")
    if least is not None:
        strict = bool(schema.get("exclusiveMinimum"))
        if value < least or (strict and value == least):
            how = "greater than" if strict else "greater than or equal to"
            problems.invalid(path, value, f"{path} in body should be {how} {_text(least)}")
    if step and not _multiple(value, step):
        problems.invalid(path, value, f"{path} in body should be a multiple of {_text(step)}")


def _multiple(value: float, step: float) -> bool:
    """Tell whether it is one; what has no whole part, as 1e400 read as a float, is none."""
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    try:
        share = value / step
    except OverflowError:
        return False
    return math.isfinite(share) and abs(share - round(share)) <= 1e-9


def _text(number: float) -> str:
    return str(int(number)) if isinstance(number, float) and number.is_integer() else str(number)


def _array(value: list[Any], schema: Schema, path: str, problems: Problems) -> None:
    if len(value) > schema.get("maxItems", len(value)):
        problems.too_many(path, len(value), schema["maxItems"])
        return
    if len(value) < schema.get("minItems", 0):
        problems.invalid(path, len(value), f"{path} in body should have at least {schema['minItems']} items")
    items = schema.get("items")
    if isinstance(items, dict):
        for number, item in enumerate(value):
            validate(item, items, f"{path}[{number}]", problems)
    _unique(value, schema, path, problems)


def _unique(value: list[Any], schema: Schema, path: str, problems: Problems) -> None:
    kind = schema.get(LIST_TYPE)
    if kind not in {"set", "map"}:
        return
    seen: set[bytes] = set()
    defaults = {
        n: p["default"]
        for n, p in ((schema.get("items") or {}).get("properties") or {}).items()
        if "default" in p
    }
    for number, item in enumerate(value):
        mark = item
        if kind == "map":
            if not isinstance(item, dict):
                continue
            mark = {key: item.get(key, defaults.get(key)) for key in schema.get(MAP_KEYS, ())}
        key = msgspec.json.encode(mark, order="sorted")
        if key in seen:
            problems.duplicate(f"{path}[{number}]", mark)
        seen.add(key)


def _object(value: dict[str, Any], schema: Schema, path: str, problems: Problems) -> None:
    for name in schema.get("required") or ():
        if name not in value:
            problems.required(field_path(path, name))
    if len(value) > schema.get("maxProperties", len(value)):
        problems.too_many(path, len(value), schema["maxProperties"])
        return
    if len(value) < schema.get("minProperties", 0):
        text = f"{path} in body should have at least {schema['minProperties']} properties"
        problems.invalid(path, len(value), text)
    if schema.get(EMBEDDED):
        for name in ("apiVersion", "kind"):
            if not value.get(name):
                problems.required(field_path(path, name), "must not be empty")
    known = schema.get("properties") or {}
    for name, item in value.items():
        inner = below(schema, name)
        if inner is None or (name in IDENTITY and not path):
            continue
        where = field_path(path, name) if name in known else f"{path}.{name}"
        validate(item, inner, where, problems)


_CHECKS: Mapping[type | tuple[type, ...], Check] = {
    str: _string, (int, float): _number, list: _array, dict: _object,
}  # fmt: skip


def _composed(value: Any, schema: Schema, path: str, problems: Problems) -> None:
    if not any(word in schema for word in ("allOf", "anyOf", "oneOf", "not")):
        return
    for inner in schema.get("allOf") or ():
        validate(value, inner, path, problems)
    if schema.get("anyOf") and not any(_passes(value, inner) for inner in schema["anyOf"]):
        problems.invalid(path, _shown(value), f'"{path}" must validate at least one schema (anyOf)')
    if schema.get("oneOf"):
        good = sum(_passes(value, inner) for inner in schema["oneOf"])
        if good != 1:
            found = f"Found {good} valid alternatives" if good else "Found none valid"
            text = f'"{path}" must validate one and only one schema (oneOf). {found}'
            problems.invalid(path, _shown(value), text)
    if schema.get("not") and _passes(value, schema["not"]):
        problems.invalid(path, _shown(value), f'"{path}" must not validate the schema (not)')


def _passes(value: Any, schema: Schema) -> bool:
    trial = Problems()
    validate(value, schema, "", trial)
    return not trial.causes


def _shown(value: Any) -> Any:
    return "" if isinstance(value, (dict, list)) else value


__all__ = ["PRESERVE", "matches", "type_name", "validate"]
