"""What this node tells about itself: capacity, addresses, conditions, images (kubelet's nodestatus)."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

import msgspec

from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1
from edgekube.board.base import Board, BoardFacts, BoardUsage
from edgekube.node.clock import stamp
from edgekube.node.config import KubeletConfig
from edgekube.node.eviction.settings import DISK, MEMORY, PIDS
from edgekube.node.host import Host
from edgekube.node.reserved import allocatable_of
from edgekube.runtime.base import ImageInfo, RuntimeFailure, RuntimeInfo

log = logging.getLogger(__name__)

STORAGE_PATH = "edgekube.io/storage-path"
"""Annotation: where this node keeps local volumes."""
LOOK_PERIOD = 20.0
RUNTIME_AWAY = 30.0
"""Seconds the runtime may be away before the node is not ready (kubelet's maxWaitForContainerRuntime)."""
MAX_IMAGES, MAX_NAMES = 50, 5
PRESSURES: Mapping[str, tuple[tuple[str, str], tuple[str, str]]] = {
    MEMORY: (
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ),
    DISK: (
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ),
    PIDS: (
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ),
}
"""Condition → reason and message when it is true, and when it is not."""

Verdict = tuple[bool, str, str]


def capacity_of(facts: BoardFacts, usage: BoardUsage, config: KubeletConfig) -> dict[str, str]:
    """Return the node's capacity as quantities."""
    return {
        "cpu": str(facts.cpus),
        "memory": f"{facts.memory // 1024}Ki",
        "ephemeral-storage": f"{usage.disk_capacity // 1024}Ki",
        "pods": str(config.max_pods),
    }


def pressures(true: frozenset[str]) -> dict[str, Verdict]:
    """Return the pressure conditions: type → (status, reason, message)."""
    return {
        kind: (True, *words[0]) if kind in true else (False, *words[1]) for kind, words in PRESSURES.items()
    }


def readiness(runtime: RuntimeInfo | None, *, network: bool, trouble: str = "") -> Verdict:
    """Return the Ready condition, in the kubelet's words; `trouble` is what else is wrong."""
    troubles = [
        "container runtime is down" if runtime is None else "",
        "" if network else "container runtime network not ready: the node has no pod network yet",
        trouble,
    ]
    said = [text for text in troubles if text]
    if not said:
        return True, "KubeletReady", "kubelet is posting ready status"
    return False, "KubeletNotReady", said[0] if len(said) == 1 else f"[{', '.join(said)}]"


def connectivity(problem: str) -> Verdict:
    """Return the NetworkUnavailable condition: True when other nodes cannot be reached."""
    if problem:
        return True, "NoRouteCreated", problem
    return False, "RouteCreated", "routes to the other nodes are there"


def conditions(
    verdicts: Mapping[str, Verdict], before: Sequence[core_v1.NodeCondition], now: float
) -> tuple[core_v1.NodeCondition, ...]:
    """Return conditions, keeping the transition times of those that did not change."""
    old = {condition.type: condition for condition in before}
    found = []
    for kind, (value, reason, message) in verdicts.items():
        status = "True" if value else "False"
        known = old.get(kind)
        same = known is not None and known.status == status
        since = known.last_transition_time if known is not None and same else stamp(now)
        found.append(
            core_v1.NodeCondition(
                type=kind, status=status, reason=reason, message=message,
                last_heartbeat_time=stamp(now), last_transition_time=since,
            )
        )  # fmt: skip
    return tuple(found)


def images_of(images: Sequence[ImageInfo]) -> tuple[core_v1.ContainerImage, ...]:
    """Return the largest images, at most 50."""
    largest = sorted(images, key=lambda image: (-image.size, image.id))[:MAX_IMAGES]
    return tuple(
        core_v1.ContainerImage(names=(*image.digests, *image.names)[:MAX_NAMES], size_bytes=image.size)
        for image in largest
    )


def node_labels(facts: BoardFacts, config: KubeletConfig) -> dict[str, str]:
    """Return the node's labels: well-known ones, the board's, the configured ones."""
    return {
        **facts.labels,
        "kubernetes.io/hostname": config.node_name,
        "kubernetes.io/arch": facts.architecture,
        "kubernetes.io/os": facts.operating_system or "linux",
        **config.labels,
    }


def node_info(
    facts: BoardFacts, runtime: RuntimeInfo | None, config: KubeletConfig
) -> core_v1.NodeSystemInfo:
    """Return status.nodeInfo."""
    return core_v1.NodeSystemInfo(
        architecture=facts.architecture,
        boot_id=facts.boot_id,
        container_runtime_version=f"{runtime.name}://{runtime.version}" if runtime else "",
        kernel_version=facts.kernel_version,
        kube_proxy_version="",
        kubelet_version=config.kubelet_version,
        machine_id=facts.machine_id,
        operating_system=facts.operating_system or "linux",
        os_image=facts.os_image,
        system_uuid=facts.system_uuid,
    )


class NodeStatusLoop:
    """Reports the Node when something about it changed, and every `status_period`."""

    def __init__(self, host: Host, board: Board, *, true: Callable[[], frozenset[str]] = frozenset) -> None:
        """`true()` are the pressure conditions that are so now."""
        self._host, self._board, self._true = host, board, true
        self._wake = asyncio.Event()
        self._runtime: RuntimeInfo | None = None
        self._runtime_at = -float("inf")
        self._images: tuple[core_v1.ContainerImage, ...] = ()
        self._images_at = -float("inf")
        self._told: core_v1.Node | None = None
        self._told_at = -float("inf")
        self._allocatable: dict[str, str] | None = None
        self.trouble = ""
        """Why the node is not ready besides what is found here; call `look` after a change."""

    def look(self) -> None:
        """Look again now: network, runtime or images changed."""
        self._images_at = -float("inf")
        self._wake.set()

    def allocatable(self) -> dict[str, str]:
        """Return the node's allocatable resources as quantities."""
        if self._allocatable is None:
            capacity = capacity_of(self._host.facts, self._board.usage(), self._host.config)
            self._allocatable = self._of(capacity)
        return self._allocatable

    def labels(self) -> Mapping[str, str]:
        """Return the node's labels: others' as far as the master has told them, and our own."""
        known = self._known()
        return {
            **(known.metadata.labels if known else {}),
            **node_labels(self._host.facts, self._host.config),
        }

    def taints(self) -> tuple[core_v1.Taint, ...]:
        """Return the node's taints as far as they are known here."""
        known = self._known()
        return known.spec.taints if known else ()

    def _known(self) -> core_v1.Node | None:
        return self._host.mirror.nodes.get(Key("", self._host.config.node_name))

    def _of(self, capacity: Mapping[str, str]) -> dict[str, str]:
        config = self._host.config
        reserved = (config.kube_reserved, config.system_reserved)
        return allocatable_of(capacity, reserved, config.eviction.thresholds())

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await self._look()
            try:
                async with asyncio.timeout(LOOK_PERIOD):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def _look(self) -> None:
        now, config = self._host.clock(), self._host.config
        await self._ask_runtime(now)
        node = self._node(now)
        if _same(self._told, node) and now - self._told_at < config.status_period:
            return
        self._told, self._told_at = node, now
        self._host.reporter.node_status(node)

    async def _ask_runtime(self, now: float) -> None:
        try:
            self._runtime = await self._host.runtime.info()
            self._runtime_at = now
            if now - self._images_at >= self._host.config.status_period:
                self._images = images_of(await self._host.runtime.images.list())
                self._images_at = now
        except RuntimeFailure as error:
            log.warning("runtime: %s", error)
            # It may be starting again, which takes a second.
            if now - self._runtime_at >= RUNTIME_AWAY:
                self._runtime = None

    def _node(self, now: float) -> core_v1.Node:
        host, config = self._host, self._host.config
        usage = self._board.usage()
        capacity = capacity_of(host.facts, usage, config)
        self._allocatable = self._of(capacity)
        verdicts = pressures(self._true()) | {
            "Ready": readiness(self._runtime, network=host.network is not None, trouble=self.trouble),
            "NetworkUnavailable": connectivity(host.network_problem),
        }
        status = core_v1.NodeStatus(
            addresses=(
                core_v1.NodeAddress(type="InternalIP", address=config.node_ip),
                *(
                    (core_v1.NodeAddress(type="InternalIP", address=config.node_ip6),)
                    if config.node_ip6
                    else ()
                ),
                core_v1.NodeAddress(type="Hostname", address=config.node_name),
            ),
            capacity=capacity,
            allocatable=self._allocatable,
            conditions=conditions(verdicts, self._before(), now),
            node_info=node_info(host.facts, self._runtime, config),
            images=self._images,
        )
        meta = meta_v1.ObjectMeta(
            name=config.node_name, labels=node_labels(host.facts, config),
            annotations={STORAGE_PATH: str(config.data_dir / "storage")},
        )  # fmt: skip
        return core_v1.Node(metadata=meta, status=status)

    def _before(self) -> Sequence[core_v1.NodeCondition]:
        if self._told is not None:
            return self._told.status.conditions
        known = self._known()
        return known.status.conditions if known is not None else ()


def _same(told: core_v1.Node | None, node: core_v1.Node) -> bool:
    """Compare without heartbeat times."""
    if told is None or (told.metadata.labels != node.metadata.labels):
        return False
    quiet = [_quiet(form.status) for form in (told, node)]
    return quiet[0] == quiet[1]


def _quiet(status: core_v1.NodeStatus) -> core_v1.NodeStatus:
    calm = tuple(msgspec.structs.replace(c, last_heartbeat_time="") for c in status.conditions)
    return msgspec.structs.replace(status, conditions=calm)
