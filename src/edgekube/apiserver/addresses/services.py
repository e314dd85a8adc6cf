"""What a Service has of addresses and ports, and what it needs."""

import ipaddress
from collections.abc import Sequence
from typing import Any

from edgekube.apiserver.request import Tree

HEADLESS = "None"


def spec_of(service: Tree) -> dict[str, Any]:
    """Return its spec."""
    return service.get("spec") or {}


def addresses_of(service: Tree) -> Sequence[str]:
    """Return its cluster addresses, written as RFC 5952 wants: there is one name for each, and one holder."""
    spec = spec_of(service)
    every = spec.get("clusterIPs") or (spec.get("clusterIP", ""),)
    return [canonical(address) for address in every if address and address != HEADLESS]


def canonical(address: str) -> str:
    """Return an address as it is usually written; what is none, as it is."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address


def ports_of(service: Tree) -> Sequence[int]:
    """Return its node ports, that for health checks too."""
    spec = spec_of(service)
    ports = [port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")]
    health = spec.get("healthCheckNodePort")
    return [*ports, health] if health else ports


def needs_node_ports(spec: Tree) -> bool:
    """Whether every port gets a node port."""
    kind = spec.get("type")
    return kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts", True))


def needs_health_port(spec: Tree) -> bool:
    """Whether load balancers have to ask which nodes have endpoints (KEP-2086's older sibling for outside traffic)."""
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
