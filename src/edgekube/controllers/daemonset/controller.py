"""The DaemonSet loop."""

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from edgekube.api.errors import StatusError
from edgekube.api.kinds import apps_v1 as apps
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key, key_of
from edgekube.api.types import apps_v1, core_v1
from edgekube.control.index import Index
from edgekube.control.reconcile import Controller
from edgekube.control.selectors import empty, matches
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context
from edgekube.controllers.daemonset.nodes import new_pod
from edgekube.controllers.daemonset.plan import Facts, Plan, plan, status
from edgekube.controllers.ownership import controller_of, owner_keys, owner_or_namespace, take
from edgekube.controllers.revisions import LABEL, Revisions
from edgekube.lib.backoff import Backoff

KIND = "DaemonSet"
WORKERS = 2
BURST = 250
"""Pods made or deleted in one pass at most."""
LONGEST = 900.0
"""Seconds between two replacements of a pod that fails again and again."""


class DaemonSets:
    """Keep one pod of each DaemonSet on every node that fits."""

    def __init__(self, context: Context) -> None:
        self.sets = context.informers.of(apps.DAEMON_SETS)
        self.pods = context.informers.of(core.PODS)
        self.nodes = context.informers.of(core.NODES)
        self.revisions = Revisions(context)
        self._writer = Writer(context.client, self.sets)
        self._pod_writer = Writer(context.client, self.pods)
        self._clock = context.clock
        self._events = context.events.recorder("daemonset-controller")
        self._by_owner = Index(self.pods, owner_or_namespace)
        self._in_namespace = Index(self.sets, lambda found: [found.metadata.namespace])
        self._failures = Backoff[tuple[str, str]](first=1.0, limit=LONGEST)
        self._patience: dict[tuple[str, str], float] = {}

    def keys_of_pod(self, pod: core_v1.Pod) -> Iterable[Key]:
        """Return the sets a pod matters to."""
        reference = controller_of(pod)
        if reference is not None:
            return [Key(pod.metadata.namespace, reference.name)] if reference.kind == KIND else []
        namesakes = self._in_namespace.of(pod.metadata.namespace)
        return [key_of(found) for found in namesakes if matches(found.spec.selector, pod.metadata.labels)]

    def all_keys(self) -> Iterable[Key]:
        """Return every set: a node matters to all."""
        return [key_of(found) for found in self.sets]

    async def reconcile(self, key: Key) -> float | None:
        """Bring one set nearer to its spec."""
        owner = self.sets.get(key)
        if owner is None or empty(owner.spec.selector):
            return None
        candidates = (
            *self._by_owner.of(owner.metadata.uid),
            *self._by_owner.of(owner.metadata.namespace),
        )
        pods = await take(
            owner, owner.spec.selector, candidates, owners=self._writer, objects=self._pod_writer
        )
        if owner.metadata.deletion_timestamp:
            return None
        old = (owner.status.collision_count or 0) if owner.status else 0
        history, collisions = await self.revisions.sync(owner, old, self._writer)
        label = history.current.metadata.labels[LABEL]
        facts = Facts(owner=owner, nodes=tuple(self.nodes), pods=pods, hash=label, now=self._clock())
        decided = plan(facts)
        waits = await self._manage(owner, decided, label)
        if not decided.busy:
            await self._write(owner, status(facts, collisions))
            live = {pod.metadata.labels.get(LABEL, "") for pod in pods}
            names = {r.metadata.name for r in history.old if r.metadata.labels.get(LABEL) in live}
            await self.revisions.truncate(owner, history, names)
        return min((wait for wait in (decided.again, waits) if wait is not None), default=None)

    async def _manage(self, owner: apps_v1.DaemonSet, decided: Plan, label: str) -> float | None:
        failed, waits = self._due(owner, decided.failed)
        try:
            async with asyncio.TaskGroup() as group:
                for node in decided.create[:BURST]:
                    group.create_task(self._create(owner, node, label))
                for pod in (*decided.delete, *failed)[:BURST]:
                    group.create_task(self._delete(owner, pod))
        except ExceptionGroup as group_error:
            error = group_error.exceptions[0]
            if isinstance(error, StatusError):
                self._events.warning(owner, "FailedCreate", f"Error creating: {error}")
            raise error from group_error
        return waits

    def _due(
        self, owner: apps_v1.DaemonSet, failed: Sequence[core_v1.Pod]
    ) -> tuple[Sequence[core_v1.Pod], float | None]:
        """Return the failed pods whose turn it is to be replaced, and seconds until the next one's."""
        due, waits, now = [], [], self._clock()
        for pod in failed:
            place = (owner.metadata.uid, pod.spec.node_name)
            patient_until = self._patience.get(place, 0.0)
            if now < patient_until:
                waits.append(patient_until - now)
                continue
            if now - patient_until > 2 * LONGEST:
                self._failures.forget(place)
            self._patience[place] = now + self._failures.next(place)
            which = f"{pod.metadata.namespace}/{pod.metadata.name} on node {pod.spec.node_name}"
            self._events.warning(
                owner, "FailedDaemonPod", f"Found failed daemon pod {which}, will try to kill it"
            )
            due.append(pod)
        return due, min(waits, default=None)

    async def _create(self, owner: apps_v1.DaemonSet, node: str, label: str) -> None:
        pod = await self._pod_writer.create(new_pod(owner, node, label))
        self._events.normal(owner, "SuccessfulCreate", f"Created pod: {pod.metadata.name}")

    async def _delete(self, owner: apps_v1.DaemonSet, pod: core_v1.Pod) -> None:
        if await self._pod_writer.delete(pod):
            self._events.normal(owner, "SuccessfulDelete", f"Deleted pod: {pod.metadata.name}")

    async def _write(self, owner: apps_v1.DaemonSet, wish: apps_v1.DaemonSetStatus) -> None:
        if wish != owner.status:
            await self._writer.update(msgspec.structs.replace(owner, status=wish), subresource="status")


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = DaemonSets(context)
    controller = Controller("daemonset", logic, workers=WORKERS)
    controller.watch(logic.sets, lambda found: [key_of(found)])
    controller.watch(logic.pods, logic.keys_of_pod)
    controller.watch(logic.nodes, lambda _node: logic.all_keys())
    controller.watch(logic.revisions.reader, lambda revision: owner_keys(revision, KIND))
    return controller
