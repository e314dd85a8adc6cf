"""Ingresses and their classes, network policies, service ranges and addresses."""

from datetime import datetime
from typing import Any

from edgekube.apiserver.printers.base import (
    AGE,
    NONE,
    Printer,
    age,
    columns,
    label_selector,
    name,
    spec,
    status,
)
from edgekube.apiserver.request import Tree

_HOSTS = 3


def _hosts(rules: list[Tree]) -> str:
    found = [rule["host"] for rule in rules if rule.get("host")]
    if not found:
        return "*"
    shown = ",".join(found[:_HOSTS])
    return f"{shown} + {len(found) - _HOSTS} more..." if len(found) > _HOSTS else shown


def ingress_cells(ingress: Tree, now: datetime) -> list[Any]:
    """Return an Ingress' cells."""
    about = spec(ingress)
    entries = (status(ingress).get("loadBalancer") or {}).get("ingress") or ()
    address = ",".join(entry.get("ip") or entry.get("hostname", "") for entry in entries)
    kind = about.get("ingressClassName") or (ingress["metadata"].get("annotations") or {}).get(
        "kubernetes.io/ingress.class", NONE
    )
    ports = "80, 443" if about.get("tls") else "80"
    return [name(ingress), kind, _hosts(about.get("rules") or []), address, ports, age(ingress, now)]


def class_cells(kind: Tree, now: datetime) -> list[Any]:
    """Return an IngressClass' cells."""
    parameters = spec(kind).get("parameters")
    shown = NONE
    if parameters:
        group = parameters.get("apiGroup")
        shown = f"{parameters['kind']}{f'.{group}' if group else ''}/{parameters['name']}"
    return [name(kind), spec(kind).get("controller", ""), shown, age(kind, now)]


def policy_cells(policy: Tree, now: datetime) -> list[Any]:
    """Return a NetworkPolicy's cells."""
    return [name(policy), label_selector(spec(policy).get("podSelector")), age(policy, now)]


def cidr_cells(cidr: Tree, now: datetime) -> list[Any]:
    """Return a ServiceCIDR's cells."""
    return [name(cidr), ",".join(spec(cidr).get("cidrs") or ()), age(cidr, now)]


def address_cells(address: Tree, now: datetime) -> list[Any]:
    """Return an IPAddress' cells."""
    parent = spec(address).get("parentRef") or {}
    parts = (parent.get("group"), parent.get("resource"), parent.get("namespace"), parent.get("name"))
    return [name(address), "/".join(part for part in parts if part), age(address, now)]


PRINTERS = {
    "ingresses.networking.k8s.io": Printer(columns("Class", "Hosts", "Address", "Ports", AGE), ingress_cells),
    "ingressclasses.networking.k8s.io": Printer(columns("Controller", "Parameters", AGE), class_cells),
    "networkpolicies.networking.k8s.io": Printer(columns("Pod-Selector", AGE), policy_cells),
    "servicecidrs.networking.k8s.io": Printer(columns("CIDRs", AGE), cidr_cells),
    "ipaddresses.networking.k8s.io": Printer(columns("ParentRef", AGE), address_cells),
}
