"""The claims of generic ephemeral volumes (KEP-1698): made with the Pod, and gone with it."""

from collections.abc import Iterable
from dataclasses import dataclass

from edgekube.api.errors import AlreadyExists
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1, meta_v1
from edgekube.control.reconcile import Controller
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context
from edgekube.controllers.ownership import controller_of, owned_by
from edgekube.controllers.pods import active


@dataclass(frozen=True, slots=True)
class Plan:
    """Claims to make; names of those that are there but somebody else's."""

    create: tuple[core_v1.PersistentVolumeClaim, ...]
    foreign: tuple[str, ...]


def wanted(pod: core_v1.Pod) -> Iterable[core_v1.Volume]:
    """Return the volumes that need a claim of their own."""
    if not active(pod):
        return ()
    return [
        volume for volume in pod.spec.volumes if volume.ephemeral and volume.ephemeral.volume_claim_template
    ]


def plan(pod: core_v1.Pod, claims: dict[str, core_v1.PersistentVolumeClaim]) -> Plan:
    """Decide by the claims there are, by name."""
    create, foreign = [], []
    for volume in wanted(pod):
        name = f"{pod.metadata.name}-{volume.name}"
        existing = claims.get(name)
        if existing is None:
            create.append(_claim(pod, volume, name))
            continue
        owner = controller_of(existing)
        if owner is None or owner.uid != pod.metadata.uid:
            foreign.append(name)
    return Plan(tuple(create), tuple(foreign))


def _claim(pod: core_v1.Pod, volume: core_v1.Volume, name: str) -> core_v1.PersistentVolumeClaim:
    template = volume.ephemeral.volume_claim_template if volume.ephemeral else None
    assert template is not None
    meta = template.metadata or meta_v1.ObjectMeta()
    return core_v1.PersistentVolumeClaim(
        metadata=meta_v1.ObjectMeta(
            name=name, namespace=pod.metadata.namespace, labels=meta.labels, annotations=meta.annotations,
            owner_references=(owned_by(pod),),
        ),
        spec=template.spec,
    )  # fmt: skip


class EphemeralVolumes:
    """Keys are Pods."""

    def __init__(self, context: Context) -> None:
        self.pods = context.informers.of(core.PODS)
        self.claims = context.informers.of(core.PERSISTENT_VOLUME_CLAIMS)
        self._writer = Writer(context.client, self.claims)
        self._events = context.events.recorder("ephemeral_volume")

    async def reconcile(self, key: Key) -> float | None:
        """Make what is missing."""
        pod = self.pods.get(key)
        if pod is None:
            return None
        names = [f"{key.name}-{volume.name}" for volume in wanted(pod)]
        found = {name: claim for name in names if (claim := self.claims.get(Key(key.namespace, name)))}
        decided = plan(pod, found)
        for name in decided.foreign:
            why = f'PVC "{key.namespace}/{name}" was not created for pod "{key.namespace}/{key.name}" (pod is not owner)'
            self._events.warning(pod, "FailedBinding", f"ephemeral volume controller: {why}")
        for claim in decided.create:
            try:
                await self._writer.create(claim)
            except AlreadyExists:
                await self._writer.live(key_of(claim))
                return 1.0
        return None


def _of_claim(claim: core_v1.PersistentVolumeClaim) -> Iterable[Key]:
    owner = controller_of(claim)
    return [Key(claim.metadata.namespace, owner.name)] if owner is not None and owner.kind == "Pod" else []


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = EphemeralVolumes(context)
    controller = Controller("ephemeral-volume", logic)
    controller.watch(logic.pods, lambda pod: [key_of(pod)] if wanted(pod) else [])
    controller.watch(logic.claims, _of_claim)
    return controller
