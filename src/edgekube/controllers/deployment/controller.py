"""The Deployment loop."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from edgekube.api.errors import AlreadyExists
from edgekube.api.kinds import apps_v1 as apps
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key, key_of
from edgekube.api.types import apps_v1, core_v1
from edgekube.control.index import Index
from edgekube.control.reconcile import Controller
from edgekube.control.selectors import empty, matches
from edgekube.control.writer import Writer, metadata_patch
from edgekube.controllers.context import Context
from edgekube.controllers.deployment.facts import REVISION, size
from edgekube.controllers.deployment.plan import plan
from edgekube.controllers.deployment.rollout import recreates
from edgekube.controllers.hashing import same_template
from edgekube.controllers.ownership import controller_of, take
from edgekube.controllers.pods import ENDED

WORKERS = 4


class Deployments:
    """Roll every Deployment's ReplicaSets to its template."""

    def __init__(self, context: Context) -> None:
        self.deployments = context.informers.of(apps.DEPLOYMENTS)
        self.sets = context.informers.of(apps.REPLICA_SETS)
        self.pods = context.informers.of(core.PODS)
        self._writer = Writer(context.client, self.deployments)
        self._set_writer = Writer(context.client, self.sets)
        self._clock = context.clock
        self._events = context.events.recorder("deployment-controller")
        self._by_owner = Index(self.sets, _owner)
        self._in_namespace = Index(self.deployments, lambda d: [d.metadata.namespace])
        self._pods_of = Index(self.pods, lambda pod: [ref.uid for ref in [controller_of(pod)] if ref])

    def keys_of_set(self, rs: apps_v1.ReplicaSet) -> Iterable[Key]:
        """Return the Deployments a ReplicaSet matters to."""
        reference = controller_of(rs)
        if reference is not None:
            return [Key(rs.metadata.namespace, reference.name)] if reference.kind == "Deployment" else []
        namesakes = self._in_namespace.of(rs.metadata.namespace)
        return [key_of(d) for d in namesakes if matches(d.spec.selector, rs.metadata.labels)]

    def keys_of_pod(self, pod: core_v1.Pod) -> Iterable[Key]:
        """Return the Deployment that waits for old pods to end."""
        reference = controller_of(pod)
        rs = self.sets.get(Key(pod.metadata.namespace, reference.name)) if reference else None
        for key in self.keys_of_set(rs) if rs else ():
            deployment = self.deployments.get(key)
            if deployment is not None and recreates(deployment):
                yield key

    async def reconcile(self, key: Key) -> float | None:
        """Bring one Deployment nearer to its spec."""
        found = self.deployments.get(key)
        if found is None:
            return None
        if empty(found.spec.selector):
            self._events.warning(
                found,
                "SelectingAll",
                "This deployment is selecting all pods. A non-empty selector is required.",
            )
            return None
        sets = await take(
            found, found.spec.selector, self._candidates(found), owners=self._writer, objects=self._set_writer
        )
        decided = plan(found, sets, self._running(found, sets), self._clock())
        if decided.create is not None and not await self._create(found, decided.create):
            return None
        for old, new in decided.updates:
            await self._set_writer.update(new)
            self._say_size(found, new, size(old))
        if decided.revision and found.metadata.annotations.get(REVISION) != decided.revision:
            patch = metadata_patch(found.metadata.uid, annotations={REVISION: decided.revision})
            found = await self._writer.patch(key, patch)
        if decided.status != found.status:
            await self._writer.update(
                msgspec.structs.replace(found, status=decided.status), subresource="status"
            )
        for rs in decided.delete:
            await self._set_writer.delete(rs, propagation="Background")
        return decided.again

    async def _create(self, owner: apps_v1.Deployment, rs: apps_v1.ReplicaSet) -> bool:
        """Make the new ReplicaSet; return False when its name was taken and the next look must sort it out."""
        try:
            await self._set_writer.create(rs)
        except AlreadyExists:
            there = await self._set_writer.live(key_of(rs))
            reference = controller_of(there) if there else None
            ours = reference is not None and reference.uid == owner.metadata.uid
            if there is None or not (ours and same_template(there.spec.template, rs.spec.template)):
                count = (owner.status.collision_count or 0) + 1
                status = msgspec.structs.replace(owner.status, collision_count=count)
                await self._writer.update(msgspec.structs.replace(owner, status=status), subresource="status")
            return False
        if size(rs):
            self._say_size(owner, rs, 0)
        return True

    def _say_size(self, owner: apps_v1.Deployment, rs: apps_v1.ReplicaSet, before: int) -> None:
        if size(rs) != before:
            way = "up" if size(rs) > before else "down"
            message = f"Scaled {way} replica set {rs.metadata.name} from {before} to {size(rs)}"
            self._events.normal(owner, "ScalingReplicaSet", message)

    def _candidates(self, owner: apps_v1.Deployment) -> Sequence[apps_v1.ReplicaSet]:
        return (*self._by_owner.of(owner.metadata.uid), *self._by_owner.of(owner.metadata.namespace))

    def _running(self, owner: apps_v1.Deployment, sets: Sequence[apps_v1.ReplicaSet]) -> Mapping[str, int]:
        if not recreates(owner):
            return {}
        counts: Counter[str] = Counter()
        for rs in sets:
            uid = rs.metadata.uid
            counts[uid] = sum(pod.status.phase not in ENDED for pod in self._pods_of.of(uid))
        return counts


def _owner(rs: apps_v1.ReplicaSet) -> Iterable[str]:
    reference = controller_of(rs)
    return [reference.uid if reference else rs.metadata.namespace]


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = Deployments(context)
    controller = Controller("deployment", logic, workers=WORKERS)
    controller.watch(logic.deployments, lambda d: [key_of(d)])
    controller.watch(logic.sets, logic.keys_of_set)
    controller.watch(logic.pods, logic.keys_of_pod)
    return controller
