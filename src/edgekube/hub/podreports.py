"""Upward: pod statuses and ended pods, written through the API. Keys name a pod as one node knows it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from edgekube.api.errors import NotFound
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.client.typed import Client
from edgekube.control.informer import Informers
from edgekube.control.reconcile import Controller
from edgekube.control.writer import Writer
from edgekube.hub.confirm import Confirm
from edgekube.hub.view import KUBELETS, tree_of
from edgekube.transport.wire import PodGone, PodStatusReport

WORKERS = 8
MIRROR = "kubernetes.io/config.mirror"
LIMIT = 2000
"""Pods of one node with something unwritten; more wait for the node to repeat them."""
OTHERS = frozenset({
    "nominatedNodeName", "resourceClaimStatuses", "extendedResourceClaimStatus", "nodeAllocatableResourceClaimStatuses",
    "qosClass",
})  # fmt: skip
"""Status fields that are not the node's to remove."""


class PodKey(NamedTuple):
    """A pod as a node names it."""

    node: str
    namespace: str
    name: str
    uid: str


@dataclass(slots=True)
class _Waiting:
    body: PodStatusReport | PodGone
    seqs: list[int] = field(default_factory=list)


class PodReports:
    """Writes the newest report of each pod; `confirm(node, seqs)` is called when that is done."""

    def __init__(self, client: Client, informers: Informers, confirm: Confirm) -> None:
        self._client, self._confirm = client, confirm
        self._pods = informers.of(core.PODS)
        self._writer = Writer(client, self._pods)
        self._waiting: dict[PodKey, _Waiting] = {}
        self._per_node: dict[str, int] = {}
        self.controller: Controller[PodKey] = Controller("hub-pods", self, workers=WORKERS)
        # A report may come before our own cache is full.
        self.controller.watch(self._pods, lambda _pod: ())

    def take(self, node: str, seq: int, body: PodStatusReport | PodGone) -> None:
        """Queue a report."""
        key = PodKey(node, body.namespace, body.name, body.uid)
        waiting = self._waiting.get(key)
        if waiting is None:
            if self._per_node.get(node, 0) >= LIMIT:
                return
            self._per_node[node] = self._per_node.get(node, 0) + 1
            waiting = self._waiting[key] = _Waiting(body)
        if not isinstance(waiting.body, PodGone):
            waiting.body = body
        waiting.seqs.append(seq)
        self.controller.queue.add(key)

    async def reconcile(self, key: PodKey) -> float | None:
        """Write what is waiting for a pod."""
        waiting = self._waiting.get(key)
        if waiting is None:
            return None
        body, seqs = waiting.body, tuple(waiting.seqs)
        pod = self._pods.get(Key(key.namespace, key.name))
        # A node speaks for its own pods only; of others' and of former ones there is nothing to write,
        # and the node's next difference takes them away.
        if pod is not None and pod.metadata.uid == key.uid and pod.spec.node_name == key.node:
            if isinstance(body, PodGone):
                await self._gone(pod)
            else:
                await self._status(pod, body)
        self._confirm(key.node, seqs)
        if waiting.body is body:
            self._drop(key)
        else:
            del waiting.seqs[: len(seqs)]
        return None

    async def _gone(self, pod: core_v1.Pod) -> None:
        # A mirror pod stands for what only its node knows, and goes when the node says so.
        if pod.metadata.deletion_timestamp or MIRROR in pod.metadata.annotations:
            await self._writer.delete(pod, grace=0)

    async def _status(self, pod: core_v1.Pod, body: PodStatusReport) -> None:
        try:
            report = tree_of(msgspec.json.decode(body.status, type=core_v1.PodStatus))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        patch = status_patch(tree_of(pod.status), report)
        if not patch:
            return
        meta = {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version}
        key = Key(pod.metadata.namespace, pod.metadata.name)
        try:
            await self._writer.patch(key, {"metadata": meta, "status": patch}, subresource="status")
        except NotFound:
            self._pods.forget(pod)

    def _drop(self, key: PodKey) -> None:
        del self._waiting[key]
        self._per_node[key.node] -= 1
        if not self._per_node[key.node]:
            del self._per_node[key.node]


def status_patch(current: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch that makes `current` what the node reports, without what is not the node's."""
    wanted = dict(report)
    reported = {condition["type"] for condition in report.get("conditions", ())}
    foreign = [c for c in current.get("conditions", ()) if c["type"] not in reported | KUBELETS]
    conditions = [*report.get("conditions", ()), *foreign]
    if conditions:
        wanted["conditions"] = conditions
    if _same_conditions(conditions, current.get("conditions", ())):
        wanted["conditions"] = current.get("conditions")
    patch = {name: value for name, value in wanted.items() if current.get(name) != value}
    patch.update({name: None for name in current if name not in wanted and name not in OTHERS})
    return patch


def _same_conditions(one: Any, other: Any) -> bool:
    """Tell whether two lists say the same in whatever order."""
    return len(one) == len(other) and {c["type"]: c for c in one} == {c["type"]: c for c in other}
