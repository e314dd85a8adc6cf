"""Who owns which fields: metadata.managedFields, and what a write does to it (KEP-555). Pure."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgekube.api.managed import sets
from edgekube.api.managed.extract import Change, compare, fields_of
from edgekube.api.managed.merge import merge, remove
from edgekube.api.managed.sets import Fields
from edgekube.api.managed.shape import Shape
from edgekube.lib.errors import EdgekubeError

Tree = dict[str, Any]
APPLY, UPDATE = "Apply", "Update"
MOST_UPDATES = 10
ANCIENT, BEFORE = "ancient-changes", "before-first-apply"
FORMAT = "FieldsV1"
SYSTEM: Fields = {
    "f:apiVersion": {}, "f:kind": {},
    "f:metadata": {
        ".": {}, "f:name": {}, "f:namespace": {}, "f:creationTimestamp": {}, "f:selfLink": {}, "f:uid": {},
        "f:generation": {}, "f:managedFields": {}, "f:resourceVersion": {},
    },
}  # fmt: skip
"""What the server itself sets, and nobody owns."""


class BadEntries(EdgekubeError):
    """Entries of metadata.managedFields that cannot be read."""


@dataclass(frozen=True, slots=True, order=True)
class Manager:
    """Who: a name, how it writes, through which version (if it does not apply) and subresource."""

    operation: str
    name: str
    api_version: str = ""
    """"" for those that apply: they are the same through every version."""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Owned:
    """What a manager owns, and since when (RFC 3339) in this extent."""

    fields: Fields
    time: str
    api_version: str


Managers = Mapping[Manager, Owned]


@dataclass(frozen=True, slots=True)
class Conflict:
    """A field that an apply would take from somebody."""

    manager: Manager
    path: sets.Path


class Conflicts(EdgekubeError):
    """An apply without force meets fields of others."""

    def __init__(self, found: Sequence[Conflict]) -> None:
        super().__init__(f"{len(found)} conflicts")
        self.found = found


def decode(entries: Sequence[Tree]) -> dict[Manager, Owned]:
    """Read metadata.managedFields; raises BadEntries."""
    found: dict[Manager, Owned] = {}
    for entry in entries:
        operation, version, fields = (
            entry.get("operation"),
            entry.get("apiVersion"),
            entry.get("fieldsV1", {}),
        )
        good = operation in {APPLY, UPDATE} and version and entry.get("fieldsType") == FORMAT
        if not good or not _well_formed(fields):
            raise BadEntries(f"invalid managedFields entry of {entry.get('manager')!r}")
        who = manager(str(operation), entry.get("manager", ""), str(version), entry.get("subresource", ""))
        found[who] = Owned(fields, entry.get("time") or "", str(version))
    return found


def manager(operation: str, name: str, api_version: str, subresource: str = "") -> Manager:
    """Return who writes through `api_version`."""
    return Manager(operation, name, "" if operation == APPLY else api_version, subresource)


def _well_formed(fields: Any) -> bool:
    return isinstance(fields, dict) and all(
        (key == sets.SELF or key[:2] in {"f:", "k:", "v:", "i:"}) and _well_formed(below)
        for key, below in fields.items()
    )


def encode(managers: Managers) -> list[Tree]:
    """Return the entries, those that apply first, then by age."""
    entries = []
    for who in sorted(
        managers, key=lambda m: (m.operation, managers[m].time, m.name, m.api_version, m.subresource)
    ):
        owned = managers[who]
        entry: Tree = {
            "manager": who.name, "operation": who.operation, "apiVersion": owned.api_version, "time": owned.time,
            "fieldsType": FORMAT, "fieldsV1": owned.fields,
        }  # fmt: skip
        if not owned.time:
            del entry["time"]
        if who.subresource:
            entry["subresource"] = who.subresource
        entries.append(entry)
    return entries


# `ignored` are top-level elements (`f:status`) that a write of this kind leaves alone.


def updated(
    managers: Managers,
    old: Tree,
    new: Tree,
    *,
    shape: Shape,
    who: Manager,
    now: str,
    ignored: Container[str] = (),
) -> dict[Manager, Owned]:
    """Return the owners after an ordinary write: what it changed is the writer's alone."""
    if not managers and old.get("metadata", {}).get("uid"):
        # Nobody kept track so far, or a client wished that: the first apply begins.
        return {}
    change = compare(old, new, shape)
    return written(
        managers, dict.fromkeys(versions_of(managers), change), change, who=who, now=now, ignored=ignored
    )


def versions_of(managers: Managers) -> set[str]:
    """Return the versions that owners' fields are kept in."""
    return {owned.api_version for owned in managers.values()}


def written(
    managers: Managers, changes: Mapping[str, Change], change: Change, *, who: Manager, now: str,
    ignored: Container[str] = (),
) -> dict[Manager, Owned]:  # fmt: skip
    """Return the owners after an ordinary write that is `change`, or `changes` in the version of each owner."""
    changed = ownable(change.changed, ignored)
    if not changed and not change.removed and not any(changes.values()):
        return dict(managers)
    found: dict[Manager, Owned] = {}
    for other, owned in managers.items():
        theirs = changes[owned.api_version]
        left = sets.difference(owned.fields, theirs.removed)
        if other != who:
            left = sets.difference(left, ownable(theirs.changed, ignored))
        if left:
            found[other] = owned if left == owned.fields else Owned(left, owned.time, owned.api_version)
    before = found.get(who)
    mine = sets.union(before.fields, changed) if before else changed
    if mine and (before is None or mine != before.fields or change):
        found[who] = Owned(sets.ordered(mine), now, who.api_version)
    return _capped(found)


def ownable(fields: Fields, ignored: Container[str]) -> Fields:
    """Leave out what the server sets, and whole top-level fields that this kind of write does not touch."""
    return sets.difference({k: v for k, v in fields.items() if k not in ignored}, SYSTEM)


def _capped(managers: dict[Manager, Owned]) -> dict[Manager, Owned]:
    """Keep the newest updaters; what the oldest ones own goes to one that stands for all of them."""
    updaters = sorted(
        (m for m in managers if m.operation == UPDATE), key=lambda m: (managers[m].time, m.name)
    )
    surplus = len(updaters) - MOST_UPDATES
    if surplus <= 0:
        return managers
    found = dict(managers)
    known = any(m.name == ANCIENT for m in updaters)
    for old in [m for m in updaters if m.name != ANCIENT][: surplus + (not known)]:
        ancient = Manager(UPDATE, ANCIENT, old.api_version)
        owned = found.pop(old)
        kept = found.get(ancient)
        fields = sets.union(kept.fields, owned.fields) if kept else owned.fields
        found[ancient] = Owned(fields, max(owned.time, kept.time if kept else ""), owned.api_version)
    return found


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply leads to."""

    tree: Tree
    managers: Managers


def applied(
    managers: Managers,
    live: Tree,
    config: Tree,
    *,
    shape: Shape,
    who: Manager,
    version: str,
    now: str,
    force: bool,
    ignored: Container[str] = (),
) -> Applied:
    """Apply a configuration; raises Conflicts, and Untyped for fields the schema does not know."""
    wished = ownable(fields_of(config, shape, strict=True), ignored)
    config = {name: value for name, value in config.items() if f"f:{name}" not in ignored}
    found = dict(managers)
    if not found and live.get("metadata", {}).get("uid"):
        # Somebody made it before anybody kept track: what is there is not up for grabs.
        before = ownable(fields_of(live, shape), ignored)
        found[Manager(UPDATE, BEFORE, version)] = Owned(before, now, version)
    last = found.pop(who, None)
    merged = merge(live, config, shape)
    if last is not None:
        owned: Fields = wished
        for rest in found.values():
            owned = sets.union(owned, rest.fields)
        merged = remove(merged, last.fields, sets.union(owned, SYSTEM), shape)
    change = compare(live, merged, shape)
    taken(found, dict.fromkeys(versions_of(found), change), force=force)
    if wished:
        found[who] = renewed(last, wished, version, now)
    return Applied(merged, found)


def renewed(last: Owned | None, wished: Fields, version: str, now: str) -> Owned:
    """Return what an applier owns now; the same as before when nothing is different."""
    if last is not None and last.fields == wished and last.api_version == version:
        return last
    return Owned(sets.ordered(wished), now, version)


def taken(found: dict[Manager, Owned], changes: Mapping[str, Change], *, force: bool) -> None:
    """Take what an apply changed, in the version of each owner, from the owners; raises Conflicts."""
    new = {version: sets.difference(change.changed, SYSTEM) for version, change in changes.items()}
    conflicts = [
        Conflict(other, path)
        for other, mine in sorted(found.items())
        for path in sets.paths(sets.intersection(mine.fields, new[mine.api_version]))
    ]
    if conflicts and not force:
        raise Conflicts(conflicts)
    for loser, mine in list(found.items()):
        left = sets.difference(
            sets.difference(mine.fields, new[mine.api_version]), changes[mine.api_version].removed
        )
        if not left:
            del found[loser]
        elif left != mine.fields:
            found[loser] = Owned(left, mine.time, mine.api_version)
