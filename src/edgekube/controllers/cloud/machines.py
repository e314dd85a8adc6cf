"""The loop that tells nodes what their provider knows of their machines (cloud-provider's node controllers)."""

from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1
from edgekube.cloud.base import Cloud, CloudError, Instance, Instances
from edgekube.control.reconcile import Controller
from edgekube.control.writer import Writer, metadata_patch
from edgekube.controllers.cloud.balancers import Idle
from edgekube.controllers.cloud.config import CloudConfig
from edgekube.controllers.cloud.plan import cloud_node
from edgekube.controllers.context import Context
from edgekube.controllers.nodes.health import ready

LABELS = {
    "zone": "topology.kubernetes.io/zone", "region": "topology.kubernetes.io/region", "type": "node.kubernetes.io/instance-type",
}  # fmt: skip
SHUT_DOWN = core_v1.Taint(key="node.cloudprovider.kubernetes.io/shutdown", effect="NoSchedule")
PERIOD = 60.0


def missing(node: core_v1.Node, instance: Instance) -> dict[str, str]:
    """Return the labels the provider knows better; what it does not know stays as it is."""
    wish = {label: getattr(instance, name) for name, label in LABELS.items() if getattr(instance, name)}
    return {label: value for label, value in wish.items() if node.metadata.labels.get(label) != value}


def taints(node: core_v1.Node, instance: Instance) -> tuple[core_v1.Taint, ...]:
    """Return the node's taints as they should be."""
    others = tuple(taint for taint in node.spec.taints if taint.key != SHUT_DOWN.key)
    if instance.shut_down and not ready(node):
        return node.spec.taints if len(others) < len(node.spec.taints) else (*others, SHUT_DOWN)
    return others


class Machines:
    """Look at every node now and then."""

    def __init__(self, context: Context, cloud: Cloud, instances: Instances) -> None:
        self.nodes = context.informers.of(core.NODES)
        self.config = CloudConfig(context, cloud)
        self._instances = instances
        self._writer = Writer(context.client, self.nodes)
        self._events = context.events.recorder("cloud-node-lifecycle-controller")

    async def reconcile(self, key: Key) -> float | None:
        """Label and taint one node, or delete it when its machine is no more."""
        self.config.apply()
        node = self.nodes.get(key)
        if node is None:
            return None
        try:
            instance = await self._instances.instance(cloud_node(node))
        except CloudError as error:
            self._events.warning(node, "FailedToLookUpInstance", str(error))
            return PERIOD
        if instance is None:
            if not ready(node):
                self._events.normal(
                    node,
                    "DeletingNode",
                    f"Deleting node {key.name} because it does not exist in the cloud provider",
                )
                await self._writer.delete(node)
            return PERIOD
        if labels := missing(node, instance):
            node = await self._writer.patch(key, metadata_patch(node.metadata.uid, labels=labels))
        wish = taints(node, instance)
        if wish != node.spec.taints:
            tree = [{"key": taint.key, "effect": taint.effect, "value": taint.value} for taint in wish]
            meta = metadata_patch(node.metadata.uid, resourceVersion=node.metadata.resource_version)
            await self._writer.patch(key, {**meta, "spec": {"taints": tree or None}})
        return PERIOD


def build(context: Context) -> Controller[Key]:
    """Return the loop; without a provider that knows machines it has nothing to do."""
    cloud = context.options.cloud
    if cloud is None or cloud.instances is None:
        return Controller("cloud-node", Idle())
    logic = Machines(context, cloud, cloud.instances)
    controller = Controller("cloud-node", logic)
    controller.watch(logic.nodes, lambda node: [key_of(node)])
    controller.watch(logic.config.maps, lambda _: [key_of(node) for node in logic.nodes])
    return controller
