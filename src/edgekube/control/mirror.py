"""
The node's side of reading and writing the cluster: what kubelet, proxy and DNS depend on.

`Mirror` is what this node may know (filled by `node.link` from the hub's deltas and kept on the
node's disk); `Reporter` is what it tells. Neither needs the master to be there.
"""

from dataclasses import dataclass, field
from typing import Protocol

from edgekube.api.resource import Key
from edgekube.api.types import core_v1, discovery_v1, networking_v1, node_v1
from edgekube.control.policies import PeerSlice
from edgekube.control.reader import Copy


@dataclass(slots=True)
class Mirror:
    """Live copies of the objects this node may see."""

    pods: Copy[core_v1.Pod] = field(default_factory=Copy)
    """Pods bound to this node."""
    config_maps: Copy[core_v1.ConfigMap] = field(default_factory=Copy)
    secrets: Copy[core_v1.Secret] = field(default_factory=Copy)
    claims: Copy[core_v1.PersistentVolumeClaim] = field(default_factory=Copy)
    volumes: Copy[core_v1.PersistentVolume] = field(default_factory=Copy)
    """Those of this node's pods, and those whose data this node has to remove."""
    nodes: Copy[core_v1.Node] = field(default_factory=Copy)
    runtime_classes: Copy[node_v1.RuntimeClass] = field(default_factory=Copy)
    services: Copy[core_v1.Service] = field(default_factory=Copy)
    endpoint_slices: Copy[discovery_v1.EndpointSlice] = field(default_factory=Copy)
    policies: Copy[networking_v1.NetworkPolicy] = field(default_factory=Copy)
    """Those that select one of this node's pods."""
    namespaces: Copy[core_v1.Namespace] = field(default_factory=Copy)
    """Labels of those of this node's pods, if policies ask for them."""
    peer_slices: Copy[PeerSlice] = field(default_factory=Copy)
    """Whom the selectors in policies mean."""


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """Something a person should read about, on the object named; `type` is Normal or Warning."""

    path: str
    key: Key
    uid: str
    type: str
    reason: str
    message: str
    field_path: str = ""


class Reporter(Protocol):
    """Tell the master; every call returns at once, coalesces, and is repeated until acknowledged."""

    def pod_status(self, key: Key, uid: str, status: core_v1.PodStatus) -> None:
        """Report a pod's status; only the newest of a pod matters."""
        ...

    def pod_gone(self, key: Key, uid: str) -> None:
        """Report that a pod being deleted has ended and left nothing behind."""
        ...

    def volume_gone(self, name: str, uid: str) -> None:
        """Report that the data of a volume being deleted are removed."""
        ...

    def mirror_pod(self, pod: core_v1.Pod) -> None:
        """Ask for a mirror of a static pod; harmless when there is one."""
        ...

    def node_status(self, node: core_v1.Node) -> None:
        """Report labels, annotations, taints and status of this node."""
        ...

    def event(self, event: NodeEvent) -> None:
        """Report an event; repeats are counted, the rate is bounded."""
        ...

    def stats(self, summary: bytes) -> None:
        """Report resource usage (kubelet summary API shape, JSON)."""
        ...

    async def service_account_token(
        self, key: Key, audience: str, seconds: int, pod: core_v1.Pod
    ) -> tuple[str, str]:
        """Return a token for ServiceAccount `key` bound to `pod`, and its expiry (RFC 3339); raises Disconnected."""
        ...
