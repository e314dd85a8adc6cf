"""Kubernetes' rules for objects, in Kubernetes' words (pkg/apis/*/validation, apimachinery).

Trees are normalised and defaulted before they come here. Kinds without rules of their own get
the rules of metadata.
"""

from collections.abc import Callable
from typing import Any

from edgekube.api.errors import Cause
from edgekube.api.resource import AnyResource
from edgekube.api.validation import (
    config,
    deployment,
    endpoints,
    events,
    lease,
    metadata,
    namespace,
    node,
    persistent_volumes,
    pod,
    pod_update,
    rbac,
    replicaset,
    service,
)
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
_Create = Callable[[Tree, Problems], None]
_Update = Callable[[Tree, Tree, Problems], None]

_CREATE: dict[tuple[str, str], _Create] = {
    ("", "Pod"): pod.pod,
    ("", "Service"): service.service,
    ("", "ConfigMap"): config.config_map,
    ("", "Secret"): config.secret,
    ("", "Namespace"): namespace.namespace,
    ("", "Node"): node.node,
    ("", "Endpoints"): endpoints.endpoints,
    ("", "Event"): events.event,
    ("", "PersistentVolume"): persistent_volumes.volume,
    ("", "PersistentVolumeClaim"): persistent_volumes.claim,
    ("apps", "Deployment"): deployment.deployment,
    ("apps", "ReplicaSet"): replicaset.replica_set,
    ("discovery.k8s.io", "EndpointSlice"): endpoints.endpoint_slice,
    ("coordination.k8s.io", "Lease"): lease.lease,
    ("rbac.authorization.k8s.io", "Role"): rbac.role,
    ("rbac.authorization.k8s.io", "ClusterRole"): rbac.cluster_role,
    ("rbac.authorization.k8s.io", "RoleBinding"): rbac.role_binding,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): rbac.cluster_role_binding,
}
_UPDATE: dict[tuple[str, str], _Update] = {
    ("", "Pod"): pod_update.pod,
    ("", "Service"): service.update,
    ("", "ConfigMap"): config.config_map_update,
    ("", "Secret"): config.secret_update,
    ("", "Node"): node.update,
    ("", "PersistentVolume"): persistent_volumes.volume_update,
    ("", "PersistentVolumeClaim"): persistent_volumes.claim_update,
    ("apps", "Deployment"): deployment.update,
    ("apps", "ReplicaSet"): replicaset.update,
    ("discovery.k8s.io", "EndpointSlice"): endpoints.endpoint_slice_update,
    ("rbac.authorization.k8s.io", "RoleBinding"): rbac.binding_update,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): rbac.binding_update,
}
_UPDATE_OF_SUBRESOURCE: dict[tuple[str, str, str], _Update] = {
    ("", "Pod", "ephemeralcontainers"): pod_update.ephemeral_containers,
}


def create(resource: AnyResource, tree: Tree) -> list[Cause]:
    """Return what is wrong with a new object."""
    problems = Problems()
    metadata.create(resource, tree.get("metadata", {}), problems)
    rules = _CREATE.get((resource.group, resource.kind))
    if rules:
        rules(tree, problems)
    return problems.causes


def update(resource: AnyResource, tree: Tree, old: Tree, *, subresource: str = "") -> list[Cause]:
    """Return what is wrong with `tree` as the successor of `old`.

    A subresource (status, scale, binding …) writes its own part, so the rules of the rest
    do not run; `ephemeralcontainers` of a Pod has rules of its own.
    """
    problems = Problems()
    metadata.update(resource, tree.get("metadata", {}), old.get("metadata", {}), problems=problems)
    if subresource:
        rules = _UPDATE_OF_SUBRESOURCE.get((resource.group, resource.kind, subresource))
        if rules:
            rules(tree, old, problems)
        return problems.causes
    key = (resource.group, resource.kind)
    if key in _UPDATE:
        _UPDATE[key](tree, old, problems)
    if key in _CREATE and not problems.causes:
        _CREATE[key](tree, problems)
    return problems.causes
