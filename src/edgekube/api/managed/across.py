"""
Owners whose fields are kept in several versions of a kind (KEP-555, "Versioning").

Each owner's set stays in the version it wrote through: to compare, objects are converted to that version,
never sets. Owners of a version that there is no more are forgotten, as structured-merge-diff does it.
"""

from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from dataclasses import dataclass

from edgekube.api.managed import sets
from edgekube.api.managed.entries import (
    BEFORE,
    SYSTEM,
    UPDATE,
    Applied,
    Manager,
    Managers,
    Owned,
    Tree,
    ownable,
    renewed,
    taken,
    versions_of,
    written,
)
from edgekube.api.managed.extract import Change, compare, fields_of
from edgekube.api.managed.merge import merge, remove
from edgekube.api.managed.shape import Shape


@dataclass(frozen=True, slots=True)
class Form:
    """One version of a kind; `convert` makes an object of it from one of any version."""

    shape: Shape
    convert: Callable[[Tree], Awaitable[Tree]]


Forms = Mapping[str, Form]
"""By apiVersion."""


async def updated(
    managers: Managers, old: Tree, new: Tree, *, forms: Forms, who: Manager, now: str, ignored: Container[str] = (),
) -> dict[Manager, Owned]:  # fmt: skip
    """Return the owners after an ordinary write through the version of `who`; see `entries.updated`."""
    if not managers and old.get("metadata", {}).get("uid"):
        return {}
    known = _known(managers, forms)
    changes = await _changes(old, new, {*versions_of(known), who.api_version}, forms)
    return written(known, changes, changes[who.api_version], who=who, now=now, ignored=ignored)


async def applied(
    managers: Managers, live: Tree, config: Tree, *, forms: Forms, who: Manager, version: str, now: str,
    force: bool, ignored: Container[str] = (),
) -> Applied:  # fmt: skip
    """Apply a configuration of `version`, which `live` is of too; see `entries.applied`."""
    shape = forms[version].shape
    wished = ownable(fields_of(config, shape, strict=True), ignored)
    config = {name: value for name, value in config.items() if f"f:{name}" not in ignored}
    found = _known(managers, forms)
    if not managers and live.get("metadata", {}).get("uid"):
        before = ownable(fields_of(live, shape), ignored)
        found[Manager(UPDATE, BEFORE, version)] = Owned(before, now, version)
    last = found.pop(who, None)
    merged = merge(live, config, shape)
    if last is not None:
        owners = [*found.values(), Owned(wished, now, version)]
        merged = await _pruned(merged, last, owners, version, forms)
    taken(found, await _changes(live, merged, versions_of(found), forms, here=version), force=force)
    if wished:
        found[who] = renewed(last, wished, version, now)
    return Applied(merged, found)


async def _pruned(merged: Tree, last: Owned, owners: Iterable[Owned], version: str, forms: Forms) -> Tree:
    """Return `merged` without what was applied the last time and nobody owns now."""
    owned: dict[str, sets.Fields] = {}
    for one in owners:
        owned[one.api_version] = sets.union(owned.get(one.api_version, {}), one.fields)
    at = last.api_version
    whole = await _in(merged, version, at, forms)
    kept = sets.union(owned.pop(at, {}), SYSTEM)
    pruned = remove(whole, last.fields, kept, forms[at].shape)
    for other in sorted(owned):
        # What somebody owns in another version comes back.
        shape = forms[other].shape
        full, rest = await _in(whole, at, other, forms), await _in(pruned, at, other, forms)
        there = fields_of(rest, shape)
        gone = sets.difference(fields_of(full, shape), there)
        if not gone:
            continue
        back = remove(full, gone, sets.union(sets.union(there, owned[other]), SYSTEM), shape)
        if back != rest:
            pruned = await _in(back, other, at, forms)
    return await _in(pruned, at, version, forms)


def _known(managers: Managers, forms: Forms) -> dict[Manager, Owned]:
    return {who: owned for who, owned in managers.items() if owned.api_version in forms}


async def _changes(
    old: Tree, new: Tree, versions: Iterable[str], forms: Forms, *, here: str = ""
) -> Mapping[str, Change]:
    """Return what changed, as each version sees it."""
    found = {}
    for version in versions:
        before = await _in(old, here, version, forms) if old else {}
        found[version] = compare(before, await _in(new, here, version, forms), forms[version].shape)
    return found


async def _in(tree: Tree, here: str, version: str, forms: Forms) -> Tree:
    return tree if here == version else await forms[version].convert(tree)
