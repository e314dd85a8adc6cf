"""The shipped table of field numbers."""

import zlib
from importlib.resources import files
from typing import NamedTuple

import msgspec

META = "k8s.io.apimachinery.pkg.apis.meta.v1"
UNKNOWN = "k8s.io.apimachinery.pkg.runtime.Unknown"
TYPE_META = "k8s.io.apimachinery.pkg.runtime.TypeMeta"


class Field(NamedTuple):
    """One field of a message."""

    number: int
    name: str
    """In JSON."""
    kind: str
    """int32, int64, bool, string, bytes, message, map, inline (a struct whose fields JSON has one
    level up), strings (a message that is a list of strings in JSON), time, microtime, quantity,
    intstr or json (a message holding JSON bytes)."""
    repeated: bool
    message: str
    """Of message, inline and map (there: of the entries, key = 1 and value = 2)."""
    keeps_zero: bool
    """Whether an empty value says something; where not, Go always sends it and JSON never has it."""


class _File(msgspec.Struct, frozen=True):
    kinds: dict[str, str]
    messages: bytes


class FieldTable:
    """Fields by message, decoded when first needed."""

    def __init__(self, data: bytes) -> None:
        file = msgspec.msgpack.decode(data, type=_File)
        self._kinds = file.kinds
        self._packed = file.messages
        self._rows: dict[str, bytes] | None = None
        self._by_number: dict[str, dict[int, Field]] = {}

    @classmethod
    def load(cls) -> "FieldTable":
        """Open the table shipped with the package."""
        return cls((files("edgekube.api.protobuf") / "fields.bin").read_bytes())

    def message_of(self, api_version: str, kind: str) -> str | None:
        """Return the message of a kind; None if it has none (custom resources).

        Options such as DeleteOptions come with any group's apiVersion.
        """
        known = self._kinds.get(f"{api_version}/{kind}")
        if known is None:
            known = next(
                (
                    name
                    for name in (f"{META}.{kind}", f"k8s.io.api.core.v1.{kind}")
                    if name in self._messages()
                ),
                None,
            )
        return known

    def fields(self, message: str) -> dict[int, Field]:
        """Return a message's fields by number; KeyError if there is no such message."""
        found = self._by_number.get(message)
        if found is None:
            rows = msgspec.msgpack.decode(self._messages()[message], type=list[Field])
            found = self._by_number[message] = {row.number: row for row in rows}
        return found

    def _messages(self) -> dict[str, bytes]:
        if self._rows is None:
            self._rows = msgspec.msgpack.decode(zlib.decompress(self._packed), type=dict[str, bytes])
        return self._rows
