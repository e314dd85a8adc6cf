"""Emptying a Namespace that is being deleted, pods first (KEP-5080), then letting it go."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from edgekube.api.errors import Conflict, MethodNotAllowed, NotFound, StatusError
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import AnyResource, Key, Resource, key_of
from edgekube.api.types import core_v1, meta_v1
from edgekube.client.typed import Client
from edgekube.control.clock import stamp
from edgekube.control.reconcile import Controller
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context

FINALIZER = "kubernetes"
AGAIN = 1.0
"""Seconds until the next look while something is left."""
PAGE = 500


class Partial(msgspec.Struct, frozen=True):
    """Any object, metadata only."""

    metadata: meta_v1.ObjectMeta = meta_v1.ObjectMeta()


@dataclass(slots=True)
class Left:
    """What is still there: objects by resource, objects by finalizer, and what went wrong."""

    objects: Counter[str] = field(default_factory=Counter)
    finalizers: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


def conditions(
    old: Sequence[core_v1.NamespaceCondition], left: Left, now: float
) -> tuple[core_v1.NamespaceCondition, ...]:
    """Return the conditions that tell what holds the deletion up, in Kubernetes' words."""
    known = {condition.type: condition for condition in old}
    for kind, status, reason, message in _verdicts(left):
        before = known.get(kind)
        if before and (before.status, before.reason, before.message) == (status, reason, message):
            continue
        known[kind] = core_v1.NamespaceCondition(
            type=kind, status=status, reason=reason, message=message, last_transition_time=stamp(now)
        )
    return tuple(known.values())


def _verdicts(left: Left) -> Iterator[tuple[str, str, str, str]]:
    """Yield type, status, reason and message."""
    content = ", ".join(
        f"{name} has {count} resource instances" for name, count in sorted(left.objects.items())
    )
    holds = ", ".join(
        f"{name} in {count} resource instances" for name, count in sorted(left.finalizers.items())
    )
    good = "All content successfully deleted, may be waiting on finalization"
    rows = (
        ("NamespaceDeletionContentFailure", "; ".join(left.errors), "ContentDeletionFailed", "ContentDeleted", good),
        (
            "NamespaceContentRemaining", content and f"Some resources are remaining: {content}",
            "SomeResourcesRemain", "ContentRemoved", "All content successfully removed",
        ),
        (
            "NamespaceFinalizersRemaining",
            holds and f"Some content in the namespace has finalizers remaining: {holds}",
            "SomeFinalizersRemain", "ContentHasNoFinalizers", "All content-preserving finalizers finished",
        ),
    )  # fmt: skip
    for kind, trouble, bad_reason, good_reason, fine in rows:
        yield (kind, "True", bad_reason, trouble) if trouble else (kind, "False", good_reason, fine)


class Namespaces:
    """Empty and finalize Namespaces."""

    def __init__(self, context: Context) -> None:
        self.namespaces = context.informers.of(core.NAMESPACES)
        self._writer = Writer(context.client, self.namespaces)
        self._client: Client = context.client
        self._scheme, self._clock = context.options.scheme, context.clock

    async def reconcile(self, key: Key) -> float | None:
        """Delete what is in a Namespace that is going."""
        found = self.namespaces.get(key)
        if found is None or not found.metadata.deletion_timestamp or FINALIZER not in found.spec.finalizers:
            return None
        left = await self._empty(key.name)
        if not left.objects and not left.errors:
            rest = tuple(name for name in found.spec.finalizers if name != FINALIZER)
            spec = core_v1.NamespaceSpec(finalizers=rest)
            await self._client.update(
                core.NAMESPACES, msgspec.structs.replace(found, spec=spec), subresource="finalize"
            )
            return None
        wish = conditions(found.status.conditions, left, self._clock())
        if wish != found.status.conditions:
            status = msgspec.structs.replace(found.status, conditions=wish)
            await self._writer.update(msgspec.structs.replace(found, status=status), subresource="status")
        return AGAIN

    async def _empty(self, namespace: str) -> Left:
        left = Left()
        rows = [row for row in self._scheme if row.namespaced and {"list", "delete"} <= set(row.verbs)]
        rows.sort(key=lambda row: row.group_resource != "pods")
        for row in rows:
            try:
                await self._clear(row, namespace, left)
            except (NotFound, MethodNotAllowed):
                continue
            except StatusError as error:
                left.errors.append(f"{row.group_resource}: {error}")
            if row.group_resource == "pods" and left.objects:
                # Pods may need what else is there to end well.
                break
        return left

    async def _clear(self, row: AnyResource, namespace: str, left: Left) -> None:
        partial: Resource[Partial] = replace(row, type=Partial)
        page = await self._client.list(partial, namespace=namespace, limit=PAGE)
        if not page.items:
            return
        if "deletecollection" in row.verbs:
            await self._client.delete_collection(row, namespace=namespace)
        else:
            for item in page.items:
                try:
                    await self._client.delete(partial, key_of(item), uid=item.metadata.uid)
                except (NotFound, Conflict):
                    continue
        rest = (await self._client.list(partial, namespace=namespace, limit=PAGE)).items
        if rest:
            left.objects[row.group_resource] += len(rest)
        for item in rest:
            left.finalizers.update(item.metadata.finalizers)


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = Namespaces(context)
    controller = Controller("namespace", logic, workers=2)
    controller.watch(logic.namespaces, lambda namespace: [key_of(namespace)])
    return controller
