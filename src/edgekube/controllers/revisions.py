"""
The history of pod templates: ControllerRevisions (pkg/controller/history in Kubernetes).

A revision holds a strategic merge patch that brings the template back, which is what
`kubectl rollout undo` sends. StatefulSet and DaemonSet keep their history with these.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from edgekube.api.errors import AlreadyExists
from edgekube.api.kinds import apps_v1 as apps
from edgekube.api.resource import Key
from edgekube.api.types import apps_v1, core_v1, meta_v1
from edgekube.control.events import Described
from edgekube.control.index import Index
from edgekube.control.writer import Writer, metadata_patch
from edgekube.controllers.context import Context
from edgekube.controllers.hashing import hash_of
from edgekube.controllers.ownership import controller_of, owned_by, owner_or_namespace, take

LABEL = "controller-revision-hash"
DEFAULT_LIMIT = 10


class Templated(Protocol):
    """The part of a spec that revisions record."""

    @property
    def selector(self) -> meta_v1.LabelSelector:
        """Chooses pods and revisions."""
        ...

    @property
    def template(self) -> core_v1.PodTemplateSpec:
        """What is recorded."""
        ...

    @property
    def revision_history_limit(self) -> int | None:
        """How many old ones are kept; None means 10."""
        ...


class Owner(Described, Protocol):
    """A workload with revisions."""

    @property
    def spec(self) -> Templated:
        """Its template and selector."""
        ...


@dataclass(frozen=True, slots=True)
class History:
    """What the revisions of a workload should become."""

    current: apps_v1.ControllerRevision
    """That of the template as it is now; its `revision` number is the highest."""
    create: bool = False
    renumber: bool = False
    old: tuple[apps_v1.ControllerRevision, ...] = ()
    """The others, oldest first."""


def patch_of(template: core_v1.PodTemplateSpec) -> dict[str, Any]:
    """Return the patch that brings `template` back."""
    return {"spec": {"template": {**msgspec.to_builtins(template), "$patch": "replace"}}}


def template_of(revision: apps_v1.ControllerRevision) -> core_v1.PodTemplateSpec:
    """Return the template a revision recorded."""
    tree = {name: value for name, value in revision.data["spec"]["template"].items() if name != "$patch"}
    return msgspec.convert(tree, core_v1.PodTemplateSpec)


def plan(owner: Owner, known: Iterable[apps_v1.ControllerRevision], collisions: int) -> History:
    """Return the history once the template of now is its newest revision."""
    ordered = sorted(known, key=lambda r: (r.revision or 0, r.metadata.creation_timestamp, r.metadata.name))
    wish = msgspec.json.decode(msgspec.json.encode(patch_of(owner.spec.template)))
    number = (ordered[-1].revision or 0) + 1 if ordered else 1
    same = [revision for revision in ordered if revision.data == wish]
    if not same:
        return History(_new(owner, wish, number, collisions), create=True, old=tuple(ordered))
    found = same[-1]
    old = tuple(revision for revision in ordered if revision is not found)
    if found is ordered[-1]:
        return History(found, old=old)
    # A rollback: the old revision becomes the newest.
    return History(msgspec.structs.replace(found, revision=number), renumber=True, old=old)


def surplus(
    history: History, limit: int | None, live: Collection[str]
) -> Sequence[apps_v1.ControllerRevision]:
    """Return the oldest revisions over the limit that no pod (`live`: names) is of."""
    idle = [revision for revision in history.old if revision.metadata.name not in live]
    keep = DEFAULT_LIMIT if limit is None else limit
    return idle[: max(0, len(idle) - keep)]


def _new(owner: Owner, data: dict[str, Any], number: int, collisions: int) -> apps_v1.ControllerRevision:
    label = hash_of(msgspec.json.encode(data, order="deterministic"), collisions)
    selected = owner.spec.selector.match_labels
    return apps_v1.ControllerRevision(
        metadata=meta_v1.ObjectMeta(
            name=f"{owner.metadata.name}-{label}",
            namespace=owner.metadata.namespace,
            labels={
                **((owner.spec.template.metadata or meta_v1.ObjectMeta()).labels or selected),
                LABEL: label,
            },
            annotations=owner.metadata.annotations,
            owner_references=(owned_by(owner),),
        ),
        data=data,
        revision=number,
    )


class Revisions:
    """Reads and writes the ControllerRevisions of one kind of workload."""

    def __init__(self, context: Context) -> None:
        self.reader = context.informers.of(apps.CONTROLLER_REVISIONS)
        self._writer = Writer(context.client, self.reader)
        self._by_owner = Index(self.reader, owner_or_namespace)

    async def sync(self, owner: Owner, collisions: int, owners: Writer[Any]) -> tuple[History, int]:
        """Write the history of `owner`; return it and the count of name collisions."""
        candidates = (
            *self._by_owner.of(owner.metadata.uid),
            *self._by_owner.of(owner.metadata.namespace),
        )
        known = await take(owner, owner.spec.selector, candidates, owners=owners, objects=self._writer)
        history = plan(owner, known, collisions)
        if history.renumber:
            patch = metadata_patch(history.current.metadata.uid) | {"revision": history.current.revision}
            current = await self._writer.patch(_key(history.current), patch)
            return History(current, old=history.old), collisions
        while history.create:
            try:
                current = await self._writer.create(history.current)
            except AlreadyExists:
                existing = await self._writer.live(_key(history.current))
                if existing is not None and existing.data == history.current.data and _mine(existing, owner):
                    return History(existing, old=history.old), collisions
                collisions += 1
                history = plan(owner, known, collisions)
            else:
                return History(current, old=history.old), collisions
        return history, collisions

    async def truncate(self, owner: Owner, history: History, live: Collection[str]) -> None:
        """Delete what is over the limit."""
        for revision in surplus(history, owner.spec.revision_history_limit, live):
            await self._writer.delete(revision)


def _key(revision: apps_v1.ControllerRevision) -> Key:
    return Key(revision.metadata.namespace, revision.metadata.name)


def _mine(revision: apps_v1.ControllerRevision, owner: Owner) -> bool:
    reference = controller_of(revision)
    return reference is not None and reference.uid == owner.metadata.uid


def _owner_or_namespace(revision: apps_v1.ControllerRevision) -> Iterable[str]:
    reference = controller_of(revision)
    return [reference.uid if reference else revision.metadata.namespace]
