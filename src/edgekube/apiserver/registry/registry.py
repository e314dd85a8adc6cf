"""
The registry: the one implementation of all writes, for every row of the scheme.

Decoded → normalised → stamped → the strategy's hooks → defaults → admission → validation →
written with optimistic locking. What differs between kinds is in tables (strategy, admission,
defaults, validation, parts).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from edgekube.api import defaults, validation
from edgekube.api.errors import BadRequest, Cause, NotFound, StatusError
from edgekube.api.resource import Key
from edgekube.api.schema import Normalised
from edgekube.apiserver.admission.base import Attributes, Chain
from edgekube.apiserver.cache import with_revision
from edgekube.apiserver.codec import Codec, encode
from edgekube.apiserver.identity import User
from edgekube.apiserver.managing import FieldManager
from edgekube.apiserver.registry import deletion, meta, problems
from edgekube.apiserver.registry.deletion import DeleteOptions
from edgekube.apiserver.registry.parts import MAIN, Part
from edgekube.apiserver.registry.storage import Storage, Stored
from edgekube.apiserver.registry.strategy import prepare_create, strategy_of
from edgekube.apiserver.registry.uids import Uids
from edgekube.apiserver.request import Tree
from edgekube.apiserver.route import Target
from edgekube.apiserver.versions import Versions
from edgekube.store.base import KeyExists, Mismatch

PATCH_TRIES = 5
UPDATE_TRIES = 100
NAME_TRIES = 8
REFUSED = (StatusError, KeyExists, Mismatch)
"""Errors after which it is certain that nothing was written."""
Wish = Callable[[Tree], Tree | Awaitable[Tree]]
"""From the stored form (with resourceVersion; may be changed) to the wished one."""


@dataclass(slots=True, kw_only=True)
class Action:
    """One write: on what, by whom, how."""

    target: Target
    user: User
    dry_run: bool = False
    validation: str = ""
    manager: str = "kube-apiserver"
    """Who owns what this write changes (fieldManager)."""
    version: str = ""
    """The apiVersion it is asked in, when that is not the stored one."""
    applied: bool = False
    """Whether the wished form says itself who owns what (server-side apply)."""
    reviewed: bool = False
    """Whether webhooks and policies have seen it in another form already."""
    warnings: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    """Annotations of the request's audit event."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a write answers with: the object as stored."""

    body: bytes
    created: bool = False
    gone: bool = False


class Registry:
    """All writes, and single reads."""

    def __init__(
        self, storage: Storage, codec: Codec, admission: Chain, *, now: Callable[[], datetime] = meta.utcnow,
        versions: Versions | None = None,
    ) -> None:  # fmt: skip
        self.storage = storage
        self.codec = codec
        self.admission = admission
        self.now = now
        self.fields = FieldManager(codec.schemas, versions)
        self._uids = Uids()

    async def get(self, target: Target) -> bytes:
        """Return the object; raises NotFound."""
        return (await self.stored(target)).body

    async def stored(self, target: Target) -> Stored:
        """Return the object with its revision; raises NotFound."""
        stored = await self.storage.read(target.row, target.key)
        if stored is None:
            raise problems.not_found(target.row, target.name)
        return stored

    async def create(self, action: Action, tree: Tree) -> Outcome:
        """Create; raises AlreadyExists, Invalid and what admission raises."""
        row = action.target.row
        found = self.codec.normalise(tree, row, action.validation, action.warnings)
        obj = found.tree
        _check_namespace(obj, action.target)
        generated = not obj["metadata"].get("name")
        if obj["metadata"].get("resourceVersion"):
            raise BadRequest("resourceVersion should not be set on objects to be created")
        meta.stamp_new(obj, action.target.namespace, uid=self._uids.draw(), now=self.now())
        defaults.apply(row, obj)
        prepare_create(row, obj)
        attributes = self._attributes("create", action, obj)
        try:
            await self.admission.admit(attributes)
            self._validate(action, found, validation.create(row, obj), attributes.missing)
            await self.admission.validate(attributes)
            if (owning := self._own(action, obj, None)) is not None:
                await owning
            stored = await self._insert(action, obj, tries=NAME_TRIES if generated else 1)
        except REFUSED:
            await attributes.settle(written=False)
            raise
        await attributes.settle(written=not action.dry_run)
        return Outcome(stored.body, created=True)

    async def _insert(self, action: Action, obj: Tree, *, tries: int) -> Stored:
        """Write a new object; a generated name that is taken is drawn again."""
        row, fields = action.target.row, obj["metadata"]
        for attempt in range(tries):
            if attempt:
                fields["name"] = meta.generated_name(fields["generateName"])
            key = Key(action.target.namespace, fields["name"])
            if action.dry_run:
                if await self.storage.read(row, key) is None:
                    return Stored(encode(obj), 0)
                continue
            try:
                return await self.storage.write(row, key, encode(obj), expected=0, durability=row.durability)
            except KeyExists:
                continue
        raise problems.already_exists(row, fields["name"])

    async def update(self, action: Action, tree: Tree, *, part: Part = MAIN) -> Outcome:
        """Replace; without resourceVersion whatever is there. Raises Conflict, NotFound, Invalid."""
        target = action.target
        _check_namespace(tree, target)
        sent = _fields(tree).get("name", "")
        if sent and sent != target.name:
            raise problems.wrong_name(sent, target.name)
        creates = part is MAIN and strategy_of(target.row).create_on_update
        if creates and await self.storage.read(target.row, target.key) is None:
            _fields(tree)["name"] = target.name
            return await self.create(action, tree)
        return await self.change(action, lambda _old: tree, part=part, tries=UPDATE_TRIES)

    async def change(
        self, action: Action, wish: Wish, *, part: Part = MAIN, tries: int = PATCH_TRIES
    ) -> Outcome:
        """Read, wish, write, again if somebody was faster; what changes nothing is not written."""
        target = action.target
        for _ in range(tries):
            stored = await self.stored(target)
            old = stored.tree()
            shown = stored.tree()
            shown["metadata"]["resourceVersion"] = str(stored.revision)
            wished = wish(shown)
            if not isinstance(wished, dict):
                wished = await wished
            self._check_identity(target, wished, old, stored)
            found = self.codec.normalise(wished, target.row, action.validation, action.warnings)
            try:
                return await self._replace(action, found, old, stored, part=part)
            except Mismatch:
                action.warnings.clear()
                # Lets the writer we lost against finish its own turn.
                await asyncio.sleep(0)
        raise problems.conflict(target.row, target.name)

    async def _replace(
        self, action: Action, found: Normalised, old: Tree, stored: Stored, *, part: Part
    ) -> Outcome:
        row, new = action.target.row, found.tree
        new["metadata"].pop("resourceVersion", None)
        meta.stamp_update(new, old)
        defaults.apply(row, new)
        part.prepare(row, new, old)
        attributes = self._attributes("update", action, new, old)
        try:
            await self.admission.admit(attributes, whole=part.admitted)
            if attributes.missing is not None:
                # A webhook changed it: what the write may not touch is put back, the generation counted.
                part.prepare(row, new, old)
            self._validate(action, found, part.validate(row, new, old), attributes.missing)
            await self.admission.validate(attributes, whole=part.admitted)
            outcome = await self._save(action, new, old, stored, part=part)
        except REFUSED:
            await attributes.settle(written=False)
            raise
        await attributes.settle(written=not action.dry_run)
        if outcome.gone and not action.dry_run:
            await self._settle_removed(action, new)
        return outcome

    async def _save(self, action: Action, new: Tree, old: Tree, stored: Stored, *, part: Part) -> Outcome:
        row, key = action.target.row, action.target.key
        gone = deletion.finished(row, new)
        if new == old and not gone:
            return Outcome(stored.body)
        if (owning := self._own(action, new, old)) is not None:
            await owning
        value = encode(new)
        if action.dry_run:
            return Outcome(with_revision(value, stored.revision), gone=gone)
        if gone:
            removed = await self.storage.remove(row, key, expected=stored.revision)
            return Outcome(with_revision(value, removed), gone=True)
        durability = part.durability(row)
        written = await self.storage.write(row, key, value, expected=stored.revision, durability=durability)
        return Outcome(written.body)

    def _own(self, action: Action, new: Tree, old: Tree | None) -> Awaitable[None] | None:
        """Note whose the changed fields are now; where versions must be compared, once that is awaited."""
        if action.applied:
            return None
        row, subresource, now = action.target.row, action.target.subresource, self.now()
        version = action.version or row.api_version
        if not self.fields.crosses(row, old, version):
            self.fields.wrote(row, new, old, manager=action.manager, subresource=subresource, now=now)
            return None
        return self.fields.wrote_across(
            row, new, old, manager=action.manager, version=version, subresource=subresource, now=now
        )

    async def delete(self, action: Action, options: DeleteOptions) -> Outcome:
        """Delete, or mark for deletion; raises NotFound or Conflict (preconditions)."""
        target = action.target
        for _ in range(UPDATE_TRIES):
            stored = await self.stored(target)
            old = stored.tree()
            _check_preconditions(target, options, old, stored)
            try:
                return await self._delete(action, options, old, stored)
            except Mismatch:
                await asyncio.sleep(0)
        raise problems.conflict(target.row, target.name)

    async def _delete(self, action: Action, options: DeleteOptions, old: Tree, stored: Stored) -> Outcome:
        row, key = action.target.row, action.target.key
        attributes = self._attributes("delete", action, old)
        attributes.dry_run = action.dry_run or options.dry_run
        await self.admission.admit(attributes)
        await self.admission.validate(attributes)
        verdict = deletion.plan(row, old, options, self.now())
        if action.dry_run or options.dry_run:
            return Outcome(stored.body, gone=verdict.remove)
        if verdict.remove:
            removed = await self.storage.remove(row, key, expected=stored.revision)
            await attributes.settle(written=True)
            return Outcome(with_revision(stored.body, removed), gone=True)
        if verdict.marked is None:
            return Outcome(stored.body)
        written = await self.storage.write(
            row, key, encode(verdict.marked), expected=stored.revision, durability=row.durability
        )
        return Outcome(written.body)

    async def delete_if_there(self, action: Action, target: Target, options: DeleteOptions) -> Outcome | None:
        """Delete one of a collection; None when it went meanwhile."""
        one = Action(target=target, user=action.user, dry_run=action.dry_run, warnings=action.warnings)
        try:
            return await self.delete(one, options)
        except NotFound:
            return None

    async def _settle_removed(self, action: Action, obj: Tree) -> None:
        """Tell admission that an update was the end of the object."""
        attributes = self._attributes("delete", action, obj)
        attributes.settling = True
        await self.admission.admit(attributes)
        await attributes.settle(written=True)

    def _attributes(self, verb: str, action: Action, obj: Tree, old: Tree | None = None) -> Attributes:
        return Attributes(
            verb=verb, target=action.target, obj=obj, old=old, user=action.user, dry_run=action.dry_run,
            warnings=action.warnings, notes=action.notes, reviewed=action.reviewed,
        )  # fmt: skip

    def _validate(
        self, action: Action, found: Normalised, causes: Sequence[Cause], missing: Sequence[Cause] | None
    ) -> None:
        row, name = action.target.row, found.tree["metadata"].get("name", "")
        if every := (*(found.missing if missing is None else missing), *causes):
            raise problems.invalid(row.kind, row.group, name, every)

    def _check_identity(self, target: Target, wished: Tree, old: Tree, stored: Stored) -> None:
        """Compare what the writer says it changes with what is stored."""
        fields = _fields(wished)
        _check_namespace(wished, target)
        if fields.setdefault("name", target.name) != target.name:
            raise problems.wrong_name(fields["name"], target.name)
        if target.namespace:
            fields["namespace"] = target.namespace
        version = fields.get("resourceVersion") or ""
        if version not in {"", "0", str(stored.revision)}:
            raise problems.conflict(target.row, target.name)
        if not version and not strategy_of(target.row).unconditional:
            message = "Invalid value: 0x0: must be specified for an update"
            cause = Cause("FieldValueInvalid", message, "metadata.resourceVersion")
            raise problems.invalid(target.row.kind, target.row.group, target.name, [cause])
        uid = fields.get("uid")
        if uid and uid != old["metadata"]["uid"]:
            raise problems.precondition(target.row, target.name, uid, old["metadata"]["uid"])


def _fields(tree: Tree) -> Tree:
    """Return the metadata of a tree that no schema has seen yet; raises BadRequest."""
    fields = tree.get("metadata")
    if fields is None:
        fields = tree["metadata"] = {}
    if not isinstance(fields, dict):
        raise BadRequest("metadata: must be an object")
    return fields


def _check_namespace(tree: Tree, target: Target) -> None:
    sent = _fields(tree).get("namespace")
    if sent and target.row.namespaced and sent != target.namespace:
        raise problems.wrong_namespace()


def _check_preconditions(target: Target, options: DeleteOptions, old: Tree, stored: Stored) -> None:
    if options.uid and options.uid != old["metadata"]["uid"]:
        raise problems.precondition(target.row, target.name, options.uid, old["metadata"]["uid"])
    if options.resource_version and options.resource_version != str(stored.revision):
        why = (
            f"Precondition failed: ResourceVersion in precondition: {options.resource_version}, "
            f"ResourceVersion in object meta: {stored.revision}"
        )
        raise problems.conflict(target.row, target.name, why)
