"""
What the scheduler knows of a pod and of a node, worked out once.

Amounts are whole numbers: thousandths of a CPU for `cpu`, units (bytes) for everything else.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace

from edgekube.api.quantity import milli, value
from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1, storage_v1
from edgekube.scheduler.resized import settled

Amounts = Mapping[str, int]
Port = tuple[str, str, int]
"""Host address ("" or 0.0.0.0: all), protocol, port."""
DEFAULT_CPU, DEFAULT_MEMORY = 100, 200 * 1024**2
"""What a container that requests nothing counts for when nodes are compared (kube-scheduler's figures)."""
_EVERYWHERE = ("", "0.0.0.0", "::")


@dataclass(frozen=True, slots=True, eq=False)
class PodInfo:
    """A pod, its requests and what makes it picky."""

    pod: core_v1.Pod
    key: Key
    uid: str
    requests: Amounts
    weight: tuple[int, int]
    """CPU and memory for scoring, never zero."""
    ports: tuple[Port, ...]
    owner: str
    """uid of the controller, "" for none."""
    anti_affinity: tuple[core_v1.PodAffinityTerm, ...]
    """Required terms, which later pods must respect as well."""

    @property
    def labels(self) -> Mapping[str, str]:
        """The pod's labels."""
        return self.pod.metadata.labels

    @property
    def priority(self) -> int:
        """How important it is."""
        return self.pod.spec.priority or 0


def amounts(quantities: Mapping[str, str]) -> dict[str, int]:
    """Return quantities as whole numbers."""
    return {name: milli(text) if name == "cpu" else value(text) for name, text in quantities.items()}


def pod_info(pod: core_v1.Pod) -> PodInfo:
    """Work out what the scheduler asks about a pod."""
    spec = pod.spec
    requests = requested(settled(pod))
    affinity = spec.affinity.pod_anti_affinity if spec.affinity else None
    return PodInfo(
        pod=pod,
        key=key_of(pod),
        uid=pod.metadata.uid,
        requests=requests,
        weight=(requests.get("cpu") or DEFAULT_CPU, requests.get("memory") or DEFAULT_MEMORY),
        ports=tuple(_host_ports(spec)),
        owner=next((r.uid for r in pod.metadata.owner_references if r.controller), ""),
        anti_affinity=affinity.required_during_scheduling_ignored_during_execution if affinity else (),
    )


def requested(spec: core_v1.PodSpec) -> dict[str, int]:
    """
    Return what the pod needs at its hungriest moment.

    The containers and sidecars together, or one init container with the sidecars started before
    it if that is more, and the overhead (KEP-753).
    """
    total: dict[str, int] = {}
    for container in spec.containers:
        _add(total, _requests(container.resources))
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.init_containers:
        need = dict(_requests(container.resources))
        if container.restart_policy == "Always":
            _add(sidecars, need)
            need = dict(sidecars)
        else:
            _add(need, sidecars)
        _raise(peak, need)
    _add(total, sidecars)
    _raise(total, peak)
    if spec.resources is not None:
        # Pod-level requests take the place of the sums (KEP-2837).
        total.update(_requests(spec.resources))
    _add(total, amounts(spec.overhead))
    return total


def _requests(resources: core_v1.ResourceRequirements | None) -> dict[str, int]:
    return amounts(resources.requests) if resources is not None and resources.requests else {}


def _add(total: dict[str, int], more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _raise(total: dict[str, int], floor: Amounts) -> None:
    for name, amount in floor.items():
        total[name] = max(total.get(name, 0), amount)


def _host_ports(spec: core_v1.PodSpec) -> Iterator[Port]:
    sidecars = (c for c in spec.init_containers if c.restart_policy == "Always")
    for container in (*spec.containers, *sidecars):
        for port in container.ports:
            if port.host_port:
                yield port.host_ip, port.protocol or "TCP", port.host_port


@dataclass(slots=True, eq=False)
class NodeInfo:
    """A node and the sums over its pods, kept up to date one pod at a time."""

    node: core_v1.Node
    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    allocatable: Amounts = field(default_factory=dict)
    images: Mapping[str, int] = field(default_factory=dict)
    """Bytes by every name of an image that is there."""
    pods: dict[str, PodInfo] = field(default_factory=dict)
    requested: dict[str, int] = field(default_factory=dict)
    weight: list[int] = field(default_factory=lambda: [0, 0])
    ports: Counter[Port] = field(default_factory=Counter)
    owners: Counter[str] = field(default_factory=Counter)
    exclusive: dict[str, PodInfo] = field(default_factory=dict)
    """Pods with required anti-affinity."""
    version: int = 0
    """Another number after every change."""

    def __post_init__(self) -> None:
        self.update(self.node)

    def update(self, node: core_v1.Node) -> None:
        """Take a newer version of the node."""
        self.version += 1
        self.node, self.name, self.labels = node, node.metadata.name, node.metadata.labels
        self.allocatable = amounts(node.status.allocatable or node.status.capacity)
        self.images = {
            name: image.size_bytes or 0 for image in node.status.images for name in image.names
        }  # fmt: skip

    def add(self, pod: PodInfo) -> None:
        """Count a pod in."""
        self.pods[pod.uid] = pod
        self._count(pod, 1)
        if pod.anti_affinity:
            self.exclusive[pod.uid] = pod

    def remove(self, uid: str) -> None:
        """Count a pod out."""
        pod = self.pods.pop(uid, None)
        if pod is not None:
            self._count(pod, -1)
            self.exclusive.pop(uid, None)

    def changed(self, *, gone: Iterable[str] = (), more: Iterable[PodInfo] = ()) -> "NodeInfo":
        """Return a copy without some pods and with others, to see what would be."""
        twin = copy(self)
        for name in ("pods", "requested", "weight", "ports", "owners", "exclusive"):
            setattr(twin, name, copy(getattr(self, name)))
        for uid in gone:
            twin.remove(uid)
        for pod in more:
            twin.add(pod)
        return twin

    def _count(self, pod: PodInfo, sign: int) -> None:
        self.version += 1
        for name, amount in pod.requests.items():
            self.requested[name] = self.requested.get(name, 0) + sign * amount
        self.weight[0] += sign * pod.weight[0]
        self.weight[1] += sign * pod.weight[1]
        for port in pod.ports:
            self.ports[port] += sign
            if not self.ports[port]:
                del self.ports[port]
        if pod.owner:
            self.owners[pod.owner] += sign
            if not self.owners[pod.owner]:
                del self.owners[pod.owner]

    def port_taken(self, wanted: Port) -> bool:
        """Tell whether a host port is in use, on the same address or on all."""
        address, protocol, number = wanted
        return any(
            (protocol, number) == (used[1], used[2])
            and (address == used[0] or address in _EVERYWHERE or used[0] in _EVERYWHERE)
            for used in self.ports
        )


@dataclass(frozen=True, slots=True)
class Storage:
    """Claims, volumes and classes as the API has them now."""

    claims: Mapping[Key, core_v1.PersistentVolumeClaim] = field(default_factory=dict)
    volumes: Mapping[str, core_v1.PersistentVolume] = field(default_factory=dict)
    classes: Mapping[str, storage_v1.StorageClass] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All nodes as they are now, assumed pods included; `namespaces` are the labels of each namespace."""

    nodes: Sequence[NodeInfo]
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    storage: Storage = field(default_factory=Storage)
    nominated: Mapping[str, Sequence[PodInfo]] = field(default_factory=dict)
    """By node: pods for which others were told to go there."""
    images: Mapping[str, int] = field(default_factory=dict)
    """How many nodes have each image."""

    def exclusive(self) -> Iterable[tuple[NodeInfo, PodInfo]]:
        """Yield pods with required anti-affinity and where they are."""
        for node in self.nodes:
            for pod in node.exclusive.values():
                yield node, pod

    def instead(self, node: NodeInfo) -> "Snapshot":
        """Return the snapshot with another form of one node."""
        nodes = tuple(node if known.name == node.name else known for known in self.nodes)
        return replace(self, nodes=nodes)
