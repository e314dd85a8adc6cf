"""Upward: mirror pods, by which the API shows the static pods of nodes. They are created here, by the node's word."""

import logging
from dataclasses import dataclass, field

import msgspec

from edgekube.api.errors import StatusError
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1, meta_v1
from edgekube.client.typed import Client
from edgekube.control.informer import Informers
from edgekube.control.reconcile import Controller
from edgekube.control.writer import Writer
from edgekube.hub.confirm import Confirm
from edgekube.transport.wire import MirrorPod

log = logging.getLogger(__name__)

LIMIT = 500
"""Unwritten mirror pods; more wait for the node to repeat them."""
HASH, MIRROR = "kubernetes.io/config.hash", "kubernetes.io/config.mirror"
SOURCE = "kubernetes.io/config.source"

PodOf = tuple[str, str, str]
"""Node, namespace and name."""


@dataclass(slots=True)
class _Waiting:
    pod: core_v1.Pod
    seqs: list[int] = field(default_factory=list)


class MirrorPods:
    """Creates mirror pods; what cannot be created the node asks for again."""

    def __init__(self, client: Client, informers: Informers, confirm: Confirm) -> None:
        self._confirm = confirm
        self._pods, self._nodes = informers.of(core.PODS), informers.of(core.NODES)
        self._writer = Writer(client, self._pods)
        self._waiting: dict[PodOf, _Waiting] = {}
        self.controller: Controller[PodOf] = Controller("hub-mirrors", self)
        self.controller.watch(self._pods, lambda _pod: ())
        self.controller.watch(self._nodes, lambda _node: ())

    def take(self, node: str, seq: int, body: MirrorPod) -> None:
        """Queue a report; a malformed one is dropped."""
        try:
            pod = msgspec.json.decode(body.raw, type=core_v1.Pod)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._confirm(node, (seq,))
            return
        key = (node, pod.metadata.namespace, pod.metadata.name)
        known = self._waiting.get(key)
        if known is None and len(self._waiting) >= LIMIT:
            return
        self._waiting[key] = _Waiting(pod, [*(known.seqs if known else ()), seq])
        self.controller.queue.add(key)

    async def reconcile(self, key: PodOf) -> float | None:
        """Create one."""
        waiting = self._waiting.pop(key, None)
        if waiting is None:
            return None
        node = self._nodes.get(Key("", key[0]))
        if node is not None and self._pods.get(key_of(waiting.pod)) is None:
            try:
                await self._writer.create(mirror_of(waiting.pod, node))
            except StatusError as error:
                log.warning("mirror pod %s/%s of node %s: %s", key[1], key[2], key[0], error)
        self._confirm(key[0], waiting.seqs)
        return None


def mirror_of(pod: core_v1.Pod, node: core_v1.Node) -> core_v1.Pod:
    """Return the mirror of a node's static pod: bound to that node, owned by it, whatever was sent."""
    meta = pod.metadata
    owner = meta_v1.OwnerReference(
        api_version="v1", kind="Node", name=node.metadata.name, uid=node.metadata.uid, controller=True
    )
    digest = meta.annotations.get(HASH, meta.uid)
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(
            name=meta.name, namespace=meta.namespace, labels=meta.labels, owner_references=(owner,),
            annotations={**meta.annotations, SOURCE: "file", HASH: digest, MIRROR: digest},
        ),
        spec=msgspec.structs.replace(pod.spec, node_name=node.metadata.name),
    )  # fmt: skip
