"""Namespaces."""

from edgekube.api.defaults.fill import Tree, fill_empty

NAME_LABEL = "kubernetes.io/metadata.name"
FINALIZER = "kubernetes"


def namespace(tree: Tree) -> None:
    """Fill a Namespace; one that is being deleted keeps the finalizers it has."""
    metadata = tree.setdefault("metadata", {})
    if name := metadata.get("name"):
        metadata.setdefault("labels", {})[NAME_LABEL] = name
    spec = tree.setdefault("spec", {})
    if "deletionTimestamp" not in metadata and FINALIZER not in spec.get("finalizers", ()):
        spec["finalizers"] = [*spec.get("finalizers", ()), FINALIZER]
    fill_empty(tree.setdefault("status", {}), {"phase": "Active"})
