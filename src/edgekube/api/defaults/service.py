"""Services."""

from edgekube.api.defaults.fill import Tree, fill, fill_empty, items

STICKY_SECONDS = 10800
_ADDRESS = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")


def service(tree: Tree) -> None:
    """Fill a Service; giving it a cluster IP and node ports is up to whoever owns the ranges."""
    spec = tree.setdefault("spec", {})
    fill_empty(spec, {"sessionAffinity": "None", "type": "ClusterIP"})
    if spec["sessionAffinity"] == "ClientIP":
        client_ip = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        fill(client_ip, {"timeoutSeconds": STICKY_SECONDS})
    else:
        spec.pop("sessionAffinityConfig", None)
    for port in items(spec, "ports"):
        fill_empty(port, {"protocol": "TCP"})
        fill_empty(port, {"targetPort": port.get("port", 0)})
    _traffic(spec)
    if spec["type"] != "ExternalName":
        _families(spec)
    tree.setdefault("status", {}).setdefault("loadBalancer", {})


def _traffic(spec: Tree) -> None:
    kind = spec["type"]
    if kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.get("externalIPs")):
        fill_empty(spec, {"externalTrafficPolicy": "Cluster"})
    if kind in ("ClusterIP", "NodePort", "LoadBalancer"):
        fill_empty(spec, {"internalTrafficPolicy": "Cluster"})
    if kind == "LoadBalancer":
        fill(spec, {"allocateLoadBalancerNodePorts": True})


def _families(spec: Tree) -> None:
    address = spec.get("clusterIP", "")
    if address and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [address]
    fill(spec, {"ipFamilyPolicy": "SingleStack"})
    if not spec.get("ipFamilies"):
        spec["ipFamilies"] = ["IPv6" if ":" in address else "IPv4"]


def carry_over(tree: Tree, old: Tree) -> None:
    """Keep the address and node ports a Service has been given, where an update leaves them out.

    What belonged to the old type, and is still there unchanged, goes with it.
    """
    spec, before = tree.setdefault("spec", {}), old.get("spec", {})
    kind = spec.get("type") or "ClusterIP"
    if kind == "ExternalName":
        _drop_unchanged(spec, before, (*_ADDRESS, "internalTrafficPolicy"))
    elif not spec.get("clusterIP") and not spec.get("clusterIPs"):
        fill(spec, {name: before[name] for name in _ADDRESS if before.get(name)})
    if kind in ("NodePort", "LoadBalancer"):
        _keep_node_ports(spec, before)
        return
    given = {port.get("nodePort") for port in items(before, "ports")}
    for port in items(spec, "ports"):
        if port.get("nodePort") in given:
            port.pop("nodePort", None)
    _drop_unchanged(spec, before, ("healthCheckNodePort", "allocateLoadBalancerNodePorts"))
    if not spec.get("externalIPs"):
        _drop_unchanged(spec, before, ("externalTrafficPolicy",))


def _keep_node_ports(spec: Tree, before: Tree) -> None:
    given = {
        (port.get("protocol"), port.get("port")): port.get("nodePort") for port in items(before, "ports")
    }
    for port in items(spec, "ports"):
        known = given.get((port.get("protocol") or "TCP", port.get("port")))
        if known:
            fill_empty(port, {"nodePort": known})


def _drop_unchanged(spec: Tree, before: Tree, fields: tuple[str, ...]) -> None:
    for field in fields:
        if field in spec and spec[field] == before.get(field):
            del spec[field]
