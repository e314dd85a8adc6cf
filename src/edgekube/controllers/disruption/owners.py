"""How many pods the owners of some pods want: built-in workloads from caches, others by their scale."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgekube.api.errors import NotFound
from edgekube.api.kinds import apps_v1 as apps
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key, Resource
from edgekube.api.types import autoscaling_v1, core_v1, meta_v1
from edgekube.control.informer import Informer
from edgekube.controllers.context import Context
from edgekube.controllers.ownership import controller_of
from edgekube.lib.errors import EdgekubeError


class UnknownScale(EdgekubeError):
    """Nobody can say how many pods an owner wants."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Pods wanted by all owners together; the names of pods that have none."""

    scale: int
    unmanaged: tuple[str, ...]


class Owners:
    """Looks owners up."""

    def __init__(self, context: Context) -> None:
        informers = context.informers
        self.replica_sets = informers.of(apps.REPLICA_SETS)
        self.deployments = informers.of(apps.DEPLOYMENTS)
        self._readers: Mapping[tuple[str, str], Informer[Any]] = {
            ("apps/v1", "StatefulSet"): informers.of(apps.STATEFUL_SETS),
            ("v1", "ReplicationController"): informers.of(core.REPLICATION_CONTROLLERS),
        }
        self._client, self._scheme = context.client, context.options.scheme

    async def wanted(self, pods: Iterable[core_v1.Pod]) -> Wanted:
        """Ask each owner once; raises UnknownScale."""
        scales: dict[str, int] = {}
        unmanaged = []
        for pod in pods:
            reference = controller_of(pod)
            if reference is None:
                unmanaged.append(pod.metadata.name)
            elif reference.uid not in scales:
                uid, scale = await self._scale(pod, reference)
                scales[uid] = scales[reference.uid] = scale
                if uid != reference.uid:
                    # The ReplicaSets of one Deployment are one owner.
                    scales[reference.uid] = 0
        return Wanted(sum(scales.values()), tuple(unmanaged))

    async def _scale(self, pod: core_v1.Pod, reference: meta_v1.OwnerReference) -> tuple[str, int]:
        """Return the uid of who decides, and how many it wants."""
        key = Key(pod.metadata.namespace, reference.name)
        if (reference.api_version, reference.kind) == ("apps/v1", "ReplicaSet"):
            found = self.replica_sets.get(key)
            if found is not None and found.metadata.uid == reference.uid:
                return self._above(key.namespace, found.metadata, found.spec.replicas)
        reader = self._readers.get((reference.api_version, reference.kind))
        owner = reader.get(key) if reader is not None else None
        if owner is not None and owner.metadata.uid == reference.uid:
            replicas = owner.spec.replicas
            return reference.uid, 1 if replicas is None else replicas
        return reference.uid, await self._by_subresource(pod, reference)

    def _above(self, namespace: str, meta: meta_v1.ObjectMeta, replicas: int | None) -> tuple[str, int]:
        for reference in meta.owner_references:
            if reference.controller and reference.kind == "Deployment":
                deployment = self.deployments.get(Key(namespace, reference.name))
                if deployment is not None and deployment.metadata.uid == reference.uid:
                    wish = deployment.spec.replicas
                    return reference.uid, 1 if wish is None else wish
        return meta.uid, 1 if replicas is None else replicas

    async def _by_subresource(self, pod: core_v1.Pod, reference: meta_v1.OwnerReference) -> int:
        row = self._scheme.by_kind(reference.api_version, reference.kind)
        if row is None:
            raise UnknownScale(f'found no controllers for pod "{pod.metadata.name}"')
        if "scale" not in row.subresources:
            raise UnknownScale(f"{row.group_resource} does not implement the scale subresource")
        scale: Resource[autoscaling_v1.Scale] = dataclasses.replace(row, type=autoscaling_v1.Scale)
        try:
            found = await self._client.get(
                scale, Key(pod.metadata.namespace, reference.name), subresource="scale"
            )
        except NotFound as error:
            raise UnknownScale(f'found no controllers for pod "{pod.metadata.name}"') from error
        return found.spec.replicas or 0
