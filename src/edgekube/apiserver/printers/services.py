"""Services, Endpoints, EndpointSlices."""

from datetime import datetime
from typing import Any

from edgekube.apiserver.printers.base import (
    AGE,
    NONE,
    UNSET,
    Printer,
    age,
    columns,
    labels,
    more,
    name,
    spec,
    status,
)  # fmt: skip
from edgekube.apiserver.request import Tree

PENDING = "<pending>"


def _external(service: Tree) -> str:
    fixed = [*(spec(service).get("externalIPs") or ())]
    kind = spec(service).get("type", "ClusterIP")
    if kind == "ExternalName":
        return str(spec(service).get("externalName", ""))
    if kind == "LoadBalancer":
        ingress = (status(service).get("loadBalancer") or {}).get("ingress") or ()
        fixed = [entry.get("ip") or entry.get("hostname", "") for entry in ingress] + fixed
        return ",".join(fixed) or PENDING
    return ",".join(fixed) or NONE


def _ports(service: Tree) -> str:
    texts = []
    for port in spec(service).get("ports") or ():
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        texts.append(f"{port['port']}{node}/{port.get('protocol', 'TCP')}")
    return ",".join(texts) or NONE


def service_cells(service: Tree, now: datetime) -> list[Any]:
    """Return a Service's cells."""
    addresses = spec(service).get("clusterIPs") or [spec(service).get("clusterIP") or NONE]
    return [
        name(service), spec(service).get("type", "ClusterIP"), addresses[0] or NONE, _external(service),
        _ports(service), age(service, now), labels(spec(service).get("selector")),
    ]  # fmt: skip


def _endpoints(endpoints: Tree) -> str:
    found = []
    for subset in endpoints.get("subsets") or ():
        addresses = [a["ip"] for a in subset.get("addresses") or ()]
        ports = [p["port"] for p in subset.get("ports") or ()]
        if not ports:
            found += addresses
        found += [f"{address}:{port}" for port in ports for address in addresses]
    return more(found)


def endpoints_cells(endpoints: Tree, now: datetime) -> list[Any]:
    """Return an Endpoints' cells."""
    return [name(endpoints), _endpoints(endpoints), age(endpoints, now)]


def slice_cells(piece: Tree, now: datetime) -> list[Any]:
    """Return an EndpointSlice's cells."""
    ports = [str(p.get("port") or "*") for p in piece.get("ports") or ()]
    addresses = [address for e in piece.get("endpoints") or () for address in e.get("addresses") or ()]
    shown = more(ports) if ports else UNSET
    return [
        name(piece), piece.get("addressType", ""), shown, more(addresses) if addresses else UNSET, age(piece, now),
    ]  # fmt: skip


PRINTERS = {
    "services": Printer(
        columns("Type", "Cluster-IP", "External-IP", "Port(s)", AGE, wide=("Selector",)), service_cells
    ),
    "endpoints": Printer(columns("Endpoints", AGE), endpoints_cells),
    "endpointslices.discovery.k8s.io": Printer(
        columns("AddressType", "Ports", "Endpoints", AGE), slice_cells
    ),
}
