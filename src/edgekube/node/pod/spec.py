"""Questions to a pod's spec that several parts ask."""

from collections.abc import Iterator

from edgekube.api import quantity
from edgekube.api.types import core_v1

DEFAULT_GRACE = 30.0


def is_sidecar(container: core_v1.Container) -> bool:
    """Tell whether an init container keeps running beside the others (KEP-753)."""
    return container.restart_policy == "Always"


def all_containers(pod: core_v1.Pod) -> Iterator[core_v1.Container]:
    """Yield init containers, then containers: those that the pod is made of."""
    yield from pod.spec.init_containers
    yield from pod.spec.containers


def visitors(pod: core_v1.Pod) -> Iterator[core_v1.Container]:
    """Yield ephemeral containers, in the shape of others (they have all their fields and one more)."""
    for visitor in pod.spec.ephemeral_containers:
        fields = {name: getattr(visitor, name) for name in core_v1.Container.__struct_fields__}
        yield core_v1.Container(**fields)


def every_container(pod: core_v1.Pod) -> Iterator[core_v1.Container]:
    """Yield init containers, containers, and ephemeral containers."""
    yield from all_containers(pod)
    yield from visitors(pod)


def shares_memory(pod: core_v1.Pod) -> bool:
    """Tell whether several containers run side by side, and have one /dev/shm."""
    lasting = len(pod.spec.containers) + sum(map(is_sidecar, pod.spec.init_containers))
    return lasting > 1 and not pod.spec.host_ipc


def target_of(pod: core_v1.Pod, name: str) -> str:
    """Return the container whose processes the ephemeral container `name` is to see; "" none."""
    found = (item.target_container_name for item in pod.spec.ephemeral_containers if item.name == name)
    return next(found, "")


def container_named(pod: core_v1.Pod, name: str) -> core_v1.Container | None:
    """Return the container, init container or ephemeral container of that name."""
    return next((container for container in every_container(pod) if container.name == name), None)


def qos_class(pod: core_v1.Pod) -> str:
    """Return Guaranteed, Burstable or BestEffort, as the kubelet's qos package decides."""
    guaranteed, anything = True, False
    for container in all_containers(pod):
        resources = container.resources or core_v1.ResourceRequirements()
        limits = _positive(resources.limits)
        wanted = {**limits, **_positive(resources.requests)}
        anything = anything or bool(wanted)
        if set(limits) != {"cpu", "memory"} or wanted != limits:
            guaranteed = False
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _positive(amounts: dict[str, str]) -> dict[str, int]:
    found = {name: quantity.milli(amounts[name]) for name in ("cpu", "memory") if name in amounts}
    return {name: amount for name, amount in found.items() if amount > 0}


def grace_of(pod: core_v1.Pod) -> float:
    """Return the seconds a pod has to stop: the deletion's, else the spec's; at least 1 when deleted with 0."""
    meta = pod.metadata
    if meta.deletion_timestamp and meta.deletion_grace_period_seconds is not None:
        return max(float(meta.deletion_grace_period_seconds), 1.0)
    wanted = pod.spec.termination_grace_period_seconds
    return DEFAULT_GRACE if wanted is None else max(float(wanted), 1.0)


def full_name(pod: core_v1.Pod) -> str:
    """Return `name_namespace(uid)`, as the kubelet's events name a pod."""
    return f"{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})"


def port_number(container: core_v1.Container, port: int | str) -> int:
    """Return a port given by number or by name; 0 when there is none of that name."""
    if isinstance(port, int):
        return port
    if port.isdecimal():
        return int(port)
    return next((item.container_port for item in container.ports if item.name == port), 0)
