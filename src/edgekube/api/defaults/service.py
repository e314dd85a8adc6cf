"""Services."""

from edgekube.api.defaults.fill import Tree, fill, fill_empty, items

STICKY_SECONDS = 10800


def service(tree: Tree) -> None:
    """Fill a Service; giving it addresses of its families and node ports is up to whoever owns the ranges."""
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
    if spec["type"] != "ExternalName" and spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    balancer = tree.setdefault("status", {}).setdefault("loadBalancer", {})
    for entry in items(balancer, "ingress"):
        if entry.get("ip"):
            fill(entry, {"ipMode": "VIP"})


def _traffic(spec: Tree) -> None:
    kind = spec["type"]
    if kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.get("externalIPs")):
        fill_empty(spec, {"externalTrafficPolicy": "Cluster"})
    if kind in ("ClusterIP", "NodePort", "LoadBalancer"):
        fill_empty(spec, {"internalTrafficPolicy": "Cluster"})
    if kind == "LoadBalancer":
        fill(spec, {"allocateLoadBalancerNodePorts": True})
