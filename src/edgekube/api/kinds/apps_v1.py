"""Rows of the apps group."""

from edgekube.api.resource import Resource
from edgekube.api.types import apps_v1 as t

DEPLOYMENTS = Resource(
    "apps", "v1", "Deployment", "deployments", t.Deployment, short_names=("deploy",), categories=("all",),
    subresources=("status", "scale"),
)  # fmt: skip
REPLICA_SETS = Resource(
    "apps", "v1", "ReplicaSet", "replicasets", t.ReplicaSet, short_names=("rs",), categories=("all",),
    subresources=("status", "scale"),
)  # fmt: skip

RESOURCES = (DEPLOYMENTS, REPLICA_SETS)
