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
STATEFUL_SETS = Resource(
    "apps", "v1", "StatefulSet", "statefulsets", t.StatefulSet, short_names=("sts",), categories=("all",),
    subresources=("status", "scale"),
)  # fmt: skip
DAEMON_SETS = Resource(
    "apps", "v1", "DaemonSet", "daemonsets", t.DaemonSet, short_names=("ds",), categories=("all",),
    subresources=("status",),
)  # fmt: skip
CONTROLLER_REVISIONS = Resource(
    "apps", "v1", "ControllerRevision", "controllerrevisions", t.ControllerRevision
)

RESOURCES = (DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS, DAEMON_SETS, CONTROLLER_REVISIONS)
