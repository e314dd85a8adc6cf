"""The scheduler's picture of the cluster: nodes with their pods, those bound a moment ago included."""

from collections import Counter
from collections.abc import Mapping

import msgspec

from edgekube.api.resource import Key
from edgekube.api.types import core_v1, storage_v1
from edgekube.scheduler.infos import NodeInfo, PodInfo, Snapshot, Storage, pod_info

ENDED = ("Succeeded", "Failed")


class Cache:
    """Updated one change at a time; a pod on a node not seen yet waits for its node."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeInfo] = {}
        self._order: tuple[NodeInfo, ...] = ()
        self._images: Counter[str] = Counter()
        self._waiting: dict[str, dict[str, PodInfo]] = {}
        self._where: dict[str, str] = {}
        self._assumed: set[str] = set()
        self._nominated: dict[str, dict[str, PodInfo]] = {}
        self.namespaces: dict[str, Mapping[str, str]] = {}
        self.claims: dict[Key, core_v1.PersistentVolumeClaim] = {}
        self.volumes: dict[str, core_v1.PersistentVolume] = {}
        self.classes: dict[str, storage_v1.StorageClass] = {}
        self.storage = Storage(self.claims, self.volumes, self.classes)

    def __len__(self) -> int:
        return len(self._nodes)

    def snapshot(self) -> Snapshot:
        """Return the picture; good until the next change."""
        nominated = {name: tuple(pods.values()) for name, pods in self._nominated.items()}
        return Snapshot(self._order, self.namespaces, self.storage, nominated, self._images)

    def node(self, name: str) -> NodeInfo | None:
        """Return one node."""
        return self._nodes.get(name)

    def nominate(self, pod: PodInfo, node: str) -> None:
        """Keep room for a pod that has no node yet on `node`; "" keeps none."""
        for name in tuple(self._nominated):
            pods = self._nominated[name]
            if pods.pop(pod.uid, None) is not None and not pods:
                del self._nominated[name]
        if node:
            self._nominated.setdefault(node, {})[pod.uid] = pod

    def nominated(self, node: str) -> tuple[PodInfo, ...]:
        """Return the pods that `node` keeps room for."""
        return tuple(self._nominated.get(node, {}).values())

    def set_node(self, node: core_v1.Node) -> None:
        """Add or update a node."""
        name = node.metadata.name
        known = self._nodes.get(name)
        if known is not None:
            self._images.subtract(known.images.keys())
            known.update(node)
            self._images.update(known.images.keys())
            return
        self._nodes[name] = info = NodeInfo(node)
        self._images.update(info.images.keys())
        for pod in self._waiting.pop(name, {}).values():
            info.add(pod)
        self._order = tuple(self._nodes.values())

    def drop_node(self, name: str) -> None:
        """Forget a node; its pods wait in case it comes back."""
        info = self._nodes.pop(name, None)
        if info is None:
            return
        self._images.subtract(info.images.keys())
        if info.pods:
            self._waiting[name] = dict(info.pods)
        self._order = tuple(self._nodes.values())

    def set_pod(self, pod: core_v1.Pod) -> None:
        """Count a pod where the API says it is; one that ended or has no node yet counts nowhere."""
        uid = pod.metadata.uid
        if pod.status.phase in ENDED:
            self.drop_pod(uid)
        elif pod.spec.node_name:
            self._assumed.discard(uid)
            self._put(pod_info(pod), pod.spec.node_name)
        elif uid not in self._assumed:
            self.drop_pod(uid)

    def assume(self, pod: PodInfo, node: str) -> None:
        """Count a pod on the node chosen for it before the API confirms."""
        spec = msgspec.structs.replace(pod.pod.spec, node_name=node)
        placed = msgspec.structs.replace(pod.pod, spec=spec)
        self._assumed.add(pod.uid)
        self._put(_with_pod(pod, placed), node)

    def forget(self, uid: str) -> None:
        """Take back an assumption; a confirmed pod stays."""
        if uid in self._assumed:
            self.drop_pod(uid)

    def drop_pod(self, uid: str) -> None:
        """Count a pod no more."""
        self._assumed.discard(uid)
        name = self._where.pop(uid, None)
        if name is None:
            return
        if name in self._nodes:
            self._nodes[name].remove(uid)
            return
        waiting = self._waiting.get(name, {})
        waiting.pop(uid, None)
        if not waiting:
            self._waiting.pop(name, None)

    def _put(self, pod: PodInfo, name: str) -> None:
        assumed = pod.uid in self._assumed
        self.drop_pod(pod.uid)
        if assumed:
            self._assumed.add(pod.uid)
        self._where[pod.uid] = name
        if name in self._nodes:
            self._nodes[name].add(pod)
        else:
            self._waiting.setdefault(name, {})[pod.uid] = pod


def _with_pod(info: PodInfo, pod: core_v1.Pod) -> PodInfo:
    return PodInfo(
        pod=pod, key=info.key, uid=info.uid, requests=info.requests, weight=info.weight, ports=info.ports,
        owner=info.owner, anti_affinity=info.anti_affinity,
    )  # fmt: skip
