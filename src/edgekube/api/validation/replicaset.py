"""ReplicaSets."""

from typing import Any

from edgekube.api.validation import workload
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]


def replica_set(tree: Tree, problems: Problems) -> None:
    """Check a ReplicaSet."""
    spec = tree.get("spec", {})
    problems.at_least(spec, "replicas", "spec")
    problems.at_least(spec, "minReadySeconds", "spec")
    workload.workload(tree, "ReplicaSet", problems)


def update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change."""
    problems.unchanged(tree.get("spec", {}), old.get("spec", {}), "selector", "spec")
