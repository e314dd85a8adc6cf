"""Ingress classes and network policies."""

from edgekube.api.defaults.fill import Tree, fill, fill_empty, items


def ingress_class(tree: Tree) -> None:
    """Fill an IngressClass: its parameters are cluster-scoped unless they say otherwise."""
    parameters = tree.get("spec", {}).get("parameters")
    if parameters:
        fill(parameters, {"scope": "Cluster"})


def network_policy(tree: Tree) -> None:
    """Fill a NetworkPolicy: it is about incoming traffic, and about outgoing when it speaks of it."""
    spec = tree.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    for rule in items(spec, "ingress", "egress"):
        for port in items(rule, "ports"):
            fill_empty(port, {"protocol": "TCP"})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
