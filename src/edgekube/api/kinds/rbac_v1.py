"""Rows of the rbac.authorization.k8s.io group."""

from edgekube.api.resource import Resource, Scope
from edgekube.api.types import rbac_v1 as t

GROUP = "rbac.authorization.k8s.io"

ROLES = Resource(GROUP, "v1", "Role", "roles", t.Role)
ROLE_BINDINGS = Resource(GROUP, "v1", "RoleBinding", "rolebindings", t.RoleBinding)
CLUSTER_ROLES = Resource(GROUP, "v1", "ClusterRole", "clusterroles", t.ClusterRole, scope=Scope.CLUSTER)
CLUSTER_ROLE_BINDINGS = Resource(
    GROUP, "v1", "ClusterRoleBinding", "clusterrolebindings", t.ClusterRoleBinding, scope=Scope.CLUSTER
)

RESOURCES = (ROLES, ROLE_BINDINGS, CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS)
