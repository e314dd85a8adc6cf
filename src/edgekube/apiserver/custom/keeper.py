"""Follows CustomResourceDefinitions: judges names, serves what is established, cleans up what is deleted."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import msgspec

from edgekube.api.cel import compiled_rules
from edgekube.api.custom import OPEN, Rules
from edgekube.api.errors import Expired, NotFound, StatusError
from edgekube.api.kinds.apiextensions_v1 import CUSTOM_RESOURCE_DEFINITIONS as DEFINITIONS
from edgekube.api.resource import AnyResource, Key
from edgekube.api.scheme import Scheme
from edgekube.api.structural import lean
from edgekube.apiserver.caches import Caches
from edgekube.apiserver.custom import names
from edgekube.apiserver.custom.rows import fingerprint, rows_of, storage_version
from edgekube.apiserver.identity import User
from edgekube.apiserver.registry.deletion import DeleteOptions
from edgekube.apiserver.registry.meta import timestamp, utcnow
from edgekube.apiserver.registry.parts import STATUS
from edgekube.apiserver.registry.registry import Action, Registry
from edgekube.apiserver.request import Tree
from edgekube.apiserver.route import Target
from edgekube.apiserver.versions import Convert, Versions, View, relabelled, unconverted
from edgekube.store.base import StoreUnavailable

log = logging.getLogger(__name__)

SELF = User("system:apiserver", ("system:masters",))
CLEANUP_SECONDS = 1.0
"""Until a definition that still has objects is looked at again."""

Compile = Callable[[Tree], Mapping[str, Rules]]
"""Returns the CEL rules of a definition's versions."""


def compiled(definition: Tree) -> Mapping[str, Rules]:
    """Compile the rules of every version that has any."""
    found = {}
    for version in definition["spec"]["versions"]:
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if schema and (rules := compiled_rules(lean(schema))) is not None:
            found[version["name"]] = rules
    return found


Converter = Callable[[Tree], Convert]
"""Returns the conversion of a definition with strategy Webhook."""


@dataclass(frozen=True, slots=True)
class _Served:
    """What is served of a definition."""

    rows: Sequence[AnyResource]
    print: bytes


class Definitions:
    """Keeps the scheme, the caches and the views as the definitions say."""

    def __init__(
        self, scheme: Scheme, caches: Caches, versions: Versions, registry: Registry, *,
        compile_rules: Compile = compiled, converter: Converter | None = None,
    ) -> None:  # fmt: skip
        self._scheme, self._caches, self._versions, self._registry = scheme, caches, versions, registry
        self._compile, self._converter = compile_rules, converter
        self._served: dict[str, _Served] = {}
        self._cleaning: set[str] = set()

    async def load(self) -> None:
        """Serve what is established already, before the first request."""
        for definition in await self._registry.storage.all(DEFINITIONS):
            if names.established(definition):
                await self._serve(definition)

    def schema_of(self, row: AnyResource) -> Tree:
        """Return a version's schema as its definition has it, with its texts."""
        entry = self._caches.of(DEFINITIONS).get("", f"{row.plural}.{row.group}")
        versions = msgspec.json.decode(entry.raw)["spec"]["versions"] if entry else ()
        for version in versions:
            if version["name"] == row.version:
                schema: Tree = (version.get("schema") or {}).get("openAPIV3Schema") or OPEN
                return schema
        return OPEN

    async def run(self) -> None:
        """Follow the definitions until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    await self._follow(group)
                except Expired:
                    continue

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        cache = await self._caches.fresh(DEFINITIONS)
        with cache.watch(None) as watcher:
            async for event in watcher:
                name = event.entry.name
                if event.type.value == "DELETED":
                    self._drop(name)
                    continue
                try:
                    await self._changed(msgspec.json.decode(event.entry.raw), group)
                except (StatusError, StoreUnavailable) as error:
                    # Somebody was faster, or the store is away: the next change or start sees to it.
                    log.warning("definition %s: %s", name, error)
                except Exception:
                    # One definition that breaks us must not stop the others.
                    log.exception("definition %s", name)

    async def _changed(self, definition: Tree, group: asyncio.TaskGroup) -> None:
        meta = definition["metadata"]
        if "deletionTimestamp" in meta:
            if names.FINALIZER in (meta.get("finalizers") or ()) and meta["name"] not in self._cleaning:
                self._cleaning.add(meta["name"])
                group.create_task(self._clean(meta["name"]), name=f"cleanup-{meta['name']}")
            return
        status = definition.get("status") or {}
        wish = names.judged(definition, self._others(meta["name"]), timestamp(utcnow()))
        definition = {**definition, "status": {**status, **wish}}
        if names.established(definition):
            # Served before anybody is told so.
            await self._serve(definition)
        if definition["status"] != status:
            await self._write_status(meta["name"], definition["status"])

    def _others(self, name: str) -> Sequence[AnyResource]:
        own = {id(row) for row in (self._served[name].rows if name in self._served else ())}
        return [row for row in self._scheme if id(row) not in own]

    async def _serve(self, definition: Tree) -> None:
        name, mark = definition["metadata"]["name"], fingerprint(definition)
        before = self._served.get(name)
        if before is not None and before.print == mark:
            return
        rules = self._compile(definition)
        rows = rows_of(definition, rules=rules)
        if "deletionTimestamp" in definition["metadata"]:
            rows = [replace(row, verbs=tuple(verb for verb in row.verbs if verb != "create")) for row in rows]
        storage = self._storage_row(definition, rules)
        await self._caches.serve(storage)
        for row in before.rows if before else ():
            if all((row.group, row.version, row.plural) != (r.group, r.version, r.plural) for r in rows):
                self._scheme.remove(row)
                self._versions.drop(row)
        self._view(definition, rows, storage)
        for row in rows:
            self._scheme.replace(row)
        self._served[name] = _Served(rows, mark)

    @staticmethod
    def _storage_row(definition: Tree, rules: Mapping[str, Rules]) -> AnyResource:
        """Return the row objects are kept by, whether that version is served or not."""
        stored = storage_version(definition)
        every = [{**version, "served": True} for version in definition["spec"]["versions"]]
        rows = rows_of({**definition, "spec": {**definition["spec"], "versions": every}}, rules=rules)
        return next(row for row in rows if row.version == stored)

    def _view(self, definition: Tree, rows: Sequence[AnyResource], storage: AnyResource) -> None:
        single = len(definition["spec"]["versions"]) == 1
        stored = (definition.get("status") or {}).get("storedVersions") or ()
        if single and set(stored) <= {storage.version}:
            for row in rows:
                self._versions.drop(row)
            return
        convert: Convert = relabelled
        if definition["spec"].get("conversion", {}).get("strategy") == "Webhook":
            convert = self._converter(definition) if self._converter else unconverted
        for row in rows:
            self._versions.put(View(row, storage, convert))

    def _drop(self, name: str) -> None:
        served = self._served.pop(name, None)
        for row in served.rows if served else ():
            self._scheme.remove(row)
            self._versions.drop(row)
            self._caches.drop(row)

    async def _clean(self, name: str) -> None:
        """Delete every object of a definition that is going, then let it go."""
        try:
            while True:
                if await self._cleaned(name):
                    break
                await asyncio.sleep(CLEANUP_SECONDS)
        finally:
            self._cleaning.discard(name)

    async def _cleaned(self, name: str) -> bool:
        try:
            definition = await self._registry.storage.find(DEFINITIONS, Key("", name))
            if definition is None or "deletionTimestamp" not in definition["metadata"]:
                return True
            left = await self._delete_objects(definition)
            now, status = timestamp(utcnow()), definition.get("status") or {}
            if left:
                text = f"CustomResource deletion is in progress: {left} left"
                wish = names.terminating(status, "InstanceDeletionInProgress", text, now)
                if wish != status:
                    await self._write_status(name, wish)
                return False
            await self._release(name)
        except NotFound:
            return True
        except (StatusError, StoreUnavailable) as error:
            log.warning("cleaning up after %s: %s", name, error)
            return False
        return True

    async def _delete_objects(self, definition: Tree) -> int:
        """Return how many are left, those with finalizers."""
        name = definition["metadata"]["name"]
        if name not in self._served:
            return 0
        await self._serve(definition)
        row = self._storage_row(definition, {})
        for obj in await self._registry.storage.all(row):
            meta = obj["metadata"]
            target = Target(row, meta.get("namespace", ""), meta["name"])
            with suppress(NotFound):
                await self._registry.delete(Action(target=target, user=SELF), DeleteOptions())
        return len(list(await self._registry.storage.all(row)))

    async def _release(self, name: str) -> None:
        def released(tree: Tree) -> Tree:
            meta = tree["metadata"]
            meta["finalizers"] = [f for f in meta.get("finalizers") or () if f != names.FINALIZER]
            return tree

        await self._registry.change(Action(target=Target(DEFINITIONS, "", name), user=SELF), released)

    async def _write_status(self, name: str, status: Tree) -> None:
        def wish(tree: Tree) -> Tree:
            return {**tree, "status": {**(tree.get("status") or {}), **status}}

        target = Target(DEFINITIONS, "", name, "status")
        await self._registry.change(Action(target=target, user=SELF), wish, part=STATUS)
