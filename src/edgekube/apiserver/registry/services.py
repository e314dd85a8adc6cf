"""
What an update of a Service may leave out, and what a change of type takes along (service strategy).

Clients read a Service, change one field and send it back: fields that the new type does not have go
with the old type, unless the client changed them too; what was allocated stays when it is left out.
"""

from collections.abc import Callable, Mapping

from edgekube.apiserver.addresses.services import needs_health_port
from edgekube.apiserver.request import Tree

Has = Callable[[Tree], bool]


def _has_address(spec: Tree) -> bool:
    return spec.get("type") != "ExternalName"


def _balances(spec: Tree) -> bool:
    return spec.get("type") == "LoadBalancer"


def _has_node_ports(spec: Tree) -> bool:
    return spec.get("type") in {"NodePort", "LoadBalancer"}


def _external(spec: Tree) -> bool:
    return _has_node_ports(spec) or (spec.get("type") == "ClusterIP" and bool(spec.get("externalIPs")))


FIELDS: Mapping[str, Has] = {
    "clusterIP": _has_address,
    "clusterIPs": _has_address,
    "ipFamilies": _has_address,
    "ipFamilyPolicy": _has_address,
    "internalTrafficPolicy": _has_address,
    "externalTrafficPolicy": _external,
    "healthCheckNodePort": needs_health_port,
    "allocateLoadBalancerNodePorts": _balances,
    "loadBalancerClass": _balances,
}
"""Which Services have a field."""
ALLOCATED: Mapping[str, Has] = {
    "clusterIP": _has_address,
    "healthCheckNodePort": needs_health_port,
}


def drop_by_type(new: Tree, old: Tree) -> None:
    """Take away what only the old type had."""
    spec, before = new["spec"], old["spec"]
    for field, has in FIELDS.items():
        if has(before) and not has(spec) and spec.get(field) == before.get(field):
            spec.pop(field, None)
    if _has_node_ports(before) and not _has_node_ports(spec) and _node_ports(spec) == _node_ports(before):
        for port in spec.get("ports") or ():
            port.pop("nodePort", None)


def keep_allocated(new: Tree, old: Tree) -> None:
    """Keep what was allocated and is not told; the address in one field and in the list is one."""
    spec, before = new["spec"], old["spec"]
    changed = spec.get("clusterIP") and spec["clusterIP"] != before.get("clusterIP")
    if changed and spec.get("clusterIPs") == before.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    for field, has in ALLOCATED.items():
        if has(before) and has(spec) and not spec.get(field) and before.get(field):
            spec[field] = before[field]
    same = spec.get("clusterIP") == before.get("clusterIP")
    if same and before.get("clusterIPs") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = before["clusterIPs"]


def _node_ports(spec: Tree) -> list[tuple[object, object, object]]:
    ports = spec.get("ports") or ()
    return sorted((str(p.get("protocol")), p.get("port") or 0, p.get("nodePort") or 0) for p in ports)
