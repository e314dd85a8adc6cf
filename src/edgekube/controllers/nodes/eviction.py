"""Deleting pods that do not tolerate a NoExecute taint of their node, when their patience is over."""

from collections.abc import Iterable, Sequence

from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1
from edgekube.control.clock import seconds
from edgekube.control.index import Index
from edgekube.control.reconcile import Controller
from edgekube.control.taints import NO_EXECUTE, tolerates
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context

WORKERS = 4


def no_execute(node: core_v1.Node | None) -> Sequence[core_v1.Taint]:
    """Return the taints that drive pods away."""
    return [taint for taint in node.spec.taints if taint.effect == NO_EXECUTE] if node is not None else ()


def evict_at(pod: core_v1.Pod, taints: Iterable[core_v1.Taint], now: float) -> float | None:
    """Return when (Unix seconds) the pod has to go; None: it may stay."""
    deadlines = []
    for taint in taints:
        matching = [t for t in pod.spec.tolerations if tolerates(t, taint)]
        if not matching:
            return now
        patience = [t.toleration_seconds for t in matching if t.toleration_seconds is not None]
        if patience:
            since = seconds(taint.time_added) or now
            deadlines.append(since + max(0, min(patience)))
    return min(deadlines, default=None)


class TaintEviction:
    """Keys are pods."""

    def __init__(self, context: Context) -> None:
        self.pods = context.informers.of(core.PODS)
        self.nodes = context.informers.of(core.NODES)
        self._writer = Writer(context.client, self.pods)
        self._clock = context.clock
        self._events = context.events.recorder("taint-eviction-controller")
        self._on = Index(self.pods, lambda pod: [pod.spec.node_name] if pod.spec.node_name else [])

    def keys_of_pod(self, pod: core_v1.Pod) -> Iterable[Key]:
        """Return the pod if its node drives pods away."""
        return [key_of(pod)] if no_execute(self.nodes.get(Key("", pod.spec.node_name))) else []

    def keys_of_node(self, node: core_v1.Node) -> Iterable[Key]:
        """Return the pods of a node that drives pods away."""
        return [key_of(pod) for pod in self._on.of(node.metadata.name)] if no_execute(node) else []

    async def reconcile(self, key: Key) -> float | None:
        """Delete the pod when its time is over."""
        pod = self.pods.get(key)
        if pod is None or pod.metadata.deletion_timestamp:
            return None
        now = self._clock()
        deadline = evict_at(pod, no_execute(self.nodes.get(Key("", pod.spec.node_name))), now)
        if deadline is None:
            return None
        if deadline > now:
            return deadline - now
        self._events.normal(pod, "TaintManagerEviction", f"Marking for deletion Pod {key}")
        await self._writer.delete(pod)
        return None


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = TaintEviction(context)
    controller = Controller("taint-eviction", logic, workers=WORKERS)
    controller.watch(logic.pods, logic.keys_of_pod)
    controller.watch(logic.nodes, logic.keys_of_node)
    return controller
