"""What every part of the kubelet works with, put together once."""

from collections.abc import Callable
from dataclasses import dataclass

from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.board.base import BoardFacts
from edgekube.control.mirror import Mirror, NodeEvent, Reporter
from edgekube.network.base import PodNetwork
from edgekube.node.clock import Clock
from edgekube.node.config import KubeletConfig
from edgekube.node.containers import ContainerCopy
from edgekube.node.env.downward import Place
from edgekube.node.images import ImageKeeper
from edgekube.node.pod.recall import Recall
from edgekube.node.probes.prober import Prober
from edgekube.node.volumes.manager import Volumes
from edgekube.runtime.base import ContainerRuntime

POD_PATH = "v1/pods"


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
    network: PodNetwork | None = None
    """None until the node's pod CIDR is known."""
    allocatable: Callable[[], dict[str, str]] = dict

    def place(self, address: str) -> Place:
        """Return where a pod with that address is."""
        return Place(address, self.config.node_ip, self.allocatable())

    def event(
        self, pod: core_v1.Pod, reason: str, message: str, *, warning: bool = False, container: str = ""
    ) -> None:
        """Report an event about a pod, or about one of its containers."""
        path = ""
        if container:
            init = any(item.name == container for item in pod.spec.init_containers)
            path = f"spec.{'initContainers' if init else 'containers'}{{{container}}}"
        meta = pod.metadata
        self.reporter.event(
            NodeEvent(
                path=POD_PATH, key=Key(meta.namespace, meta.name), uid=meta.uid,
                type="Warning" if warning else "Normal", reason=reason, message=message, field_path=path,
            )
        )  # fmt: skip
