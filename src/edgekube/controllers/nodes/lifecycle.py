"""The loop that notices lost nodes. It has one key, for whether to evict depends on all nodes together."""

import msgspec

from edgekube.api.kinds import coordination_v1 as coordination
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import key_of
from edgekube.api.types import coordination_v1, core_v1
from edgekube.control.reconcile import Controller
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context
from edgekube.controllers.nodes.health import Sign, plan, ready, signs

NAMESPACE = "kube-node-lease"
ALL = "all"


class NodeLifecycle:
    """Mark nodes whose Lease is not renewed."""

    def __init__(self, context: Context) -> None:
        self.nodes = context.informers.of(core.NODES)
        self.leases = context.informers.of(coordination.LEASES)
        self._writer = Writer(context.client, self.nodes)
        self._clock, self._grace = context.clock, context.options.node_grace
        self._events = context.events.recorder("node-controller")
        self._signs: dict[str, Sign] = {}
        self._disrupted = False
        self._lost: set[str] = set()

    def renewed(self, lease: coordination_v1.Lease) -> bool:
        """Note a Lease the moment it is renewed; return whether its node counts as lost."""
        name = lease.metadata.name
        if lease.metadata.namespace != NAMESPACE:
            return False
        before = self._signs.get(name)
        if before is None or before.renewed != lease.spec.renew_time:
            self._signs[name] = Sign(lease.spec.renew_time, self._clock())
        return name in self._lost

    async def reconcile(self, _key: str) -> float | None:
        """Look at all nodes; return when the next one may be lost."""
        now = self._clock()
        nodes = tuple(self.nodes)
        renewals = {
            lease.metadata.name: lease.spec.renew_time
            for lease in self.leases
            if lease.metadata.namespace == NAMESPACE
        }
        self._signs = signs(nodes, renewals, self._signs, now)
        lost = {
            node.metadata.name for node in nodes if now - self._signs[node.metadata.name].seen > self._grace
        }
        disrupted = bool(nodes) and not any(ready(node) and node.metadata.name not in lost for node in nodes)
        if self._disrupted and not disrupted:
            # We were cut off and are back: the others get the full time to be heard of again.
            self._signs = {name: Sign(sign.renewed, now) for name, sign in self._signs.items()}
            lost = set()
        self._disrupted, self._lost = disrupted, lost
        for node in nodes:
            await self._write(node, now, lost=node.metadata.name in lost, evict=not disrupted)
        waits = [
            self._signs[n.metadata.name].seen + self._grace - now
            for n in nodes
            if n.metadata.name not in lost
        ]
        return max(1.0, min(waits) + 0.1) if waits else None

    async def _write(self, node: core_v1.Node, now: float, *, lost: bool, evict: bool) -> None:
        decided = plan(node, now, lost=lost, evict=evict)
        if decided.conditions is not None:
            status = msgspec.structs.replace(node.status, conditions=decided.conditions)
            node = await self._writer.update(
                msgspec.structs.replace(node, status=status), subresource="status"
            )
            self._events.normal(
                node, "NodeNotReady", f"Node {node.metadata.name} status is now: NodeNotReady"
            )
        if decided.taints is not None:
            meta = {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version}
            taints = [msgspec.to_builtins(taint) for taint in decided.taints]
            await self._writer.patch(key_of(node), {"metadata": meta, "spec": {"taints": taints or None}})


def build(context: Context) -> Controller[str]:
    """Return the loop."""
    logic = NodeLifecycle(context)
    controller = Controller("node-lifecycle", logic)

    def lease_changed(_old: coordination_v1.Lease | None, new: coordination_v1.Lease | None) -> None:
        # Renewals are frequent: only one of a lost node is worth a look at all nodes.
        if new is not None and logic.renewed(new):
            controller.queue.add(ALL)

    controller.watch(logic.nodes, lambda _: [ALL])
    controller.watch(logic.leases, lambda _: ())
    logic.leases.subscribe(lease_changed)
    return controller
