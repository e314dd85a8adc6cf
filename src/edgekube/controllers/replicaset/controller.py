"""
The ReplicaSet loop, which is the ReplicationController loop as well.

A ReplicationController is a ReplicaSet whose selector is a plain map: `Form` shows either as a ReplicaSet.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from edgekube.api.errors import Forbidden, StatusError
from edgekube.api.kinds import apps_v1 as apps
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key, Object, Resource, key_of
from edgekube.api.types import apps_v1, core_v1
from edgekube.control.index import Index
from edgekube.control.reconcile import Controller
from edgekube.control.selectors import empty, matches
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context
from edgekube.controllers.ownership import controller_of, owner_keys, owner_or_namespace, take
from edgekube.controllers.replicaset import replication
from edgekube.controllers.replicaset.plan import Plan, failed, new_pod, plan, succeeded

WORKERS = 4


T = TypeVar("T", bound=Object)


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """One kind that this loop serves."""

    resource: Resource[T]
    kind: str
    view: Callable[[T], apps_v1.ReplicaSet]
    status: Callable[[T, apps_v1.ReplicaSetStatus], T]
    """Return the object with that status."""


class ReplicaSets(Generic[T]):
    """Keep as many pods of each ReplicaSet (or ReplicationController) as it asks for."""

    def __init__(self, context: Context, form: Form[T]) -> None:
        self.sets = context.informers.of(form.resource)
        self.pods = context.informers.of(core.PODS)
        self._form = form
        self._set_writer = Writer(context.client, self.sets)
        self._pod_writer = Writer(context.client, self.pods)
        self._clock = context.clock
        self._events = context.events.recorder(f"{form.kind.lower()}-controller")
        self._by_owner = Index(self.pods, owner_or_namespace)
        self._families = Index(self.sets, lambda rs: [ref.uid for ref in [controller_of(rs)] if ref])
        self._in_namespace = Index(self.sets, lambda rs: [rs.metadata.namespace])

    def keys_of_pod(self, pod: core_v1.Pod) -> Iterable[Key]:
        """Return the sets a pod matters to."""
        if controller_of(pod) is not None:
            return owner_keys(pod, self._form.kind)
        namesakes = self._in_namespace.of(pod.metadata.namespace)
        return [
            key_of(s) for s in namesakes if matches(self._form.view(s).spec.selector, pod.metadata.labels)
        ]

    async def reconcile(self, key: Key) -> float | None:
        """Bring one ReplicaSet nearer to its spec."""
        stored = self.sets.get(key)
        if stored is None or empty((found := self._form.view(stored)).spec.selector):
            return None
        candidates = (*self._by_owner.of(found.metadata.uid), *self._by_owner.of(found.metadata.namespace))
        pods = await take(
            found, found.spec.selector, candidates, owners=self._set_writer, objects=self._pod_writer
        )
        decided = plan(found, pods, self._related(found), self._clock())
        try:
            await self._manage(found, decided)
        except ExceptionGroup as group:
            error = group.exceptions[0]
            if isinstance(error, StatusError):
                await self._failed(stored, decided, error)
            raise error from group
        # What was made or deleted comes back through the cache and is counted then.
        if not (decided.create or decided.delete):
            await self._write(stored, succeeded(decided.status))
        return decided.again

    def _related(self, owner: apps_v1.ReplicaSet) -> Iterable[core_v1.Pod]:
        reference = controller_of(owner)
        family = self._families.of(reference.uid) if reference else (owner,)
        return [pod for member in family for pod in self._by_owner.of(member.metadata.uid)]

    async def _manage(self, owner: apps_v1.ReplicaSet, decided: Plan) -> None:
        batch, left = 1, decided.create
        while left > 0:
            # Doubling batches: a template the API refuses costs one refusal, not hundreds.
            size = min(batch, left)
            async with asyncio.TaskGroup() as group:
                for _ in range(size):
                    group.create_task(self._create(owner))
            left, batch = left - size, batch * 2
        async with asyncio.TaskGroup() as group:
            for pod in decided.delete:
                group.create_task(self._delete(owner, pod))

    async def _create(self, owner: apps_v1.ReplicaSet) -> None:
        pod = await self._pod_writer.create(new_pod(owner))
        self._events.normal(owner, "SuccessfulCreate", f"Created pod: {pod.metadata.name}")

    async def _delete(self, owner: apps_v1.ReplicaSet, pod: core_v1.Pod) -> None:
        if await self._pod_writer.delete(pod):
            self._events.normal(owner, "SuccessfulDelete", f"Deleted pod: {pod.metadata.name}")

    async def _failed(self, owner: T, decided: Plan, error: StatusError) -> None:
        reason, verb = ("FailedCreate", "creating") if decided.create else ("FailedDelete", "deleting")
        message = str(error)
        if _namespace_ending(error):
            return
        self._events.warning(self._form.view(owner), reason, f"Error {verb}: {message}")
        await self._write(owner, failed(decided.status, reason=reason, message=message, now=self._clock()))

    async def _write(self, owner: T, status: apps_v1.ReplicaSetStatus) -> None:
        if status != self._form.view(owner).status:
            await self._set_writer.update(self._form.status(owner, status), subresource="status")


def _namespace_ending(error: StatusError) -> bool:
    return isinstance(error, Forbidden) and any(
        cause.reason == "NamespaceTerminating" for cause in error.causes
    )


def _set_status(owner: apps_v1.ReplicaSet, status: apps_v1.ReplicaSetStatus) -> apps_v1.ReplicaSet:
    return msgspec.structs.replace(owner, status=status)


REPLICA_SETS = Form(apps.REPLICA_SETS, "ReplicaSet", lambda rs: rs, _set_status)
REPLICATION_CONTROLLERS = Form(
    core.REPLICATION_CONTROLLERS, "ReplicationController", replication.view, replication.with_status
)


def _loop(context: Context, form: Form[T]) -> Controller[Key]:
    logic = ReplicaSets(context, form)
    controller = Controller(form.kind.lower(), logic, workers=WORKERS)
    controller.watch(logic.sets, lambda rs: [key_of(rs)])
    controller.watch(logic.pods, logic.keys_of_pod)
    return controller


def build(context: Context) -> Controller[Key]:
    """Return the loop over ReplicaSets."""
    return _loop(context, REPLICA_SETS)


def build_replication(context: Context) -> Controller[Key]:
    """Return the loop over ReplicationControllers."""
    return _loop(context, REPLICATION_CONTROLLERS)
