"""JSON trees to protobuf bodies, by the same table as decoding."""

from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from edgekube.api.errors import NotAcceptable
from edgekube.api.protobuf.decode import MAGIC
from edgekube.api.protobuf.table import Field, FieldTable
from edgekube.api.protobuf.wire import write_bytes, write_number

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)


def encode(tree: dict[str, Any], *, table: FieldTable) -> bytes:
    """Return the body of a normalised object; raise NotAcceptable if its kind has no protobuf form."""
    api_version, kind = tree.get("apiVersion", ""), tree.get("kind", "")
    message = table.message_of(api_version, kind)
    if message is None:
        raise NotAcceptable(f'kind "{kind}" of version "{api_version}" has no protobuf form')
    meta = write_bytes(1, api_version.encode()) + write_bytes(2, kind.encode())
    raw = _message(tree, message, table)
    return MAGIC + write_bytes(1, meta) + write_bytes(2, raw) + write_bytes(3, b"") + write_bytes(4, b"")


def _message(tree: dict[str, Any], message: str, table: FieldTable) -> bytes:
    out = bytearray()
    for field in table.fields(message).values():
        if field.kind == "inline":
            inner = _message(tree, field.message, table)
            if inner:
                out += write_bytes(field.number, inner)
            continue
        value = tree.get(field.name)
        if value is None:
            continue
        if field.kind == "map":
            for entry in value.items():
                out += write_bytes(field.number, _entry(entry, field, table))
        else:
            for element in value if field.repeated else (value,):
                out += _field(field, element, table)
    return bytes(out)


def _entry(entry: tuple[str, Any], field: Field, table: FieldTable) -> bytes:
    key, value = entry
    fields = table.fields(field.message)
    return _field(fields[1], key, table) + _field(fields[2], value, table)


def _field(field: Field, value: Any, table: FieldTable) -> bytes:
    if field.kind in ("int32", "int64", "bool"):
        return write_number(field.number, int(value))
    if field.kind == "message":
        return write_bytes(field.number, _message(value, field.message, table))
    return write_bytes(field.number, _WRITERS[field.kind](value))


def _int_or_string(value: int | str) -> bytes:
    if isinstance(value, int):
        return write_number(1, 0) + write_number(2, value) + write_bytes(3, b"")
    return write_number(1, 1) + write_number(2, 0) + write_bytes(3, value.encode())


def _time(value: str) -> bytes:
    since = datetime.fromisoformat(value) - _EPOCH
    seconds = since // _SECOND
    nanos = (since - seconds * _SECOND) // _MICROSECOND * 1000
    return write_number(1, seconds) + write_number(2, nanos)


_WRITERS: dict[str, Callable[[Any], bytes]] = {
    "string": str.encode,
    "bytes": b64decode,
    "quantity": lambda value: write_bytes(1, value.encode()),
    "json": lambda value: write_bytes(1, msgspec.json.encode(value)),
    "strings": lambda value: b"".join(write_bytes(1, item.encode()) for item in value),
    "intstr": _int_or_string,
    "time": _time,
    "microtime": _time,
}
