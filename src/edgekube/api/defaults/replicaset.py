"""ReplicaSets."""

from edgekube.api.defaults import pod
from edgekube.api.defaults.fill import Tree, fill


def replica_set(tree: Tree) -> None:
    """Fill a ReplicaSet."""
    spec = tree.setdefault("spec", {})
    fill(spec, {"replicas": 1})
    pod.template(spec.setdefault("template", {}))
