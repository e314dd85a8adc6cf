"""Binding a pod's volumes before the pod itself (the PreBind part of VolumeBinding in kube-scheduler)."""

import asyncio

import msgspec

from edgekube.api.errors import Conflict, NotFound
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import key_of
from edgekube.api.types import core_v1
from edgekube.client.typed import Client
from edgekube.control import volumes as rules
from edgekube.control.writer import metadata_patch
from edgekube.lib.errors import EdgekubeError
from edgekube.scheduler.cache import Cache
from edgekube.scheduler.infos import PodInfo
from edgekube.scheduler.queue import SchedulingQueue
from edgekube.scheduler.volumes import Bindings, all_bound

PATIENCE = 600.0
"""Seconds a volume may take to be made (kube-scheduler's bindTimeoutSeconds)."""


class Unbound(EdgekubeError):
    """The volumes did not get bound; the message is for an Event."""


class VolumeBinder:
    """Writes bindings, then waits until the volume controller has completed them."""

    def __init__(self, client: Client, cache: Cache, queue: SchedulingQueue, stirred: asyncio.Event) -> None:
        self._client, self._cache, self._queue, self._stirred = client, cache, queue, stirred

    async def bind(self, pod: PodInfo, wanted: Bindings, node: str) -> None:
        """Return when all claims are bound; raises Unbound when that is not to be expected any more."""
        try:
            for volume, claim in wanted.volumes:
                await self._reserve(volume, claim)
            for claim in wanted.provision:
                await self._select(claim, node)
        except (Conflict, NotFound) as error:
            raise Unbound(f"binding volumes: {error}") from error
        try:
            async with asyncio.timeout(PATIENCE):
                while not all_bound(pod, self._cache.storage):
                    self._check(pod, node, wanted)
                    self._stirred.clear()
                    await self._stirred.wait()
        except TimeoutError as error:
            raise Unbound("binding volumes: timed out waiting for the condition") from error

    def _check(self, pod: PodInfo, node: str, wanted: Bindings) -> None:
        if pod.uid not in self._queue:
            raise Unbound("binding volumes: the pod is gone")
        for claim in wanted.provision:
            now = self._cache.claims.get(key_of(claim))
            if now is None:
                raise Unbound(f'binding volumes: persistentvolumeclaim "{claim.metadata.name}" is gone')
            if not rules.bound(now) and now.metadata.annotations.get(rules.SELECTED_NODE) != node:
                raise Unbound("binding volumes: provisioning failed for the selected node")

    async def _reserve(self, volume: core_v1.PersistentVolume, claim: core_v1.PersistentVolumeClaim) -> None:
        if rules.belongs(volume, claim):
            return
        marks = {**volume.metadata.annotations, rules.BOUND_BY_CONTROLLER: "yes"}
        reserved = msgspec.structs.replace(
            volume, metadata=msgspec.structs.replace(volume.metadata, annotations=marks),
            spec=msgspec.structs.replace(volume.spec, claim_ref=rules.names(claim)),
        )  # fmt: skip
        self._cache.volumes[volume.metadata.name] = await self._client.update(
            core.PERSISTENT_VOLUMES, reserved
        )

    async def _select(self, claim: core_v1.PersistentVolumeClaim, node: str) -> None:
        if claim.metadata.annotations.get(rules.SELECTED_NODE) == node:
            return
        patch = metadata_patch(
            claim.metadata.uid, annotations={rules.SELECTED_NODE: node},
            resourceVersion=claim.metadata.resource_version,
        )  # fmt: skip
        key = key_of(claim)
        self._cache.claims[key] = await self._client.patch(core.PERSISTENT_VOLUME_CLAIMS, key, patch)
