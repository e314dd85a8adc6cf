"""Walkers of single values: each checks one, and returns it as decoding and encoding in Go would."""

import re
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from edgekube.api import quantity
from edgekube.api.schema.findings import Findings, Path, json_type

Walk = Callable[[Any, Path, Findings], Any]

TIME = "io.k8s.apimachinery.pkg.apis.meta.v1.Time"
MICRO_TIME = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", re.ASCII)
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", re.ASCII)


def any_value(value: Any, _path: Path, _found: Findings) -> Any:
    """Leave a free-form value alone."""
    return value


def of_type(owner: str, cls: type, go_type: str) -> Walk:
    """Return a walker that accepts one Python type."""

    def walk(value: Any, path: Path, found: Findings) -> Any:
        if type(value) is not cls:
            found.mismatch(value, path, owner, go_type)
        return value

    return walk


def integer(owner: str, bits: int) -> Walk:
    """Return a walker of int32 or int64."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def walk(value: Any, path: Path, found: Findings) -> Any:
        if type(value) is not int or not low <= value <= high:
            found.mismatch(value, path, owner, f"int{bits}")
        return value

    return walk


def number(owner: str) -> Walk:
    """Return a walker of float64."""

    def walk(value: Any, path: Path, found: Findings) -> Any:
        if type(value) not in (int, float):
            found.mismatch(value, path, owner, "float64")
        return value

    return walk


def base64(owner: str) -> Walk:
    """Return a walker of []byte: base64 text (line breaks are skipped, as in Go)."""

    def walk(value: Any, path: Path, found: Findings) -> Any:
        if type(value) is not str:
            found.mismatch(value, path, owner, "[]uint8")
            return value
        text = value.replace("\n", "").replace("\r", "") if "\n" in value or "\r" in value else value
        if len(text) % 4 or not _is_base64(text):
            found.malformed(path, f"illegal base64 data at input byte {_first_bad(text)}")
        return text

    return walk


def _is_base64(text: str) -> bool:
    try:
        b64decode(text, validate=True)
    except ValueError:
        return False
    return True


def _first_bad(text: str) -> int:
    match = _BASE64.match(text)
    return match.end() if match else 0


def amount(value: Any, path: Path, found: Findings) -> Any:
    """Make a quantity canonical."""
    try:
        if type(value) is str:
            return quantity.canonical(value.strip())
        if type(value) in (int, float):
            return quantity.canonical(value)
    except quantity.InvalidQuantity as error:
        found.malformed(path, str(error))
        return value
    found.malformed(path, f"quantities must match the regular expression '{quantity.PATTERN}'")
    return value


def int_or_string(value: Any, path: Path, found: Findings) -> Any:
    """Accept an int32 or a string."""
    if type(value) is str or (type(value) is int and -(2**31) <= value < 2**31):
        return value
    found.malformed(path, f"json: cannot unmarshal {json_type(value)} into Go value of type int32")
    return value


def time(value: Any, path: Path, found: Findings) -> Any:
    """Make a time UTC in whole seconds."""
    moment = _moment(value, path, found)
    return value if moment is None else f"{moment.replace(microsecond=0, tzinfo=None).isoformat()}Z"


def micro_time(value: Any, path: Path, found: Findings) -> Any:
    """Make a time UTC in microseconds."""
    moment = _moment(value, path, found)
    return value if moment is None else f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _moment(value: Any, path: Path, found: Findings) -> datetime | None:
    match = _RFC3339.fullmatch(value) if type(value) is str else None
    try:
        if match:
            micros = (match[2] or "")[:6].ljust(6, "0")
            return datetime.fromisoformat(f"{match[1]}.{micros}{match[3]}").astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    quoted = f'"{value}"' if type(value) is str else json_type(value)
    found.malformed(path, f'parsing time {quoted} as "2006-01-02T15:04:05Z07:00": cannot parse {quoted}')
    return None


SPECIAL: dict[str, Walk] = {
    QUANTITY: amount,
    INT_OR_STRING: int_or_string,
    TIME: time,
    MICRO_TIME: micro_time,
}
"""Definitions whose values are written otherwise than their schema says."""

ZEROS: dict[str, Any] = {
    QUANTITY: "0",
    INT_OR_STRING: 0,
    TIME: "0001-01-01T00:00:00Z",
    MICRO_TIME: "0001-01-01T00:00:00.000000Z",
    "string": "",
    "integer": 0,
    "number": 0,
    "boolean": False,
}
"""What Go's decoding leaves of a null or absent value, by definition or JSON type."""
