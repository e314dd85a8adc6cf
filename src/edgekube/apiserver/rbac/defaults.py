"""The roles and bindings every cluster starts with (Kubernetes docs, "Default roles and role bindings")."""

from edgekube.api.kinds.rbac_v1 import GROUP
from edgekube.api.types import meta_v1
from edgekube.api.types.rbac_v1 import (
    AggregationRule,
    ClusterRole,
    ClusterRoleBinding,
    PolicyRule,
    Role,
    RoleBinding,
    RoleRef,
    Subject,
)
from edgekube.apiserver.rbac.components import BOUND, COMPONENTS, NAMED, NAMED_BOUND
from edgekube.apiserver.rbac.controllers import CONTROLLERS
from edgekube.apiserver.rbac.notation import rules
from edgekube.apiserver.rbac.people import ADMIN, EDIT, VIEW

BOOTSTRAP = {"kubernetes.io/bootstrapping": "rbac-defaults"}
AUTO_UPDATE = "rbac.authorization.kubernetes.io/autoupdate"
"""Annotation; "false" keeps an object from being brought up to date at start."""
AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"
CONTROLLER = "system:controller:"
SYSTEM = "kube-system"

Who = tuple[tuple[str, str], ...]


def _meta(name: str, labels: dict[str, str], namespace: str = "") -> meta_v1.ObjectMeta:
    return meta_v1.ObjectMeta(
        name=name,
        namespace=namespace,
        labels={**BOOTSTRAP, **labels},
        annotations={AUTO_UPDATE: "true"},
    )


def _role(name: str, granted: tuple[PolicyRule, ...], labels: dict[str, str] | None = None) -> ClusterRole:
    return ClusterRole(metadata=_meta(name, labels or {}), rules=granted)


def _union(name: str, labels: dict[str, str] | None = None) -> ClusterRole:
    """An aggregated role: whoever labels a role of theirs so adds it."""
    selector = meta_v1.LabelSelector(match_labels={f"{AGGREGATE}{name}": "true"})
    rule = AggregationRule(cluster_role_selectors=(selector,))
    return ClusterRole(metadata=_meta(name, labels or {}), aggregation_rule=rule)


def _part(name: str, text: str) -> ClusterRole:
    return _role(f"system:aggregate-to-{name}", rules(text), {f"{AGGREGATE}{name}": "true"})


def _subjects(who: Who) -> tuple[Subject, ...]:
    return tuple(
        Subject(kind=kind, name=name, namespace=SYSTEM)
        if kind == "ServiceAccount"
        else Subject(kind=kind, name=name, api_group=GROUP)
        for kind, name in who
    )


def _binding(role: str, who: Who) -> ClusterRoleBinding:
    ref = RoleRef(api_group=GROUP, kind="ClusterRole", name=role)
    return ClusterRoleBinding(metadata=_meta(role, {}), role_ref=ref, subjects=_subjects(who))


def cluster_roles() -> tuple[ClusterRole, ...]:
    """Return the ClusterRoles of a new cluster."""
    return (
        *(_role(name, rules(text)) for name, text in COMPONENTS.items()),
        _union("admin"),
        _union("edit", {f"{AGGREGATE}admin": "true"}),
        _union("view", {f"{AGGREGATE}edit": "true"}),
        _part("admin", ADMIN),
        _part("edit", EDIT),
        _part("view", VIEW),
        *(_role(f"{CONTROLLER}{name}", rules(text)) for name, text in CONTROLLERS.items()),
    )


def cluster_role_bindings() -> tuple[ClusterRoleBinding, ...]:
    """Return the ClusterRoleBindings of a new cluster."""
    return (
        *(_binding(role, who) for role, who in BOUND.items()),
        *(_binding(f"{CONTROLLER}{name}", (("ServiceAccount", name),)) for name in CONTROLLERS),
    )


def roles() -> tuple[Role, ...]:
    """Return the Roles of a new cluster."""
    return tuple(
        Role(metadata=_meta(name, {}, namespace), rules=rules(text))
        for (namespace, name), text in NAMED.items()
    )


def role_bindings() -> tuple[RoleBinding, ...]:
    """Return the RoleBindings of a new cluster."""
    return tuple(
        RoleBinding(
            metadata=_meta(name, {}, namespace),
            role_ref=RoleRef(api_group=GROUP, kind="Role", name=role),
            subjects=_subjects(who),
        )
        for (namespace, name, role), who in NAMED_BOUND.items()
    )
