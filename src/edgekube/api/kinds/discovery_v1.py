"""Rows of the discovery.k8s.io group."""

from edgekube.api.resource import Resource
from edgekube.api.types import discovery_v1 as t

ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", t.EndpointSlice)

RESOURCES = (ENDPOINT_SLICES,)
