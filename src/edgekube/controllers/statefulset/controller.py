"""The StatefulSet loop."""

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from edgekube.api.errors import AlreadyExists, StatusError
from edgekube.api.kinds import apps_v1 as apps
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key, key_of
from edgekube.api.types import apps_v1, core_v1
from edgekube.control.index import Index
from edgekube.control.reconcile import Controller
from edgekube.control.selectors import empty, matches
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context
from edgekube.controllers.ownership import (
    controller_of,
    owner_keys,
    owner_or_namespace,
    references_patch,
    take,
)
from edgekube.controllers.revisions import History, Revisions, template_of
from edgekube.controllers.statefulset.plan import Facts, Plan, plan, revision_of, status
from edgekube.controllers.statefulset.pods import (
    by_ordinal,
    claim_owners,
    claims_of,
    new_pod,
    ordinal_of,
    start,
    wanted,
)

KIND = "StatefulSet"
WORKERS = 2


class StatefulSets:
    """Keep the pods of each StatefulSet, each with its name and its claims."""

    def __init__(self, context: Context) -> None:
        self.sets = context.informers.of(apps.STATEFUL_SETS)
        self.pods = context.informers.of(core.PODS)
        self.claims = context.informers.of(core.PERSISTENT_VOLUME_CLAIMS)
        self.revisions = Revisions(context)
        self._writer = Writer(context.client, self.sets)
        self._pod_writer = Writer(context.client, self.pods)
        self._claim_writer = Writer(context.client, self.claims)
        self._clock = context.clock
        self._events = context.events.recorder("statefulset-controller")
        self._by_owner = Index(self.pods, owner_or_namespace)
        self._in_namespace = Index(self.sets, lambda found: [found.metadata.namespace])

    def keys_of_pod(self, pod: core_v1.Pod) -> Iterable[Key]:
        """Return the sets a pod matters to."""
        reference = controller_of(pod)
        if reference is not None:
            return [Key(pod.metadata.namespace, reference.name)] if reference.kind == KIND else []
        namesakes = self._in_namespace.of(pod.metadata.namespace)
        return [key_of(found) for found in namesakes if matches(found.spec.selector, pod.metadata.labels)]

    async def reconcile(self, key: Key) -> float | None:
        """Bring one set nearer to its spec."""
        owner = self.sets.get(key)
        if owner is None or empty(owner.spec.selector):
            return None
        pods = await take(
            owner, owner.spec.selector, self._candidates(owner), owners=self._writer, objects=self._pod_writer
        )
        if owner.metadata.deletion_timestamp:
            return None
        old = owner.status or apps_v1.StatefulSetStatus(replicas=0)
        history, collisions = await self.revisions.sync(owner, old.collision_count or 0, self._writer)
        facts = self._facts(owner, pods, history)
        decided = plan(facts)
        await self._own_claims(owner, pods)
        for pod in decided.delete:
            await self._delete(owner, pod)
        await self._create(owner, decided, history)
        if not decided.busy:
            await self._write(owner, status(facts, collisions))
            await self.revisions.truncate(owner, history, _live(facts))
        return decided.again

    def _candidates(self, owner: apps_v1.StatefulSet) -> Sequence[core_v1.Pod]:
        orphans = self._by_owner.of(owner.metadata.namespace)
        # Only pods that have the set's name for a parent can be its own.
        named = (pod for pod in orphans if ordinal_of(owner, pod) >= 0)
        return (*self._by_owner.of(owner.metadata.uid), *named)

    def _facts(self, owner: apps_v1.StatefulSet, pods: Sequence[core_v1.Pod], history: History) -> Facts:
        update = history.current.metadata.name
        running = owner.status.current_revision if owner.status else ""
        current = running if any(r.metadata.name == running for r in history.old) else update
        return Facts(owner=owner, pods=pods, current=current, update=update, now=self._clock())

    async def _create(self, owner: apps_v1.StatefulSet, decided: Plan, history: History) -> None:
        revisions = {r.metadata.name: r for r in (history.current, *history.old)}
        async with asyncio.TaskGroup() as group:
            for ordinal, name in decided.create:
                pod = new_pod(owner, ordinal, name, template_of(revisions[name]))
                group.create_task(self._create_one(owner, ordinal, pod))

    async def _create_one(self, owner: apps_v1.StatefulSet, ordinal: int, pod: core_v1.Pod) -> None:
        name = f"Pod {pod.metadata.name} in StatefulSet {owner.metadata.name}"
        try:
            for claim in claims_of(owner, ordinal):
                await self._claim(owner, claim, pod)
            await self._pod_writer.create(pod)
        except AlreadyExists:
            # Our cache is behind, or the name belongs to a pod that is not ours.
            await self._pod_writer.live(key_of(pod))
            raise
        except StatusError as error:
            self._events.warning(owner, "FailedCreate", f"create {name} failed error: {error}")
            raise
        self._events.normal(owner, "SuccessfulCreate", f"create {name} successful")

    async def _claim(
        self, owner: apps_v1.StatefulSet, claim: core_v1.PersistentVolumeClaim, pod: core_v1.Pod
    ) -> None:
        if self.claims.get(key_of(claim)) is not None:
            return
        owners = claim_owners(owner, claim, None, condemned=False)
        meta = msgspec.structs.replace(claim.metadata, owner_references=owners)
        try:
            await self._claim_writer.create(msgspec.structs.replace(claim, metadata=meta))
        except AlreadyExists:
            await self._claim_writer.live(key_of(claim))
            return
        self._events.normal(
            owner,
            "SuccessfulCreate",
            f"create Claim {claim.metadata.name} Pod {pod.metadata.name} in StatefulSet {owner.metadata.name} success",
        )

    async def _own_claims(self, owner: apps_v1.StatefulSet, pods: Sequence[core_v1.Pod]) -> None:
        """Keep the claims' owners as the retention policy says."""
        replicas = range(start(owner), start(owner) + wanted(owner))
        for ordinal, pod in by_ordinal(owner, pods).items():
            for claim in claims_of(owner, ordinal):
                found = self.claims.get(key_of(claim))
                if found is None or found.metadata.deletion_timestamp:
                    continue
                owners = claim_owners(owner, found, pod, condemned=ordinal not in replicas)
                if {ref.uid for ref in owners} != {ref.uid for ref in found.metadata.owner_references}:
                    await self._claim_writer.patch(key_of(found), references_patch(found, owners))

    async def _delete(self, owner: apps_v1.StatefulSet, pod: core_v1.Pod) -> None:
        if pod.status.phase in {"Failed", "Succeeded"}:
            which = f"{owner.metadata.namespace}/{owner.metadata.name}"
            text = f"StatefulSet {which} is recreating {pod.status.phase.lower()} Pod {pod.metadata.name}"
            self._events.warning(owner, "RecreatingFailedPod", text)
        if await self._pod_writer.delete(pod):
            name = f"Pod {pod.metadata.name} in StatefulSet {owner.metadata.name}"
            self._events.normal(owner, "SuccessfulDelete", f"delete {name} successful")

    async def _write(self, owner: apps_v1.StatefulSet, wish: apps_v1.StatefulSetStatus) -> None:
        if wish != owner.status:
            await self._writer.update(msgspec.structs.replace(owner, status=wish), subresource="status")


def _live(facts: Facts) -> set[str]:
    """Return the names of revisions that something is of."""
    return {revision_of(pod) for pod in facts.pods} | {facts.current, facts.update}


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = StatefulSets(context)
    controller = Controller("statefulset", logic, workers=WORKERS)
    controller.watch(logic.sets, lambda found: [key_of(found)])
    controller.watch(logic.pods, logic.keys_of_pod)
    controller.watch(logic.revisions.reader, lambda revision: owner_keys(revision, KIND))
    controller.watch(logic.claims, lambda _claim: [])
    return controller
