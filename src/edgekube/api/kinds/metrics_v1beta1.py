"""
Rows of the metrics.k8s.io group: what nodes and pods use now.

Kept like any other object, in memory only: lists, selectors and RBAC come for free.
"""

from edgekube.api.resource import Durability, Resource, Scope

NODE_METRICS = Resource(
    "metrics.k8s.io", "v1beta1", "NodeMetrics", "nodes", dict, scope=Scope.CLUSTER, singular="",
    durability=Durability.VOLATILE,
)  # fmt: skip
POD_METRICS = Resource(
    "metrics.k8s.io", "v1beta1", "PodMetrics", "pods", dict, singular="", durability=Durability.VOLATILE
)

RESOURCES = (NODE_METRICS, POD_METRICS)
