"""Which nodes a DaemonSet's pods run on, and how its pods are made for one node."""

from typing import NamedTuple

import msgspec

from edgekube.api.types import apps_v1, core_v1, meta_v1
from edgekube.control import taints
from edgekube.control.nodeaffinity import chosen
from edgekube.controllers.ownership import owned_by
from edgekube.controllers.revisions import LABEL

GENERATION = "pod-template-generation"
NODE_NAME = "metadata.name"
_ALWAYS = (
    (taints.NOT_READY, taints.NO_EXECUTE),
    (taints.UNREACHABLE, taints.NO_EXECUTE),
    ("node.kubernetes.io/disk-pressure", taints.NO_SCHEDULE),
    ("node.kubernetes.io/memory-pressure", taints.NO_SCHEDULE),
    ("node.kubernetes.io/pid-pressure", taints.NO_SCHEDULE),
    (taints.UNSCHEDULABLE, taints.NO_SCHEDULE),
)
_ON_HOST_NETWORK = (("node.kubernetes.io/network-unavailable", taints.NO_SCHEDULE),)


class Fit(NamedTuple):
    """Whether a new pod should run on a node, and whether one that runs may stay."""

    run: bool
    stay: bool


def fit(owner: apps_v1.DaemonSet, node: core_v1.Node) -> Fit:
    """Decide for one node (nodeShouldRunDaemonPod in Kubernetes)."""
    spec = owner.spec.template.spec
    if spec.node_name and spec.node_name != node.metadata.name:
        return Fit(run=False, stay=False)
    if not chosen(spec, node.metadata.name, node.metadata.labels):
        return Fit(run=False, stay=False)
    tolerations, found = tolerations_of(spec), node.spec.taints if node.spec else ()
    if taints.untolerated(found, tolerations, (taints.NO_EXECUTE,)) is not None:
        return Fit(run=False, stay=False)
    return Fit(run=taints.untolerated(found, tolerations, (taints.NO_SCHEDULE,)) is None, stay=True)


def tolerations_of(spec: core_v1.PodSpec) -> tuple[core_v1.Toleration, ...]:
    """Return the pod's tolerations and those that every daemon has."""
    wanted = (*_ALWAYS, *(_ON_HOST_NETWORK if spec.host_network else ()))
    added = (core_v1.Toleration(key=key, operator="Exists", effect=effect) for key, effect in wanted)
    return (*spec.tolerations, *(one for one in added if one not in spec.tolerations))


def new_pod(owner: apps_v1.DaemonSet, node: str, label: str) -> core_v1.Pod:
    """Return the pod for a node; `label` is the revision's hash."""
    template = owner.spec.template
    meta = template.metadata or meta_v1.ObjectMeta()
    # The old name of the revision; the API keeps it for old clients.
    generation = owner.metadata.annotations.get("deprecated.daemonset.template.generation", "")
    marks = {LABEL: label, **({GENERATION: generation} if generation else {})}
    spec = msgspec.structs.replace(
        template.spec,
        affinity=_pinned(template.spec.affinity, node),
        tolerations=tolerations_of(template.spec),
    )
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(
            generate_name=f"{owner.metadata.name}-", namespace=owner.metadata.namespace,
            labels={**meta.labels, **marks}, annotations=meta.annotations, finalizers=meta.finalizers,
            owner_references=(owned_by(owner),),
        ),
        spec=spec,
    )  # fmt: skip


def node_of(pod: core_v1.Pod) -> str:
    """Return the node a daemon pod runs on or is meant for, "" for none."""
    if pod.spec.node_name:
        return pod.spec.node_name
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity else None
    required = affinity.required_during_scheduling_ignored_during_execution if affinity else None
    for term in required.node_selector_terms if required else ():
        for want in term.match_fields:
            if want.key == NODE_NAME and want.operator == "In" and len(want.values) == 1:
                return want.values[0]
    return ""


def _pinned(affinity: core_v1.Affinity | None, node: str) -> core_v1.Affinity:
    """Return the affinity with its required node terms replaced: the controller has checked them."""
    want = core_v1.NodeSelectorRequirement(key=NODE_NAME, operator="In", values=(node,))
    selector = core_v1.NodeSelector(node_selector_terms=(core_v1.NodeSelectorTerm(match_fields=(want,)),))
    whole = affinity or core_v1.Affinity()
    nodes = whole.node_affinity or core_v1.NodeAffinity()
    pinned = msgspec.structs.replace(nodes, required_during_scheduling_ignored_during_execution=selector)
    return msgspec.structs.replace(whole, node_affinity=pinned)
