"""Whom to evict first, and what to tell. Pure (kubelet's eviction/helpers.go)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edgekube.api import quantity
from edgekube.api.types import core_v1
from edgekube.node.eviction.plan import Observation
from edgekube.node.eviction.settings import Threshold
from edgekube.node.pod.spec import all_containers, is_sidecar

SYSTEM_CRITICAL = 2_000_000_000
SOURCE, MIRROR = "kubernetes.io/config.source", "kubernetes.io/config.mirror"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerUse:
    """What one container uses. Bytes; `disk` is its writable layer and its log."""

    memory: int = 0
    disk: int = 0
    inodes: int = 0
    pids: int = 0


@dataclass(frozen=True, slots=True)
class PodUse:
    """What a pod uses: its containers, and its local volumes in bytes (those in memory left out) and inodes."""

    pod: core_v1.Pod
    containers: Mapping[str, ContainerUse] = field(default_factory=dict)
    volumes: Mapping[str, int] = field(default_factory=dict)
    volume_inodes: int = 0

    def total(self, resource: str) -> int:
        """Return how much of `resource` (as thresholds name it) the pod uses."""
        return sum(TOTALS[resource](use) for use in self.containers.values()) + (
            sum(self.volumes.values()) if resource == "ephemeral-storage"
            else self.volume_inodes if resource == "inodes" else 0
        )  # fmt: skip


TOTALS: Mapping[str, Callable[[ContainerUse], int]] = {
    "memory": lambda use: use.memory,
    "ephemeral-storage": lambda use: use.disk,
    "inodes": lambda use: use.inodes,
    "pids": lambda use: use.pids,
}


def is_critical(pod: core_v1.Pod) -> bool:
    """Tell whether the node never evicts a pod: static ones, and those of system priority."""
    marks = pod.metadata.annotations
    static = MIRROR in marks or marks.get(SOURCE, "api") != "api"
    return static or priority_of(pod) >= SYSTEM_CRITICAL


def priority_of(pod: core_v1.Pod) -> int:
    """Return the pod's priority, 0 without one."""
    return pod.spec.priority or 0


def request_of(pod: core_v1.Pod, resource: str) -> int:
    """Return what the pod asked for, in whole units: containers and sidecars together, or the largest init container."""
    running = start = 0
    for container in all_containers(pod):
        amount = _request(container, resource)
        if container in pod.spec.init_containers and not is_sidecar(container):
            start = max(start, running + amount)
        else:
            running += amount
    return max(running, start) + quantity.value(pod.spec.overhead.get(resource, "0"))


def _request(container: core_v1.Container, resource: str) -> int:
    resources = container.resources or core_v1.ResourceRequirements()
    text = resources.requests.get(resource) or resources.limits.get(resource) or "0"
    return quantity.value(text)


def rank(uses: Sequence[PodUse], resource: str) -> list[PodUse]:
    """Return the pods in the order in which they go: over their request, of low priority, using most."""
    if resource == "pids":
        return sorted(uses, key=lambda use: (priority_of(use.pod), -use.total(resource), _name(use.pod)))

    def place(use: PodUse) -> tuple[bool, int, int, str]:
        # Nobody can ask for inodes, so every user of some is over its request.
        over = use.total(resource) - (0 if resource == "inodes" else request_of(use.pod, resource))
        return over <= 0, priority_of(use.pod), -over, _name(use.pod)

    return sorted(uses, key=place)


def _name(pod: core_v1.Pod) -> str:
    return f"{pod.metadata.namespace}/{pod.metadata.name}"


def message(threshold: Threshold, seen: Observation, use: PodUse) -> str:
    """Return the kubelet's message to an evicted pod."""
    resource = threshold.resource
    limit, left = binary(threshold.amount.of(seen.capacity)), binary(seen.available)
    text = f"The node was low on resource: {resource}. Threshold quantity: {limit}, available: {left}. "
    if resource in ("inodes", "pids"):
        return text
    for container in all_containers(use.pod):
        known = use.containers.get(container.name)
        used, wanted = (TOTALS[resource](known) if known else 0), _request(container, resource)
        if used > wanted:
            text += (
                f"Container {container.name} was using {binary(used)}, request is {binary(wanted)}, "
                f"has larger consumption of {resource}. "
            )
    return text


def overdrawn(use: PodUse) -> str:
    """Return why a pod is over its own local storage limits; "" when it is not."""
    for volume in use.pod.spec.volumes:
        limit = volume.empty_dir.size_limit if volume.empty_dir else ""
        if limit and 0 < quantity.value(limit) < use.volumes.get(volume.name, 0):
            return f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{limit}". '
    limits = {c.name: _disk_limit(c) for c in all_containers(use.pod)}
    total = sum(limits[container.name] for container in use.pod.spec.containers)
    if total and use.total("ephemeral-storage") > total:
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {binary(total)}. "
    for name, known in use.containers.items():
        own = limits.get(name, 0)
        if own and known.disk > own:
            return f'Container {name} exceeded its local ephemeral storage limit "{binary(own)}". '
    return ""


def has_limits(pod: core_v1.Pod) -> bool:
    """Tell whether a pod's use of the disk must be measured though there is enough."""
    dirs = (volume.empty_dir for volume in pod.spec.volumes if volume.empty_dir)
    return limits_layers(pod) or any(one.size_limit and one.medium != "Memory" for one in dirs)


def limits_layers(pod: core_v1.Pod) -> bool:
    """Tell whether what containers write outside volumes has a limit."""
    return any(_disk_limit(container) for container in all_containers(pod))


def _disk_limit(container: core_v1.Container) -> int:
    limits = container.resources.limits if container.resources else {}
    return quantity.value(limits.get("ephemeral-storage", "0"))


def binary(amount: int) -> str:
    """Return a number as Kubernetes writes amounts of memory."""
    return quantity.canonical(f"{amount // 1024}Ki") if amount and amount % 1024 == 0 else str(amount)
