"""Protobuf request bodies to JSON trees."""

from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from edgekube.api.errors import BadRequest
from edgekube.api.protobuf.table import TYPE_META, Field, FieldTable
from edgekube.api.protobuf.wire import BYTES, VARINT, records, signed, varint

MAGIC = b"k8s\x00"
DEEPEST = 64
"""Levels of messages; no Kubernetes kind comes near."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ABSENT: Any = object()


def decode(body: bytes, *, table: FieldTable) -> dict[str, Any]:
    """Return the JSON tree of a body, with apiVersion and kind; raise BadRequest if it is malformed.

    A body is "k8s", a zero byte, and a runtime.Unknown: type meta (1), the object's bytes (2), the content
    encoding (3) and content type (4).
    """
    try:
        return _envelope(body, table, 0)
    except RecursionError as error:
        raise BadRequest("proto: message nests too deeply") from error


def _envelope(body: bytes | memoryview, table: FieldTable, depth: int) -> dict[str, Any]:
    data = memoryview(body)
    if data[:4] != MAGIC:
        raise BadRequest(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
        )
    parts: dict[int, memoryview] = {}
    for number, wire, value in records(data[4:]):
        if number <= 4:
            parts[number] = _bytes(value, wire)
    meta = _message(parts.get(1, memoryview(b"")), TYPE_META, table, depth)
    api_version, kind = meta.get("apiVersion", ""), meta.get("kind", "")
    raw = parts.get(2, memoryview(b""))
    if parts.get(3):
        raise BadRequest("proto: the content encoding of the object is not understood")
    if bytes(parts.get(4, b"")) == b"application/json":
        tree = _json(raw, table, depth)
    else:
        message = table.message_of(api_version, kind)
        if message is None:
            raise BadRequest(f'no kind "{kind}" is registered for version "{api_version}"')
        tree = _message(raw, message, table, depth)
    if not isinstance(tree, dict):
        raise BadRequest("proto: the object is no struct")
    return {"kind": kind, "apiVersion": api_version, **tree}


def _message(data: memoryview, message: str, table: FieldTable, depth: int) -> dict[str, Any]:
    if depth > DEEPEST:
        raise BadRequest("proto: message nests too deeply")
    fields = table.fields(message)
    tree: dict[str, Any] = {}
    for number, wire, value in records(data):
        field = fields.get(number)
        if field is None:
            continue
        if field.repeated:
            tree.setdefault(field.name, []).extend(_elements(field, wire, value, table, depth))
        elif field.kind == "inline":
            tree.update(_message(_bytes(value, wire), field.message, table, depth + 1))
        elif field.kind == "map":
            key, element = _entry(_bytes(value, wire), field, table, depth)
            tree.setdefault(field.name, {})[key] = element
        else:
            read = _value(field, wire, value, table, depth)
            if read is _ABSENT or (not field.keeps_zero and read in ("", 0, False)):
                tree.pop(field.name, None)
            else:
                tree[field.name] = read
    return tree


def _elements(field: Field, wire: int, value: int | memoryview, table: FieldTable, depth: int) -> list[Any]:
    if wire == BYTES and isinstance(value, memoryview) and field.kind in ("int32", "int64", "bool"):
        packed, at = [], 0
        while at < len(value):
            number, at = varint(value, at)
            packed.append(_number(field.kind, number))
        return packed
    element = _value(field, wire, value, table, depth)
    return [] if element is _ABSENT else [element]


def _entry(data: memoryview, field: Field, table: FieldTable, depth: int) -> tuple[str, Any]:
    fields = table.fields(field.message)
    found: dict[int, Any] = {1: ""}
    for number, wire, value in records(data):
        if number in (1, 2):
            found[number] = _value(fields[number], wire, value, table, depth)
    if 2 not in found:
        kind = fields[2].kind
        found[2] = _value(
            fields[2],
            VARINT if kind in _NUMBERS else BYTES,
            0 if kind in _NUMBERS else memoryview(b""),
            table,
            depth,
        )
    return found[1], None if found[2] is _ABSENT else found[2]


def _value(field: Field, wire: int, value: int | memoryview, table: FieldTable, depth: int) -> Any:
    kind = field.kind
    if kind in _NUMBERS:
        if wire != VARINT or not isinstance(value, int):
            raise BadRequest(f"proto: wrong wireType = {wire} for field {field.name}")
        return _number(kind, value)
    data = _bytes(value, wire)
    if kind == "string":
        return _text(data)
    if kind == "message":
        return _message(data, field.message, table, depth + 1)
    if kind == "json":
        return _json(_first_bytes(data), table, depth)
    return _READERS[kind](data)


_NUMBERS = frozenset({"int32", "int64", "bool"})


def _number(kind: str, value: int) -> int | bool:
    if kind == "bool":
        return value != 0
    return signed(value, 32 if kind == "int32" else 64)


def _bytes(value: int | memoryview, wire: int) -> memoryview:
    if wire != BYTES or isinstance(value, int):
        raise BadRequest(f"proto: wrong wireType = {wire} for a length-delimited field")
    return value


def _text(data: memoryview) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest("proto: string field contains invalid UTF-8") from error


def _first_bytes(data: memoryview) -> memoryview:
    found = memoryview(b"")
    for number, wire, value in records(data):
        if number == 1:
            found = _bytes(value, wire)
    return found


def _json(data: memoryview, table: FieldTable, depth: int) -> Any:
    if not data:
        return _ABSENT
    if data[:4] == MAGIC:
        if depth > DEEPEST:
            raise BadRequest("proto: message nests too deeply")
        return _envelope(data, table, depth + 1)
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"proto: embedded JSON is malformed: {error}") from error


def _quantity(data: memoryview) -> str:
    return _text(_first_bytes(data)) or "0"


def _int_or_string(data: memoryview) -> int | str:
    found: dict[int, int | memoryview] = {}
    for number, wire, value in records(data):
        if wire != (BYTES if number == 3 else VARINT):
            raise BadRequest(f"proto: wrong wireType = {wire} for field IntOrString")
        found[number] = value
    if found.get(1, 0):
        text = found.get(3, memoryview(b""))
        return _text(text) if isinstance(text, memoryview) else ""
    whole = found.get(2, 0)
    return signed(whole, 32) if isinstance(whole, int) else 0


def _strings(data: memoryview) -> list[str]:
    return [_text(_bytes(value, wire)) for number, wire, value in records(data) if number == 1]


def _moment(data: memoryview) -> datetime | None:
    found = {1: 0, 2: 0}
    for number, wire, value in records(data):
        if wire != VARINT or not isinstance(value, int):
            raise BadRequest(f"proto: wrong wireType = {wire} for field Time")
        found[number] = signed(value, 64)
    if not found[1] and not found[2]:
        return None
    try:
        return _EPOCH + timedelta(seconds=found[1], microseconds=found[2] // 1000)
    except OverflowError as error:
        raise BadRequest("proto: time is out of range") from error


def _time(data: memoryview) -> Any:
    moment = _moment(data)
    return f"{moment.replace(microsecond=0, tzinfo=None).isoformat()}Z" if moment else _ABSENT


def _micro_time(data: memoryview) -> Any:
    moment = _moment(data)
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z" if moment else _ABSENT


_READERS: dict[str, Callable[[memoryview], Any]] = {
    "bytes": lambda data: b64encode(data).decode(),
    "quantity": _quantity,
    "intstr": _int_or_string,
    "strings": _strings,
    "time": _time,
    "microtime": _micro_time,
}
