"""Roles and bindings (pkg/apis/rbac/validation)."""

from typing import Any

from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
_SUBJECTS = ("ServiceAccount", "User", "Group")


def role(tree: Tree, problems: Problems) -> None:
    """Check a Role: it cannot speak of paths."""
    _rules(tree, problems, namespaced=True)


def cluster_role(tree: Tree, problems: Problems) -> None:
    """Check a ClusterRole."""
    _rules(tree, problems, namespaced=False)


def role_binding(tree: Tree, problems: Problems) -> None:
    """Check a RoleBinding."""
    _binding(tree, problems, roles=("Role", "ClusterRole"))


def cluster_role_binding(tree: Tree, problems: Problems) -> None:
    """Check a ClusterRoleBinding."""
    _binding(tree, problems, roles=("ClusterRole",))


def binding_update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check a binding's new form: what it refers to stays."""
    if tree.get("roleRef") != old.get("roleRef"):
        problems.invalid("roleRef", tree.get("roleRef"), "cannot change roleRef")


def _rules(tree: Tree, problems: Problems, *, namespaced: bool) -> None:
    for index, rule in enumerate(tree.get("rules") or ()):
        path = f"rules[{index}]"
        if not rule.get("verbs"):
            problems.required(f"{path}.verbs", "verbs must contain at least one value")
        urls = rule.get("nonResourceURLs")
        if urls and namespaced:
            problems.invalid(
                f"{path}.nonResourceURLs", urls, "namespaced rules cannot apply to non-resource URLs"
            )
        elif urls:
            if any(rule.get(name) for name in ("apiGroups", "resources", "resourceNames")):
                problems.invalid(
                    f"{path}.nonResourceURLs",
                    urls,
                    "rules cannot apply to both regular resources and non-resource URLs",
                )
        else:
            if not rule.get("apiGroups"):
                problems.required(f"{path}.apiGroups", "resource rules must supply at least one api group")
            if not rule.get("resources"):
                problems.required(f"{path}.resources", "resource rules must supply at least one resource")


def _binding(tree: Tree, problems: Problems, *, roles: tuple[str, ...]) -> None:
    ref = tree.get("roleRef") or {}
    problems.one_of(ref, "apiGroup", "roleRef", supported=("rbac.authorization.k8s.io",))
    problems.one_of(ref, "kind", "roleRef", supported=roles)
    if not ref.get("name"):
        problems.required("roleRef.name")
    for index, subject in enumerate(tree.get("subjects") or ()):
        path = f"subjects[{index}]"
        problems.one_of(subject, "kind", path, supported=_SUBJECTS)
        if not subject.get("name"):
            problems.required(f"{path}.name")
        if subject.get("kind") == "ServiceAccount" and not subject.get("namespace"):
            problems.required(f"{path}.namespace")
