"""What every part of the kubelet works with, put together once."""

from collections.abc import Callable
from dataclasses import dataclass

from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.board.base import BoardFacts
from edgekube.control.mirror import Mirror, NodeEvent, Reporter
from edgekube.network.base import Attachment, PodNetwork
from edgekube.node.clock import Clock
from edgekube.node.config import KubeletConfig
from edgekube.node.containers import ContainerCopy
from edgekube.node.env.downward import Place
from edgekube.node.images import ImageKeeper
from edgekube.node.pod.allocation import Allocations
from edgekube.node.pod.recall import Recall
from edgekube.node.podcgroups import PodCgroups
from edgekube.node.probes.prober import Prober
from edgekube.node.volumes.manager import Volumes
from edgekube.runtime.base import ContainerRuntime

POD_PATH = "v1/pods"


def _none(_key: Key) -> None:
    return None


@dataclass(slots=True)
class Host:
    """The node as pod workers see it."""

    config: KubeletConfig
    mirror: Mirror
    reporter: Reporter
    runtime: ContainerRuntime
    facts: BoardFacts
    clock: Clock
    containers: ContainerCopy
    images: ImageKeeper
    volumes: Volumes
    prober: Prober
    recall: Recall
    allocations: Allocations
    cgroups: PodCgroups
    network: PodNetwork | None = None
    """None until the node's pod CIDR is known."""
    network_problem: str = ""
    """Why other nodes do not reach this node's pods; "": they do."""
    allocatable: Callable[[], dict[str, str]] = dict
    static_pod: Callable[[Key], core_v1.Pod | None] = _none
    """The static pod that a mirror pod of that name shows."""

    def place(self, address: str, attachment: Attachment | None = None) -> Place:
        """Return where a pod with that (main) address is; others are its attachment's."""
        others = attachment.addresses if attachment is not None else ()
        config = self.config
        nodes = ",".join(filter(None, (config.node_ip, config.node_ip6)))
        return Place(
            address, config.node_ip, self.allocatable(), pod_ips=",".join(others) or address, node_ips=nodes
        )

    def event(
        self, pod: core_v1.Pod, reason: str, message: str, *, warning: bool = False, container: str = ""
    ) -> None:
        """Report an event about a pod, or about one of its containers."""
        path = ""
        if container:
            path = f"spec.{_list_of(pod, container)}{{{container}}}"
        meta = pod.metadata
        self.reporter.event(
            NodeEvent(
                path=POD_PATH, key=Key(meta.namespace, meta.name), uid=meta.uid,
                type="Warning" if warning else "Normal", reason=reason, message=message, field_path=path,
            )
        )  # fmt: skip


def _list_of(pod: core_v1.Pod, container: str) -> str:
    """Return which list of the spec a container is in."""
    spec = pod.spec
    if any(item.name == container for item in spec.init_containers):
        return "initContainers"
    if any(item.name == container for item in spec.ephemeral_containers):
        return "ephemeralContainers"
    return "containers"
