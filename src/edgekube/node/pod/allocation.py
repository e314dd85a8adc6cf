"""
What the node has granted each container, which may be less than its pod now asks for (KEP-1287).

Granted is what a container was made with (its label says), until a resize was granted: then a small
file in the pod's folder says, for the next agent and the next boot.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import msgspec

from edgekube.api import quantity
from edgekube.api.podresources import of_pod
from edgekube.api.types import core_v1
from edgekube.node import labels
from edgekube.node.folders import PodFolder
from edgekube.node.pod.spec import is_sidecar
from edgekube.runtime.base import ContainerInfo

Grant = dict[str, core_v1.ResourceRequirements]
"""Resources by container name."""
NOTHING = core_v1.ResourceRequirements()
ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Room:
    """What the node has for pods and what its other pods have of it: cpu in thousandths, memory in bytes."""

    capacity: Mapping[str, int]
    used: Mapping[str, int]


def wished(pod: core_v1.Pod) -> Grant:
    """Return what the containers that run on ask for."""
    lasting = (*pod.spec.containers, *(c for c in pod.spec.init_containers if is_sidecar(c)))
    return {container.name: container.resources or NOTHING for container in lasting}


def granted(pod: core_v1.Pod, grant: Mapping[str, core_v1.ResourceRequirements]) -> core_v1.Pod:
    """Return the pod as it would be had it asked for what it was granted."""
    if all(grant.get(name, own) == own for name, own in wished(pod).items()):
        return pod

    def own(container: core_v1.Container) -> core_v1.Container:
        resources = grant.get(container.name, container.resources)
        return msgspec.structs.replace(container, resources=resources)

    spec = msgspec.structs.replace(
        pod.spec,
        containers=tuple(own(container) for container in pod.spec.containers),
        init_containers=tuple(own(container) for container in pod.spec.init_containers),
    )
    return msgspec.structs.replace(pod, spec=spec)


def requests_of(pod: core_v1.Pod) -> dict[str, int]:
    """Return what a whole pod asks for: cpu in thousandths, memory in bytes."""
    found = of_pod(msgspec.to_builtins(pod.spec), "requests")
    return {"cpu": int(found.get("cpu", Decimal(0)) * 1000), "memory": int(found.get("memory", Decimal(0)))}


def label_of(resources: core_v1.ResourceRequirements | None) -> dict[str, str]:
    """Return the label that tells what a container was made with."""
    return {labels.RESOURCES: msgspec.json.encode(resources or NOTHING).decode()}


def made_with(info: ContainerInfo) -> core_v1.ResourceRequirements | None:
    """Return what a container was made with; None when its label does not tell."""
    text = info.labels.get(labels.RESOURCES)
    return msgspec.json.decode(text, type=core_v1.ResourceRequirements) if text else None


class Allocations:
    """The grants of this node's pods, by uid."""

    def __init__(self, pods_dir: Path) -> None:
        self._pods_dir = pods_dir
        self._known: dict[str, Grant] = {}

    def load(self, pod: core_v1.Pod, infos: Iterable[ContainerInfo]) -> Grant:
        """Return what the pod was granted; what it asks for when nothing else is known."""
        newest = sorted(infos, key=lambda info: labels.attempt_of(info.labels))
        known = {info.labels.get(labels.CONTAINER_NAME, ""): made_with(info) for info in newest} | self._kept(
            pod
        )
        grant = {name: known.get(name) or own for name, own in wished(pod).items()}
        self._known[pod.metadata.uid] = grant
        return grant

    def keep(self, pod: core_v1.Pod, grant: Grant) -> None:
        """Remember a grant, on disk too; raises OSError."""
        path = self._path(pod)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(grant))
        fresh.rename(path)
        self._known[pod.metadata.uid] = grant

    def forget(self, uid: str) -> None:
        """Forget a pod that is gone."""
        self._known.pop(uid, None)

    def room(self, uid: str, pods: Iterable[core_v1.Pod], allocatable: Mapping[str, str]) -> Room:
        """Return what there is for pod `uid` beside the node's other pods."""
        used = {"cpu": 0, "memory": 0}
        for pod in pods:
            if pod.metadata.uid == uid or pod.status.phase in ENDED:
                continue
            for name, amount in requests_of(granted(pod, self._known.get(pod.metadata.uid, {}))).items():
                used[name] += amount
        capacity = {
            "cpu": quantity.milli(allocatable.get("cpu", "0")),
            "memory": quantity.value(allocatable.get("memory", "0")),
        }
        return Room(capacity, used)

    def _kept(self, pod: core_v1.Pod) -> Grant:
        try:
            return msgspec.json.decode(self._path(pod).read_bytes(), type=Grant)
        except (OSError, msgspec.DecodeError):
            return {}

    def _path(self, pod: core_v1.Pod) -> Path:
        return PodFolder.of(self._pods_dir, pod).grant
