"""Volumes and claims that are in use are not deleted under their users (pvc-protection, pv-protection)."""

import msgspec

from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key, key_of
from edgekube.control import volumes as rules
from edgekube.control.index import Index
from edgekube.control.reconcile import Controller
from edgekube.control.volumes import Claim
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context
from edgekube.controllers.volumes.plan import in_use

CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"


class Protection:
    """Let go of what nobody uses any more."""

    def __init__(self, context: Context) -> None:
        self.claims = context.informers.of(core.PERSISTENT_VOLUME_CLAIMS)
        self.volumes = context.informers.of(core.PERSISTENT_VOLUMES)
        self.pods = context.informers.of(core.PODS)
        self._claim_writer = Writer(context.client, self.claims)
        self._volume_writer = Writer(context.client, self.volumes)
        self._users = Index(self.pods, lambda pod: [key for key, _ in rules.claims_of(pod)])

    async def reconcile(self, key: Key) -> float | None:
        """Look at one claim (key with namespace) or volume (without)."""
        if key.namespace:
            await self._claim(key)
        else:
            await self._volume(key)
        return None

    async def _claim(self, key: Key) -> None:
        claim = self.claims.get(key)
        if claim is None or not claim.metadata.deletion_timestamp or in_use(self._users.of(key), claim):
            return
        if CLAIM_FINALIZER in claim.metadata.finalizers:
            rest = tuple(name for name in claim.metadata.finalizers if name != CLAIM_FINALIZER)
            meta = msgspec.structs.replace(claim.metadata, finalizers=rest)
            await self._claim_writer.update(msgspec.structs.replace(claim, metadata=meta))

    async def _volume(self, key: Key) -> None:
        volume = self.volumes.get(key)
        if volume is None or not volume.metadata.deletion_timestamp:
            return
        bound = volume.status is not None and volume.status.phase == "Bound"
        if VOLUME_FINALIZER in volume.metadata.finalizers and not bound:
            rest = tuple(name for name in volume.metadata.finalizers if name != VOLUME_FINALIZER)
            meta = msgspec.structs.replace(volume.metadata, finalizers=rest)
            await self._volume_writer.update(msgspec.structs.replace(volume, metadata=meta))


def _going(claim: Claim) -> list[Key]:
    return [key_of(claim)] if claim.metadata.deletion_timestamp else []


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = Protection(context)
    controller = Controller("volume-protection", logic)
    controller.watch(logic.claims, _going)
    controller.watch(logic.volumes, lambda v: [key_of(v)] if v.metadata.deletion_timestamp else [])
    controller.watch(logic.pods, lambda pod: [key for key, _ in rules.claims_of(pod)])
    return controller
