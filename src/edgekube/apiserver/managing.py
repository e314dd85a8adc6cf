"""metadata.managedFields: which schema a kind is owned by, and what each write makes of its owners."""

from collections.abc import Container, Sequence
from datetime import datetime

from edgekube.api import managed
from edgekube.api.managed import BuiltIn, Manager, Managers, Shape
from edgekube.api.resource import AnyResource, Durability
from edgekube.api.schema import Schemas
from edgekube.apiserver.registry.meta import timestamp
from edgekube.apiserver.request import Tree

RESET: list[Tree] = [{}]
"""What a client sends to forget all owners."""
NOT_STATUS, OTHER = frozenset({"f:status"}), frozenset({"f:spec", "f:data"})


class FieldManager:
    """Keeps the owners of every object that is kept on disk."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._built_in = BuiltIn(schemas.definition)
        self._shapes: dict[tuple[str, str], tuple[object, Shape]] = {}

    def shape_of(self, row: AnyResource) -> Shape:
        """Return what a kind's fields are made of."""
        key = (row.api_version, row.kind)
        known = self._shapes.get(key)
        if known is None or known[0] is not row.custom:
            known = self._shapes[key] = (row.custom, self._shape(row))
        return known[1]

    def _shape(self, row: AnyResource) -> Shape:
        if row.custom is not None:
            metadata = self._built_in.of("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
            return managed.of_schema(row.custom.schema, metadata)
        name = self._schemas.definition_of(row.api_version, row.kind)
        return managed.DEDUCED if name is None else self._built_in.of(name)

    def wrote(
        self, row: AnyResource, new: Tree, old: Tree | None, *, manager: str, subresource: str, now: datetime
    ) -> None:
        """Set the owners of `new`, which an ordinary write by `manager` made of `old` (None: it is new)."""
        meta = new["metadata"]
        if row.durability is Durability.VOLATILE:
            # Events and the like live for minutes and in memory: nobody applies them.
            meta.pop("managedFields", None)
            return
        who = Manager(managed.UPDATE, manager, row.api_version, subresource)
        owners = self._owners(new, old or {})
        found = managed.updated(
            owners, _bare(old or {}), _bare(new), shape=self.shape_of(row), who=who, now=timestamp(now),
            ignored=ignored(row, subresource),
        )  # fmt: skip
        keep(new, found)

    @staticmethod
    def _owners(new: Tree, old: Tree) -> Managers:
        """Return the owners before the write; a client may have changed them on purpose."""
        before = (old.get("metadata") or {}).get("managedFields") or []
        sent = new["metadata"].get("managedFields")
        if sent == RESET:
            return {}
        if sent and sent != before:
            try:
                return managed.decode(sent)
            except managed.BadEntries:
                pass
        return readable(before)


def ignored(row: AnyResource, subresource: str) -> Container[str]:
    """Return the top-level fields that a write through a subresource does not touch (reset fields)."""
    if subresource == "status":
        return OTHER
    return NOT_STATUS if "status" in row.subresources else ()


def readable(entries: Sequence[Tree]) -> Managers:
    """Return the owners that entries name; nobody, when they cannot be read."""
    try:
        return managed.decode(entries)
    except managed.BadEntries:
        return {}


def keep(tree: Tree, managers: Managers) -> None:
    """Write the owners into an object."""
    entries = managed.encode(managers)
    if entries:
        tree["metadata"]["managedFields"] = entries
    else:
        tree["metadata"].pop("managedFields", None)


def _bare(tree: Tree) -> Tree:
    """Return an object without its owners, which are nobody's field."""
    meta = tree.get("metadata")
    if not meta or "managedFields" not in meta:
        return tree
    return {**tree, "metadata": {name: value for name, value in meta.items() if name != "managedFields"}}
