"""Collecting causes in the wording of apimachinery's field.Error."""

from collections.abc import Iterable
from typing import Any

import msgspec

from edgekube.api.errors import Cause

IMMUTABLE = "field is immutable"
NOT_NEGATIVE = "must be greater than or equal to 0"
POSITIVE = "must be greater than 0"


class Problems:
    """What is wrong so far. Every method names the field first."""

    def __init__(self) -> None:
        self.causes: list[Cause] = []

    def required(self, field: str, detail: str = "") -> None:
        """A value has to be given."""
        self._add("FieldValueRequired", "Required value", field, detail)

    def invalid(self, field: str, value: Any, detail: str) -> None:
        """A value breaks a rule."""
        self._add("FieldValueInvalid", f"Invalid value: {shown(value)}", field, detail)

    def unsupported(self, field: str, value: Any, supported: Iterable[str]) -> None:
        """A value is none of those that exist."""
        detail = "supported values: " + ", ".join(f'"{one}"' for one in supported)
        self._add("FieldValueNotSupported", f"Unsupported value: {shown(value)}", field, detail)

    def forbidden(self, field: str, detail: str) -> None:
        """A value may not be given, or not be changed."""
        self._add("FieldValueForbidden", "Forbidden", field, detail)

    def duplicate(self, field: str, value: Any) -> None:
        """A value that has to be unique is not."""
        self._add("FieldValueDuplicate", f"Duplicate value: {shown(value)}", field)

    def not_found(self, field: str, value: Any) -> None:
        """A value names something that is not there."""
        self._add("FieldValueNotFound", f"Not found: {shown(value)}", field)

    def too_long(self, field: str, limit: int) -> None:
        """A value has more than `limit` bytes."""
        self._add("FieldValueTooLong", "Too long", field, f"may not be more than {limit} bytes")

    def too_many(self, field: str, count: int, limit: int) -> None:
        """A list has more than `limit` items."""
        self._add("FieldValueTooMany", f"Too many: {count}", field, f"must have at most {limit} items")

    def each(self, field: str, value: Any, details: Iterable[str]) -> None:
        """Note a value as invalid once for each detail."""
        for detail in details:
            self.invalid(field, value, detail)

    def at_least(self, tree: dict[str, Any], name: str, path: str, *, least: int = 0) -> None:
        """Note a number that is below `least` (0 or 1)."""
        value = tree.get(name)
        if value is not None and value < least:
            self.invalid(f"{path}.{name}", value, POSITIVE if least else NOT_NEGATIVE)

    def one_of(self, tree: dict[str, Any], name: str, path: str, *, supported: Iterable[str]) -> None:
        """Note a value that is missing or none of those that exist."""
        value = tree.get(name)
        if not value:
            self.required(f"{path}.{name}")
        elif value not in supported:
            self.unsupported(f"{path}.{name}", value, supported)

    def given(self, tree: dict[str, Any], name: str, path: str) -> bool:
        """Note a value that is missing or empty; return whether it is there."""
        if tree.get(name):
            return True
        self.required(f"{path}.{name}")
        return False

    def unchanged(self, tree: dict[str, Any], old: dict[str, Any], name: str, path: str) -> None:
        """Note a value that differs from the old one."""
        if tree.get(name) != old.get(name):
            self.invalid(f"{path}.{name}".removeprefix("."), tree.get(name), IMMUTABLE)

    def _add(self, reason: str, message: str, field: str, detail: str = "") -> None:
        self.causes.append(Cause(reason, f"{message}: {detail}" if detail else message, field))


def shown(value: Any) -> str:
    """Return a value as error messages show it: JSON."""
    return msgspec.json.encode(value).decode()


def join(path: str, name: str) -> str:
    """Return the path of a field."""
    return f"{path}.{name}" if path else name
