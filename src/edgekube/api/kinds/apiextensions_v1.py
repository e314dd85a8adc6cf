"""Rows of the apiextensions.k8s.io group. Only the API server reads them, as trees."""

from typing import Any

from edgekube.api.resource import Resource, Scope

Tree = dict[str, Any]

CUSTOM_RESOURCE_DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", Tree, scope=Scope.CLUSTER,
    short_names=("crd", "crds"), categories=("api-extensions",), subresources=("status",),
)  # fmt: skip

RESOURCES = (CUSTOM_RESOURCE_DEFINITIONS,)
