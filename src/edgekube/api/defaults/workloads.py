"""StatefulSets, DaemonSets, ReplicationControllers and PodTemplates (pkg/apis/{apps,core}/v1)."""

from edgekube.api.defaults import pod, volumes
from edgekube.api.defaults.fill import Tree, fill, fill_empty, items

_STATEFUL_SET = {"replicas": 1, "revisionHistoryLimit": 10}
_RETENTION = {"whenDeleted": "Retain", "whenScaled": "Retain"}


def stateful_set(tree: Tree) -> None:
    """Fill a StatefulSet."""
    spec = tree.setdefault("spec", {})
    fill_empty(spec, {"podManagementPolicy": "OrderedReady"})
    fill(spec, _STATEFUL_SET)
    strategy = spec.setdefault("updateStrategy", {})
    fill_empty(strategy, {"type": "RollingUpdate"})
    if strategy["type"] == "RollingUpdate":
        fill(strategy.setdefault("rollingUpdate", {}), {"partition": 0})
    fill_empty(spec.setdefault("persistentVolumeClaimRetentionPolicy", {}), _RETENTION)
    pod.template(spec.setdefault("template", {}))
    for claim in items(spec, "volumeClaimTemplates"):
        fill(claim, {"apiVersion": "v1", "kind": "PersistentVolumeClaim"})
        volumes.persistent_volume_claim(claim)


def daemon_set(tree: Tree) -> None:
    """Fill a DaemonSet."""
    spec = tree.setdefault("spec", {})
    fill(spec, {"revisionHistoryLimit": 10})
    strategy = spec.setdefault("updateStrategy", {})
    fill_empty(strategy, {"type": "RollingUpdate"})
    if strategy["type"] == "RollingUpdate":
        fill(strategy.setdefault("rollingUpdate", {}), {"maxUnavailable": 1, "maxSurge": 0})
    pod.template(spec.setdefault("template", {}))


def replication_controller(tree: Tree) -> None:
    """Fill a ReplicationController: its selector and labels are its template's."""
    spec = tree.setdefault("spec", {})
    fill(spec, {"replicas": 1})
    template = spec.setdefault("template", {})
    labels = template.get("metadata", {}).get("labels")
    if labels:
        fill_empty(spec, {"selector": dict(labels)})
        fill_empty(tree.setdefault("metadata", {}), {"labels": dict(labels)})
    pod.template(template)


def pod_template(tree: Tree) -> None:
    """Fill a PodTemplate."""
    pod.template(tree.setdefault("template", {}))
