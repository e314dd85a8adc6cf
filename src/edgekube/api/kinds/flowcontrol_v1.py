"""Rows of the flowcontrol.apiserver.k8s.io group. Only the API server reads them, as trees."""

from typing import Any

from edgekube.api.resource import Resource, Scope

GROUP = "flowcontrol.apiserver.k8s.io"
Tree = dict[str, Any]

FLOW_SCHEMAS = Resource(
    GROUP, "v1", "FlowSchema", "flowschemas", Tree, scope=Scope.CLUSTER, subresources=("status",)
)
PRIORITY_LEVELS = Resource(
    GROUP, "v1", "PriorityLevelConfiguration", "prioritylevelconfigurations", Tree, scope=Scope.CLUSTER,
    subresources=("status",),
)  # fmt: skip

RESOURCES = (FLOW_SCHEMAS, PRIORITY_LEVELS)
