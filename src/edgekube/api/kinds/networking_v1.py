"""Rows of the networking.k8s.io group."""

from edgekube.api.resource import Resource, Scope
from edgekube.api.types import networking_v1 as t

GROUP = "networking.k8s.io"

INGRESSES = Resource(
    GROUP, "v1", "Ingress", "ingresses", t.Ingress, short_names=("ing",), subresources=("status",)
)
INGRESS_CLASSES = Resource(GROUP, "v1", "IngressClass", "ingressclasses", t.IngressClass, scope=Scope.CLUSTER)
NETWORK_POLICIES = Resource(
    GROUP, "v1", "NetworkPolicy", "networkpolicies", t.NetworkPolicy, short_names=("netpol",)
)
SERVICE_CIDRS = Resource(
    GROUP, "v1", "ServiceCIDR", "servicecidrs", t.ServiceCIDR, scope=Scope.CLUSTER, subresources=("status",)
)
IP_ADDRESSES = Resource(
    GROUP, "v1", "IPAddress", "ipaddresses", t.IPAddress, scope=Scope.CLUSTER, short_names=("ip",)
)

RESOURCES = (INGRESSES, INGRESS_CLASSES, NETWORK_POLICIES, SERVICE_CIDRS, IP_ADDRESSES)
