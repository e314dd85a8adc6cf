"""Rows of the core group."""

from edgekube.api.resource import Durability, Resource, Scope
from edgekube.api.types import core_v1 as t

CLUSTER = Scope.CLUSTER

PODS = Resource(
    "", "v1", "Pod", "pods", t.Pod, short_names=("po",), categories=("all",),
    subresources=("status", "log", "exec", "attach", "portforward", "proxy", "binding", "eviction", "ephemeralcontainers", "resize"),
)  # fmt: skip
NODES = Resource(
    "",
    "v1",
    "Node",
    "nodes",
    t.Node,
    scope=CLUSTER,
    short_names=("no",),
    subresources=("status", "proxy"),
)
NAMESPACES = Resource(
    "", "v1", "Namespace", "namespaces", t.Namespace, scope=CLUSTER, short_names=("ns",),
    subresources=("status", "finalize"),
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
)  # fmt: skip
CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", t.ConfigMap, short_names=("cm",))
SECRETS = Resource("", "v1", "Secret", "secrets", t.Secret)
SERVICE_ACCOUNTS = Resource(
    "",
    "v1",
    "ServiceAccount",
    "serviceaccounts",
    t.ServiceAccount,
    short_names=("sa",),
    subresources=("token",),
)
SERVICES = Resource(
    "",
    "v1",
    "Service",
    "services",
    t.Service,
    short_names=("svc",),
    categories=("all",),
    subresources=("status", "proxy"),
)
ENDPOINTS = Resource(
    "", "v1", "Endpoints", "endpoints", t.Endpoints, singular="endpoints", short_names=("ep",)
)
EVENTS = Resource("", "v1", "Event", "events", t.Event, short_names=("ev",), durability=Durability.VOLATILE)
PERSISTENT_VOLUMES = Resource(
    "", "v1", "PersistentVolume", "persistentvolumes", t.PersistentVolume, scope=CLUSTER, short_names=("pv",),
    subresources=("status",),
)  # fmt: skip
PERSISTENT_VOLUME_CLAIMS = Resource(
    "", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", t.PersistentVolumeClaim, short_names=("pvc",),
    subresources=("status",),
)  # fmt: skip
RESOURCE_QUOTAS = Resource(
    "",
    "v1",
    "ResourceQuota",
    "resourcequotas",
    t.ResourceQuota,
    short_names=("quota",),
    subresources=("status",),
)
LIMIT_RANGES = Resource("", "v1", "LimitRange", "limitranges", t.LimitRange, short_names=("limits",))
POD_TEMPLATES = Resource("", "v1", "PodTemplate", "podtemplates", t.PodTemplate)
REPLICATION_CONTROLLERS = Resource(
    "", "v1", "ReplicationController", "replicationcontrollers", t.ReplicationController, short_names=("rc",),
    categories=("all",), subresources=("status", "scale"),
)  # fmt: skip

RESOURCES = (
    PODS, NODES, NAMESPACES, CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS, SERVICES, ENDPOINTS, EVENTS,
    PERSISTENT_VOLUMES, PERSISTENT_VOLUME_CLAIMS, RESOURCE_QUOTAS, LIMIT_RANGES, POD_TEMPLATES,
    REPLICATION_CONTROLLERS,
)  # fmt: skip
