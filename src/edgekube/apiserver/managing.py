"""metadata.managedFields: which schema a kind is owned by, and what each write makes of its owners."""

from collections.abc import Container, Sequence
from datetime import datetime

from edgekube.api import managed
from edgekube.api.managed import BuiltIn, Manager, Managers, Shape, across
from edgekube.api.resource import AnyResource, Durability
from edgekube.api.schema import Schemas
from edgekube.apiserver.registry.meta import timestamp
from edgekube.apiserver.request import Tree
from edgekube.apiserver.versions import Convert, Versions

RESET: list[Tree] = [{}]
"""What a client sends to forget all owners."""
NOT_STATUS, OTHER = frozenset({"f:status"}), frozenset({"f:spec", "f:data"})


class FieldManager:
    """Keeps the owners of every object that is kept on disk."""

    def __init__(self, schemas: Schemas, versions: Versions | None = None) -> None:
        self._schemas = schemas
        self._versions = versions or Versions({})
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

    def crosses(self, row: AnyResource, owned: Tree | None, version: str) -> bool:
        """Tell whether somebody owns fields of `owned`, stored as `row`, in another version than that."""
        if self._versions.shown(row) is None:
            return False
        entries = ((owned or {}).get("metadata") or {}).get("managedFields") or ()
        return version != row.api_version or any(entry.get("apiVersion") != version for entry in entries)

    def forms(self, storage: AnyResource) -> across.Forms:
        """Return the versions of what is stored as `storage`."""
        views = self._versions.shown(storage) or {}
        found = {version: self._form(view.row, view.convert) for version, view in views.items()}
        for view in views.values():
            found.setdefault(storage.api_version, self._form(storage, view.convert))
        return found

    def _form(self, row: AnyResource, convert: Convert) -> across.Form:
        async def converted(tree: Tree) -> Tree:
            return (await convert([tree], row.api_version))[0]

        return across.Form(self.shape_of(row), converted)

    async def wrote_across(
        self, row: AnyResource, new: Tree, old: Tree | None, *, manager: str, version: str, subresource: str,
        now: datetime,
    ) -> None:  # fmt: skip
        """Set the owners of `new`, stored as `row`, that a write through `version` made; as `wrote` does."""
        if row.durability is Durability.VOLATILE:
            new["metadata"].pop("managedFields", None)
            return
        found = await across.updated(
            self._owners(new, old or {}), _bare(old or {}), _bare(new), forms=self.forms(row),
            who=Manager(managed.UPDATE, manager, version, subresource), now=timestamp(now),
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
