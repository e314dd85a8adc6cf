"""Rows of the coordination.k8s.io group."""

from edgekube.api.resource import Durability, Resource
from edgekube.api.types import coordination_v1 as t

LEASES = Resource("coordination.k8s.io", "v1", "Lease", "leases", t.Lease, durability=Durability.VOLATILE)

RESOURCES = (LEASES,)
