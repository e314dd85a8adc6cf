"""Rows of the apiregistration.k8s.io group. Only the API server reads them, as trees."""

from typing import Any

from edgekube.api.resource import Resource, Scope

Tree = dict[str, Any]

API_SERVICES = Resource(
    "apiregistration.k8s.io", "v1", "APIService", "apiservices", Tree, scope=Scope.CLUSTER,
    categories=("api-extensions",), subresources=("status",),
)  # fmt: skip

RESOURCES = (API_SERVICES,)
