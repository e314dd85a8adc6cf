"""
What the watch cache keeps of an object: its bytes, and the few fields that selection needs.

Objects are stored without resourceVersion, for it is known only after the write; the cached bytes
have it as the first member of metadata, put there without decoding the object.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from edgekube.api.resource import Key
from edgekube.store.base import Record

METADATA = b'"metadata":'
VERSION = b'"resourceVersion":"'


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One object as of `revision`."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    fields: Mapping[str, str]
    """The selectable fields of the kind; always with metadata.name and metadata.namespace."""
    revision: int
    created: int
    """The revision at which it was created."""
    raw: bytes
    """The whole object as JSON, with its resourceVersion."""

    @property
    def key(self) -> Key:
        """The object's name within its resource."""
        return Key(self.namespace, self.name)

    @property
    def path(self) -> str:
        """`namespace/name`, or `name`: the key after the resource's prefix; entries are listed in its order."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


Decode = Callable[[Record], Entry]
"""Makes an entry of a stored record; raises msgspec.MsgspecError when it is not such an object."""


@dataclass(frozen=True, slots=True)
class Selectable:
    """Where a field label's value is (`spec.nodeName`), and what counts as its value when it is not there."""

    path: str
    absent: str = ""
    instead: str = ""
    """The place of another field, whose value counts when this one is not there."""


class _Metadata(msgspec.Struct, frozen=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None


def entry_decoder(selectable: Mapping[str, Selectable] | None = None) -> Decode:
    """
    Return a decoder that reads metadata and the selectable fields and skips the rest of the object.

    `selectable` maps field labels to their places; metadata.name and metadata.namespace need not be
    told. Booleans read as `true` and `false`.
    """
    places = {
        label: (field.path.split("."), field.absent, field.instead.split("."))
        for label, field in (selectable or {}).items()
    }
    paths = [path for first, _, second in places.values() for path in (first, second) if path != [""]]
    decoder = msgspec.json.Decoder(_partial([path for path in paths if path[0] != "metadata"]))

    def decode(record: Record) -> Entry:
        head = decoder.decode(record.value)
        meta = head.metadata
        fields = {"metadata.name": meta.name, "metadata.namespace": meta.namespace}
        for label, (path, absent, instead) in places.items():
            fields[label] = _text(head, path) or absent or _text(head, instead)
        return Entry(
            namespace=meta.namespace,
            name=meta.name,
            uid=meta.uid,
            labels=meta.labels or {},
            fields=fields,
            revision=record.revision,
            created=record.created,
            raw=with_revision(record.value, record.revision),
        )

    return decode


def _partial(paths: list[list[str]]) -> Any:
    """Return a Struct type that has metadata and the members named by `paths`."""
    members = _members(paths)
    return msgspec.defstruct("Partial", [("metadata", _Metadata), *members], frozen=True)


def _members(paths: list[list[str]]) -> list[tuple[str, Any, Any]]:
    below: dict[str, list[list[str]]] = {}
    for path in paths:
        below.setdefault(path[0], []).append(path[1:])
    members: list[tuple[str, Any, Any]] = []
    for name, rest in below.items():
        inner = [path for path in rest if path]
        kind = msgspec.defstruct(name, _members(inner), frozen=True) if inner else str | int | bool
        members.append((name, kind | None, None))
    return members


def _text(node: Any, path: list[str]) -> str:
    for name in path:
        node = getattr(node, name, None)
        if node is None:
            return ""
    return str(node).lower() if isinstance(node, bool) else str(node)


def with_revision(value: bytes, revision: int) -> bytes:
    """
    Return an object's JSON with `metadata.resourceVersion` set to `revision`.

    When metadata is the first member that is an object, as in everything that we encode, this costs
    a copy of the bytes; a resourceVersion put there by this function before is replaced. Any other
    order or spacing is decoded one level deep.
    """
    inner = value.find(b"{", 1) + 1
    if value[inner - len(METADATA) - 1 : inner - 1] != METADATA:
        return _decoded(value, revision)
    rest = inner
    if value.startswith(VERSION, inner):
        rest = value.index(b'"', inner + len(VERSION)) + 1
        if value[rest : rest + 1] == b",":
            rest += 1
    comma = b"" if value[rest : rest + 1] == b"}" else b","
    return b"".join((value[:inner], VERSION, b"%d" % revision, b'"', comma, value[rest:]))


def _decoded(value: bytes, revision: int) -> bytes:
    members = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    metadata = msgspec.json.decode(members.get("metadata", b"{}"), type=dict[str, msgspec.Raw])
    metadata.pop("resourceVersion", None)
    first = {"resourceVersion": msgspec.Raw(b'"%d"' % revision), **metadata}
    head = {name: members.pop(name) for name in ("kind", "apiVersion") if name in members}
    members.pop("metadata", None)
    return msgspec.json.encode({**head, "metadata": first, **members})
