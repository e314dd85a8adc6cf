"""Rows of the node.k8s.io group."""

from edgekube.api.resource import Resource, Scope
from edgekube.api.types import node_v1 as t

RUNTIME_CLASSES = Resource(
    "node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", t.RuntimeClass, scope=Scope.CLUSTER
)

RESOURCES = (RUNTIME_CLASSES,)
