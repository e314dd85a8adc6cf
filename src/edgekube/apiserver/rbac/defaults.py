"""The roles and bindings every cluster starts with (Kubernetes docs, "Default roles and role bindings")."""

from edgekube.api.kinds.rbac_v1 import GROUP
from edgekube.api.types import meta_v1
from edgekube.api.types.rbac_v1 import (
    AggregationRule,
    ClusterRole,
    ClusterRoleBinding,
    PolicyRule,
    RoleRef,
    Subject,
)
from edgekube.apiserver.identity import AUTHENTICATED, MASTERS, SERVICE_ACCOUNTS

BOOTSTRAP = {"kubernetes.io/bootstrapping": "rbac-defaults"}
AUTO_UPDATE = "rbac.authorization.kubernetes.io/autoupdate"
"""Annotation; "false" keeps an object from being brought up to date at start."""
READ = ("get", "list", "watch")
WRITE = ("create", "delete", "deletecollection", "patch", "update")
AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"

_VIEWED: dict[str, tuple[str, ...]] = {
    "": (
        "configmaps", "endpoints", "events", "namespaces", "namespaces/status", "persistentvolumeclaims",
        "persistentvolumeclaims/status", "pods", "pods/log", "pods/status", "serviceaccounts", "services",
        "services/status",
    ),
    "apps": ("deployments", "deployments/scale", "deployments/status", "replicasets", "replicasets/scale", "replicasets/status"),
    "discovery.k8s.io": ("endpointslices",),
    "metrics.k8s.io": ("pods",),
}  # fmt: skip
_EDITED: dict[str, tuple[str, ...]] = {
    "": ("configmaps", "events", "persistentvolumeclaims", "pods", "secrets", "serviceaccounts", "services"),
    "apps": ("deployments", "deployments/rollback", "deployments/scale", "replicasets", "replicasets/scale"),
    "coordination.k8s.io": ("leases",),
}
_ENTERED = ("pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "services/proxy", "secrets")


def _meta(name: str, labels: dict[str, str]) -> meta_v1.ObjectMeta:
    return meta_v1.ObjectMeta(name=name, labels={**BOOTSTRAP, **labels}, annotations={AUTO_UPDATE: "true"})


def _rules(table: dict[str, tuple[str, ...]], verbs: tuple[str, ...]) -> tuple[PolicyRule, ...]:
    return tuple(
        PolicyRule(api_groups=(group,), resources=names, verbs=verbs) for group, names in table.items()
    )


def _role(name: str, *rules: PolicyRule, labels: dict[str, str] | None = None) -> ClusterRole:
    return ClusterRole(metadata=_meta(name, labels or {}), rules=rules)


def _union(name: str, labels: dict[str, str] | None = None) -> ClusterRole:
    """An aggregated role: whoever labels a role of theirs so adds it."""
    selector = meta_v1.LabelSelector(match_labels={f"{AGGREGATE}{name}": "true"})
    rule = AggregationRule(cluster_role_selectors=(selector,))
    return ClusterRole(metadata=_meta(name, labels or {}), aggregation_rule=rule)


def _part(name: str, *rules: PolicyRule) -> ClusterRole:
    return _role(f"system:aggregate-to-{name}", *rules, labels={f"{AGGREGATE}{name}": "true"})


def _paths(*urls: str) -> PolicyRule:
    return PolicyRule(verbs=("get",), non_resource_urls=urls)


ROLES = (
    _role(
        "cluster-admin",
        PolicyRule(api_groups=("*",), resources=("*",), verbs=("*",)),
        PolicyRule(non_resource_urls=("*",), verbs=("*",)),
    ),
    _role("system:discovery", _paths("/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", "/version", "/version/")),
    _role("system:public-info-viewer", _paths("/healthz", "/livez", "/readyz", "/version", "/version/")),
    _role(
        "system:basic-user",
        PolicyRule(
            api_groups=("authorization.k8s.io",), verbs=("create",),
            resources=("selfsubjectaccessreviews", "selfsubjectrulesreviews"),
        ),
        PolicyRule(api_groups=("authentication.k8s.io",), verbs=("create",), resources=("selfsubjectreviews",)),
    ),
    _role("system:service-account-issuer-discovery", _paths("/.well-known/openid-configuration", "/openid/v1/jwks")),
    _union("admin"),
    _union("edit", {f"{AGGREGATE}admin": "true"}),
    _union("view", {f"{AGGREGATE}edit": "true"}),
    _part(
        "admin",
        *_rules(_VIEWED, READ),
        *_rules(_EDITED, WRITE),
        PolicyRule(api_groups=("",), resources=_ENTERED, verbs=(*READ, *WRITE)),
        PolicyRule(api_groups=("",), resources=("pods/eviction", "serviceaccounts/token"), verbs=("create",)),
        PolicyRule(api_groups=(GROUP,), resources=("rolebindings", "roles"), verbs=(*READ, *WRITE)),
    ),
    _part(
        "edit",
        *_rules(_VIEWED, READ),
        *_rules(_EDITED, WRITE),
        PolicyRule(api_groups=("",), resources=_ENTERED, verbs=(*READ, *WRITE)),
        PolicyRule(api_groups=("",), resources=("pods/eviction", "serviceaccounts/token"), verbs=("create",)),
    ),
    _part("view", *_rules(_VIEWED, READ)),
)  # fmt: skip


def _binding(role: str, *groups: str) -> ClusterRoleBinding:
    return ClusterRoleBinding(
        metadata=_meta(role, {}),
        role_ref=RoleRef(api_group=GROUP, kind="ClusterRole", name=role),
        subjects=tuple(Subject(kind="Group", name=group, api_group=GROUP) for group in groups),
    )


BINDINGS = (
    _binding("cluster-admin", MASTERS),
    _binding("system:discovery", AUTHENTICATED),
    _binding("system:basic-user", AUTHENTICATED),
    _binding("system:service-account-issuer-discovery", SERVICE_ACCOUNTS),
    _binding("system:public-info-viewer", AUTHENTICATED, "system:unauthenticated"),
)
