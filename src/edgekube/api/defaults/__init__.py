"""Kubernetes' defaulting: what an object says when it says nothing.

Sources: the SetDefaults functions of pkg/apis/{core,apps,discovery}/v1 and the field
descriptions of the API reference. Defaulting twice changes nothing.
"""

from collections.abc import Callable
from typing import Any

from edgekube.api.defaults import (
    config,
    deployment,
    endpoints,
    namespace,
    node,
    pod,
    rbac,
    replicaset,
    service,
    volumes,
)
from edgekube.api.resource import AnyResource

_BY_KIND: dict[tuple[str, str], Callable[[dict[str, Any]], None]] = {
    ("", "Pod"): pod.pod,
    ("", "Service"): service.service,
    ("", "Secret"): config.secret,
    ("", "Namespace"): namespace.namespace,
    ("", "Node"): node.node,
    ("", "Endpoints"): endpoints.endpoints,
    ("", "PersistentVolume"): volumes.persistent_volume,
    ("", "PersistentVolumeClaim"): volumes.persistent_volume_claim,
    ("apps", "Deployment"): deployment.deployment,
    ("apps", "ReplicaSet"): replicaset.replica_set,
    ("discovery.k8s.io", "EndpointSlice"): endpoints.endpoint_slice,
    ("rbac.authorization.k8s.io", "RoleBinding"): rbac.binding,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): rbac.binding,
}


def apply(resource: AnyResource, tree: dict[str, Any]) -> None:
    """Fill the defaults of a normalised object, in place; kinds without defaults stay as they are."""
    default = _BY_KIND.get((resource.group, resource.kind))
    if default:
        default(tree)
