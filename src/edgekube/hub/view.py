"""
How objects look from a node, and a short name (version) for that look.

What a node need not know is left out, and what changes without meaning anything to the node does
not change the version: a pod's status as the node itself reported it, a node's heartbeats.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec

from edgekube.api.resource import Object
from edgekube.api.types import core_v1, meta_v1, networking_v1
from edgekube.hub.refs import CLAIMS, NAMESPACES, PODS, POLICIES, VOLUMES, Ref
from edgekube.transport.wire import ObjectDelta

replace = msgspec.structs.replace

NODES = "v1/nodes"
KUBELETS = frozenset({
    "Initialized", "Ready", "ContainersReady", "PodReadyToStartContainers", "PodResizePending", "PodResizeInProgress",
})  # fmt: skip
"""Pod conditions that the node reports itself."""
FINAL = frozenset({"Succeeded", "Failed"})


def _pod(pod: core_v1.Pod) -> core_v1.Pod:
    """Return what of a pod matters to its node: not the status that it reported itself."""
    status = pod.status
    foreign = tuple(
        core_v1.PodCondition(type=c.type, status=c.status)
        for c in status.conditions
        if c.type not in KUBELETS
    )
    phase = status.phase if status.phase in FINAL else ""
    return replace(pod, status=core_v1.PodStatus(phase=phase, conditions=foreign))


def _node(node: core_v1.Node) -> core_v1.Node:
    """Return what other nodes need: addresses and pod CIDRs, labels; no heartbeats."""
    meta = node.metadata
    return core_v1.Node(
        metadata=meta_v1.ObjectMeta(
            name=meta.name,
            uid=meta.uid,
            labels=meta.labels,
            annotations=meta.annotations,
            creation_timestamp=meta.creation_timestamp,
            resource_version=meta.resource_version,
        ),
        spec=core_v1.NodeSpec(
            pod_cidr=node.spec.pod_cidr,
            pod_cidrs=node.spec.pod_cidrs,
            unschedulable=node.spec.unschedulable,
        ),
        status=core_v1.NodeStatus(addresses=node.status.addresses),
    )


def _policy(policy: networking_v1.NetworkPolicy) -> networking_v1.NetworkPolicy:
    """Return what is enforced."""
    meta = policy.metadata
    kept = meta_v1.ObjectMeta(
        name=meta.name, namespace=meta.namespace, uid=meta.uid, resource_version=meta.resource_version
    )
    return networking_v1.NetworkPolicy(metadata=kept, spec=policy.spec)


def _namespace(space: core_v1.Namespace) -> core_v1.Namespace:
    """Return what policies ask of a namespace: its labels."""
    meta = space.metadata
    kept = meta_v1.ObjectMeta(
        name=meta.name, uid=meta.uid, labels=meta.labels, resource_version=meta.resource_version
    )
    return core_v1.Namespace(metadata=kept)


SENT: Mapping[str, Callable[[Any], Any]] = {NODES: _node, POLICIES: _policy, NAMESPACES: _namespace}
"""Path → what is sent instead of the object."""
MATTERS: Mapping[str, Callable[[Any], Any]] = {
    PODS: _pod, CLAIMS: lambda claim: replace(claim, status=None), VOLUMES: lambda volume: replace(volume, status=None),
}  # fmt: skip
"""Path → what of that makes the version."""


@dataclass(slots=True)
class Versions:
    """Versions of looks, remembered by resourceVersion."""

    _known: dict[Ref, tuple[str, str]] = field(default_factory=dict)

    def of(self, ref: Ref, obj: Object) -> str:
        """Return the version of `obj` as a node sees it."""
        now = f"{obj.metadata.uid}/{obj.metadata.resource_version}"
        known = self._known.get(ref)
        if known is None or known[0] != now:
            known = self._known[ref] = (now, _version(ref.path, obj))
        return known[1]

    def forget(self, ref: Ref) -> None:
        """Drop what is gone."""
        self._known.pop(ref, None)


def tree_of(struct: Any) -> Any:
    """Return a Struct, or several, as a JSON tree."""
    return msgspec.json.decode(msgspec.json.encode(struct))


def delta(ref: Ref, version: str, obj: Object) -> ObjectDelta:
    """Return the object as it is sent."""
    return ObjectDelta(ref.path, ref.namespace, ref.name, version, msgspec.json.encode(_sent(ref.path, obj)))


def _sent(path: str, obj: Any) -> Any:
    return SENT[path](obj) if path in SENT else obj


def _version(path: str, obj: Any) -> str:
    shown = _sent(path, obj)
    if path in MATTERS:
        shown = MATTERS[path](shown)
    plain = replace(shown, metadata=replace(shown.metadata, resource_version=""))
    return blake2b(msgspec.json.encode(plain), digest_size=8).hexdigest()
