"""What a pod counts for while it is being resized: the larger of what it asks for and what it has (KEP-1287)."""

from collections.abc import Mapping

import msgspec

from edgekube.api import quantity
from edgekube.api.types import core_v1


def settled(pod: core_v1.Pod) -> core_v1.PodSpec:
    """Return the spec with what its containers count for; what is infeasible counts for nothing."""
    statuses = (*pod.status.container_statuses, *pod.status.init_container_statuses)
    has = {s.name: (s.allocated_resources, s.resources) for s in statuses if s.resources is not None}
    # A pod as it was made needs no closer look, and most are.
    if not has or (pod.metadata.generation or 1) <= 1:
        return pod.spec
    infeasible = any(c.type == "PodResizePending" and c.reason == "Infeasible" for c in pod.status.conditions)

    def counted(container: core_v1.Container) -> core_v1.Container:
        if container.name not in has:
            return container
        allocated, actual = has[container.name]
        found = _largest(allocated, actual.requests if actual is not None else {})
        resources = container.resources or core_v1.ResourceRequirements()
        if not infeasible:
            found = _largest(found, resources.requests)
        return msgspec.structs.replace(
            container, resources=msgspec.structs.replace(resources, requests={**resources.requests, **found})
        )

    return msgspec.structs.replace(
        pod.spec,
        containers=tuple(counted(container) for container in pod.spec.containers),
        init_containers=tuple(counted(container) for container in pod.spec.init_containers),
    )


def gave_back(old: core_v1.Pod, new: core_v1.Pod) -> bool:
    """Tell whether what a pod's containers have changed, so that others may fit now."""
    if (new.metadata.generation or 1) <= 1:
        return False
    return _having(old) != _having(new)


def _having(pod: core_v1.Pod) -> dict[str, tuple[dict[str, str], core_v1.ResourceRequirements | None]]:
    statuses = (*pod.status.container_statuses, *pod.status.init_container_statuses)
    return {status.name: (status.allocated_resources, status.resources) for status in statuses}


def _largest(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    found = dict(one)
    for name, amount in other.items():
        if name not in found or quantity.parse(amount) > quantity.parse(found[name]):
            found[name] = amount
    return found
