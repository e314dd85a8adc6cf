"""The loops that bind claims to volumes and reclaim volumes."""

import msgspec

from edgekube.api.kinds import core_v1 as core
from edgekube.api.kinds import storage_v1 as storage
from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1
from edgekube.control import volumes as rules
from edgekube.control.index import Index
from edgekube.control.reconcile import Controller
from edgekube.control.volumes import Claim, Volume
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context
from edgekube.controllers.volumes.plan import (
    PROVISIONER,
    WARNING,
    claim_plan,
    claim_status,
    claimed,
    freed,
    satisfied,
    volume_plan,
)

AGAIN = 60.0
"""Seconds until a claim that could not be bound is told of again."""


class Claims:
    """Give every claim a volume."""

    def __init__(self, context: Context) -> None:
        self.claims = context.informers.of(core.PERSISTENT_VOLUME_CLAIMS)
        self.volumes = context.informers.of(core.PERSISTENT_VOLUMES)
        self.classes = context.informers.of(storage.STORAGE_CLASSES)
        self._writer = Writer(context.client, self.claims)
        self._volume_writer = Writer(context.client, self.volumes)
        self._events = context.events.recorder("persistentvolume-controller")

    async def reconcile(self, key: Key) -> float | None:
        """Bring one claim nearer to its volume."""
        claim = self.claims.get(key)
        if claim is None or (claim.metadata.deletion_timestamp and not rules.bound(claim)):
            return None
        volumes = {volume.metadata.name: volume for volume in self.volumes}
        classes = {found.metadata.name: found for found in self.classes}
        decided = claim_plan(claim, volumes, classes)
        if decided.bind is not None:
            await self._bind(claim, decided.bind)
            return None
        if decided.note is not None and not (decided.lost and claim.status and claim.status.phase == "Lost"):
            tell = self._events.warning if decided.note.type == WARNING else self._events.normal
            tell(claim, decided.note.reason, decided.note.message)
        if decided.lost:
            await self._status(claim, core_v1.PersistentVolumeClaimStatus(phase="Lost"))
            return None
        if decided.provisioner and claim.metadata.annotations.get(PROVISIONER) != decided.provisioner:
            marks = {**claim.metadata.annotations, PROVISIONER: decided.provisioner}
            meta = msgspec.structs.replace(claim.metadata, annotations=marks)
            await self._writer.update(msgspec.structs.replace(claim, metadata=meta))
        return AGAIN

    async def _bind(self, claim: Claim, volume: Volume) -> None:
        """Volume first: a claim never points to a volume that is not its own."""
        wish = claimed(volume, claim)
        if wish != volume:
            volume = await self._volume_writer.update(wish)
        if volume.status is None or volume.status.phase != "Bound":
            status = core_v1.PersistentVolumeStatus(phase="Bound")
            done = msgspec.structs.replace(volume, status=status)
            volume = await self._volume_writer.update(done, subresource="status")
        if not rules.bound(claim):
            claim = await self._writer.update(satisfied(claim, volume))
        await self._status(claim, claim_status(claim, volume))

    async def _status(self, claim: Claim, status: core_v1.PersistentVolumeClaimStatus) -> None:
        if status != claim.status:
            await self._writer.update(msgspec.structs.replace(claim, status=status), subresource="status")


class Volumes:
    """Keep every volume's phase, and reclaim those whose claim is gone."""

    def __init__(self, context: Context) -> None:
        self.volumes = context.informers.of(core.PERSISTENT_VOLUMES)
        self.claims = context.informers.of(core.PERSISTENT_VOLUME_CLAIMS)
        self._writer = Writer(context.client, self.volumes)
        self._claim_writer = Writer(context.client, self.claims)

    async def reconcile(self, key: Key) -> float | None:
        """Look at one volume."""
        volume = self.volumes.get(key)
        if volume is None:
            return None
        decided = volume_plan(volume, await self._claim(volume))
        if decided.free:
            volume = await self._writer.update(freed(volume))
        old = volume.status or core_v1.PersistentVolumeStatus()
        if (old.phase, old.message) != (decided.phase, decided.message):
            status = core_v1.PersistentVolumeStatus(phase=decided.phase, message=decided.message)
            volume = await self._writer.update(
                msgspec.structs.replace(volume, status=status), subresource="status"
            )
        if decided.delete and not volume.metadata.deletion_timestamp:
            await self._writer.delete(volume)
        return None

    async def _claim(self, volume: Volume) -> Claim | None:
        """Return the claim a volume belongs to; that it is gone must be certain, for data hangs on it."""
        ref = volume.spec.claim_ref
        if ref is None or not ref.uid:
            return None
        key = Key(ref.namespace, ref.name)
        found = self.claims.get(key)
        if found is None or found.metadata.uid != ref.uid:
            found = await self._claim_writer.live(key)
        return found if found is not None and found.metadata.uid == ref.uid else None


def build_claims(context: Context) -> Controller[Key]:
    """Return the loop over claims."""
    logic = Claims(context)
    controller = Controller("persistentvolumeclaim-binder", logic, workers=2)
    waiting = Index(logic.claims, lambda claim: [] if rules.bound(claim) else ["unbound"])

    def of_volume(volume: Volume) -> list[Key]:
        ref = volume.spec.claim_ref
        return [Key(ref.namespace, ref.name)] if ref else [key_of(claim) for claim in waiting.of("unbound")]

    controller.watch(logic.claims, lambda claim: [key_of(claim)])
    controller.watch(logic.volumes, of_volume)
    controller.watch(logic.classes, lambda _: [key_of(claim) for claim in waiting.of("unbound")])
    return controller


def build_volumes(context: Context) -> Controller[Key]:
    """Return the loop over volumes."""
    logic = Volumes(context)
    controller = Controller("persistentvolume-binder", logic, workers=2)
    by_claim = Index(
        logic.volumes,
        lambda v: [Key(v.spec.claim_ref.namespace, v.spec.claim_ref.name)] if v.spec.claim_ref else [],
    )
    controller.watch(logic.volumes, lambda volume: [key_of(volume)])
    controller.watch(logic.claims, lambda claim: [key_of(volume) for volume in by_claim.of(key_of(claim))])
    return controller
