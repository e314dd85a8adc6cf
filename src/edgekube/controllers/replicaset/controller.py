"""The ReplicaSet loop."""

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from edgekube.api.errors import Forbidden, StatusError
from edgekube.api.kinds import apps_v1 as apps
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key, key_of
from edgekube.api.types import apps_v1, core_v1
from edgekube.control.index import Index
from edgekube.control.reconcile import Controller
from edgekube.control.selectors import empty, matches
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context
from edgekube.controllers.ownership import controller_of, owner_or_namespace, take
from edgekube.controllers.replicaset.plan import Plan, failed, new_pod, plan, succeeded

WORKERS = 4


class ReplicaSets:
    """Keep as many pods of each ReplicaSet as it asks for."""

    def __init__(self, context: Context) -> None:
        self.sets = context.informers.of(apps.REPLICA_SETS)
        self.pods = context.informers.of(core.PODS)
        self._set_writer = Writer(context.client, self.sets)
        self._pod_writer = Writer(context.client, self.pods)
        self._clock = context.clock
        self._events = context.events.recorder("replicaset-controller")
        self._by_owner = Index(self.pods, owner_or_namespace)
        self._families = Index(self.sets, lambda rs: [ref.uid for ref in [controller_of(rs)] if ref])
        self._in_namespace = Index(self.sets, lambda rs: [rs.metadata.namespace])

    def keys_of_pod(self, pod: core_v1.Pod) -> Iterable[Key]:
        """Return the ReplicaSets a pod matters to."""
        reference = controller_of(pod)
        if reference is not None:
            return [Key(pod.metadata.namespace, reference.name)] if reference.kind == "ReplicaSet" else []
        namesakes = self._in_namespace.of(pod.metadata.namespace)
        return [key_of(rs) for rs in namesakes if matches(rs.spec.selector, pod.metadata.labels)]

    async def reconcile(self, key: Key) -> float | None:
        """Bring one ReplicaSet nearer to its spec."""
        found = self.sets.get(key)
        if found is None or empty(found.spec.selector):
            return None
        pods = await take(
            found,
            found.spec.selector,
            self._candidates(found),
            owners=self._set_writer,
            objects=self._pod_writer,
        )
        decided = plan(found, pods, self._related(found), self._clock())
        try:
            await self._manage(found, decided)
        except ExceptionGroup as group:
            error = group.exceptions[0]
            if isinstance(error, StatusError):
                await self._failed(found, decided, error)
            raise error from group
        # What was made or deleted comes back through the cache and is counted then.
        if not (decided.create or decided.delete):
            await self._write(found, succeeded(decided.status))
        return decided.again

    def _candidates(self, owner: apps_v1.ReplicaSet) -> Sequence[core_v1.Pod]:
        return (*self._by_owner.of(owner.metadata.uid), *self._by_owner.of(owner.metadata.namespace))

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

    async def _failed(self, owner: apps_v1.ReplicaSet, decided: Plan, error: StatusError) -> None:
        reason, verb = ("FailedCreate", "creating") if decided.create else ("FailedDelete", "deleting")
        message = str(error)
        if _namespace_ending(error):
            return
        self._events.warning(owner, reason, f"Error {verb}: {message}")
        await self._write(owner, failed(decided.status, reason=reason, message=message, now=self._clock()))

    async def _write(self, owner: apps_v1.ReplicaSet, status: apps_v1.ReplicaSetStatus) -> None:
        if status != owner.status:
            await self._set_writer.update(msgspec.structs.replace(owner, status=status), subresource="status")


def _namespace_ending(error: StatusError) -> bool:
    return isinstance(error, Forbidden) and any(
        cause.reason == "NamespaceTerminating" for cause in error.causes
    )


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = ReplicaSets(context)
    controller = Controller("replicaset", logic, workers=WORKERS)
    controller.watch(logic.sets, lambda rs: [key_of(rs)])
    controller.watch(logic.pods, logic.keys_of_pod)
    return controller
