"""Bindings (pkg/apis/rbac/v1/defaults.go)."""

from typing import Any

GROUP = "rbac.authorization.k8s.io"


def binding(tree: dict[str, Any]) -> None:
    """Default a RoleBinding or ClusterRoleBinding."""
    tree.get("roleRef", {}).setdefault("apiGroup", GROUP)
    for subject in tree.get("subjects") or ():
        if subject.get("kind") in {"User", "Group"}:
            subject.setdefault("apiGroup", GROUP)
