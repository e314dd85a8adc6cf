"""Rows of the scheduling.k8s.io group."""

from edgekube.api.resource import Resource, Scope
from edgekube.api.types import scheduling_v1 as t

PRIORITY_CLASSES = Resource(
    "scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", t.PriorityClass, scope=Scope.CLUSTER,
    short_names=("pc",),
)  # fmt: skip

RESOURCES = (PRIORITY_CLASSES,)
