"""Follows APIServices: knows where each group version is served, and tells whether it can be reached."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from edgekube.api.errors import Expired, NotFound, StatusError
from edgekube.api.kinds.apiregistration_v1 import API_SERVICES
from edgekube.apiserver.aggregation.documents import Document, Documents
from edgekube.apiserver.aggregation.probe import LOCAL, Finding, Prober
from edgekube.apiserver.aggregation.remote import Remote, remote_of
from edgekube.apiserver.caches import Caches
from edgekube.apiserver.discovery import Extension
from edgekube.apiserver.identity import User
from edgekube.apiserver.registry.meta import timestamp, utcnow
from edgekube.apiserver.registry.parts import STATUS
from edgekube.apiserver.registry.registry import Action, Registry
from edgekube.apiserver.request import Tree
from edgekube.apiserver.route import Target
from edgekube.store.base import StoreUnavailable

log = logging.getLogger(__name__)

SELF = User("system:apiserver", ("system:masters",))
AGAIN_SECONDS, SOON_SECONDS = 20.0, 1.0
"""Until an extension server is asked again: one that answered, one that did not."""
DOCUMENT_SECONDS = 60.0
"""Until its OpenAPI is read again, while what it serves does not change."""
OPEN_API = "/openapi/v3"


@dataclass(slots=True)
class Extended:
    """An extension server and what was last found of it."""

    remote: Remote
    finding: Finding | None = None
    resources: Sequence[Tree] = ()
    document: Document | None = None
    """What its OpenAPI says, as last read."""
    looked: float = 0.0
    """When that was (the loop's clock); 0: never."""


class Aggregation:
    """The extension servers there are."""

    def __init__(
        self, caches: Caches, registry: Registry, prober: Prober, *, deleted: Callable[[], None]
    ) -> None:
        self._caches, self._registry, self._prober = caches, registry, prober
        self._documents = Documents(prober)
        self._deleted = deleted
        self._extended: dict[tuple[str, str], Extended] = {}
        self._probing: dict[str, asyncio.Task[None]] = {}
        self.generation = 0
        """Counts changes of what is served."""

    def __len__(self) -> int:
        return len(self._extended)

    def find(self, path: str) -> Extended | None:
        """Return who serves `/apis/<group>/<version>…`, or its OpenAPI document; None: this server."""
        parts = path.removeprefix(OPEN_API).split("/", 4)
        if len(parts) < 4 or parts[1] != "apis":
            return None
        found = self._extended.get((parts[2], parts[3]))
        if found is not None and found.document and found.document.whole and path.startswith(OPEN_API):
            # It has none of its own: ours is made of the older one it has.
            return None
        return found

    def documents(self) -> Sequence[Document]:
        """Return what is known of their OpenAPI."""
        return [extended.document for extended in self._extended.values() if extended.document is not None]

    def extensions(self) -> Sequence[Extension]:
        """Return what discovery shows."""
        return [
            Extension(
                group=group,
                version=version,
                resources=tuple(extended.resources),
                fresh=extended.finding is not None and extended.finding.available,
            )
            for (group, version), extended in self._extended.items()
        ]

    async def load(self) -> None:
        """Know the extension servers before the first request."""
        for api_service in await self._registry.storage.all(API_SERVICES):
            self._note(api_service)

    async def run(self) -> None:
        """Follow the APIServices until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                with suppress(Expired):
                    await self._follow(group)

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        cache = await self._caches.fresh(API_SERVICES)
        with cache.watch(None) as watcher:
            for key, extended in tuple(self._extended.items()):
                # It went while nobody watched.
                if cache.get("", extended.remote.name) is None:
                    self._lose(key, extended.remote.name)
            async for event in watcher:
                api_service = msgspec.json.decode(event.entry.raw)
                if event.type.value == "DELETED":
                    self._forget(api_service)
                    self._deleted()
                    continue
                if not self._note(api_service):
                    await self._local(api_service)
                    continue
                task = self._probing.get(event.entry.name)
                if task is None or task.done():
                    name = event.entry.name
                    self._probing[name] = group.create_task(self._watch_over(name), name=f"probe-{name}")

    def _note(self, api_service: Tree) -> bool:
        """Remember where a group version is served; False when it is here."""
        remote = remote_of(api_service)
        if remote is None:
            self._forget(api_service)
            return False
        key = (remote.group, remote.version)
        before = self._extended.get(key)
        if before is None or before.remote != remote:
            self._extended[key] = Extended(
                remote,
                None,
                before.resources if before else (),
                before.document if before else None,
            )
            self.generation += 1
            self._stop(remote.name)
        return True

    def _forget(self, api_service: Tree) -> None:
        spec = api_service["spec"]
        self._lose((spec.get("group", ""), spec["version"]), api_service["metadata"]["name"])

    def _lose(self, key: tuple[str, str], name: str) -> None:
        self._stop(name)
        if self._extended.pop(key, None) is not None:
            self.generation += 1

    def _stop(self, name: str) -> None:
        if task := self._probing.pop(name, None):
            task.cancel()

    async def _watch_over(self, name: str) -> None:
        """Probe an extension server for as long as it is one."""
        while extended := next((one for one in self._extended.values() if one.remote.name == name), None):
            try:
                await self._probe(extended)
            except NotFound:
                return
            except (StatusError, StoreUnavailable) as error:
                log.warning("APIService %s: %s", name, error)
            except Exception:
                # One extension server that breaks us must not stop the others.
                log.exception("APIService %s", name)
            good = extended.finding is not None and extended.finding.available
            await asyncio.sleep(AGAIN_SECONDS if good else SOON_SECONDS)

    async def _probe(self, extended: Extended) -> None:
        finding = await self._prober.probe(extended.remote)
        before, extended.finding = extended.finding, finding
        if finding.resources is not None:
            extended.resources = finding.resources
        if before != finding:
            self.generation += 1
        await self._tell(extended.remote.name, finding)
        now = asyncio.get_running_loop().time()
        if finding.available and (before != finding or now - extended.looked >= DOCUMENT_SECONDS):
            extended.document = await self._documents.fetch(extended.remote, extended.document)
            extended.looked = now

    async def _local(self, api_service: Tree) -> None:
        try:
            await self._tell(api_service["metadata"]["name"], LOCAL)
        except (StatusError, StoreUnavailable) as error:
            log.warning("APIService %s: %s", api_service["metadata"]["name"], error)

    async def _tell(self, name: str, finding: Finding) -> None:
        """Write the condition, if it is another one."""
        target = Target(API_SERVICES, "", name, "status")
        stored = await self._registry.storage.find(API_SERVICES, target.key)
        if stored is None:
            return
        old = _available(stored)
        wished = finding.condition(old, timestamp(utcnow()))
        if old == wished:
            return

        def wish(tree: Tree) -> Tree:
            others = [
                c for c in (tree.get("status") or {}).get("conditions") or () if c["type"] != "Available"
            ]
            return {**tree, "status": {**(tree.get("status") or {}), "conditions": [*others, wished]}}

        await self._registry.change(Action(target=target, user=SELF), wish, part=STATUS)


def _available(api_service: Tree) -> Tree | None:
    conditions = (api_service.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition["type"] == "Available"), None)
