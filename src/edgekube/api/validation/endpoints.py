"""Endpoints and EndpointSlices."""

from typing import Any

from edgekube.api.validation import names
from edgekube.api.validation.problems import Problems
from edgekube.api.validation.service import PROTOCOLS

Tree = dict[str, Any]
_FAMILIES = ("FQDN", "IPv4", "IPv6")
MOST_ENDPOINTS = 1000
MOST_ADDRESSES = 100
MOST_PORTS = 20000


def endpoints(tree: Tree, problems: Problems) -> None:
    """Check an Endpoints object."""
    for index, subset in enumerate(tree.get("subsets", ())):
        path = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            problems.required(path, "must specify `addresses` or `notReadyAddresses`")
        for part in ("addresses", "notReadyAddresses"):
            for number, address in enumerate(subset.get(part, ())):
                problems.each(
                    f"{path}.{part}[{number}].ip",
                    address.get("ip", ""),
                    names.ip_address(address.get("ip", "")),
                )
        ports = subset.get("ports", ())
        for number, port in enumerate(ports):
            here = f"{path}.ports[{number}]"
            if not port.get("name") and len(ports) > 1:
                problems.required(f"{here}.name")
            elif port.get("name"):
                problems.each(f"{here}.name", port["name"], names.label(port["name"]))
            problems.each(f"{here}.port", port.get("port", 0), names.port_number(port.get("port", 0)))
            problems.one_of(port, "protocol", here, supported=PROTOCOLS)


def endpoint_slice(tree: Tree, problems: Problems) -> None:
    """Check an EndpointSlice."""
    family = tree.get("addressType", "")
    if not family:
        problems.required("addressType")
    elif family not in _FAMILIES:
        problems.unsupported("addressType", family, _FAMILIES)
    entries = tree.get("endpoints", ())
    if len(entries) > MOST_ENDPOINTS:
        problems.too_many("endpoints", len(entries), MOST_ENDPOINTS)
    for index, endpoint in enumerate(entries):
        _endpoint(endpoint, f"endpoints[{index}]", family, problems=problems)
    _slice_ports(tree.get("ports", ()), problems)


def endpoint_slice_update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change."""
    problems.unchanged(tree, old, "addressType", "")


def _endpoint(endpoint: Tree, path: str, family: str, *, problems: Problems) -> None:
    addresses = endpoint.get("addresses", ())
    if not addresses:
        problems.required(f"{path}.addresses", "must contain at least 1 address")
    if len(addresses) > MOST_ADDRESSES:
        problems.too_many(f"{path}.addresses", len(addresses), MOST_ADDRESSES)
    for index, address in enumerate(addresses):
        here = f"{path}.addresses[{index}]"
        wrong = names.subdomain(address) if family == "FQDN" else names.ip_address(address)
        problems.each(here, address, wrong)
        if not wrong and family in ("IPv4", "IPv6") and (":" in address) != (family == "IPv6"):
            problems.invalid(here, address, f"must be an {family} address")


def _slice_ports(ports: list[Tree], problems: Problems) -> None:
    seen: set[str] = set()
    if len(ports) > MOST_PORTS:
        problems.too_many("ports", len(ports), MOST_PORTS)
    for index, port in enumerate(ports):
        path = f"ports[{index}]"
        name = port.get("name", "")
        if name:
            problems.each(f"{path}.name", name, names.label(name))
        if name in seen:
            problems.duplicate(f"{path}.name", name)
        seen.add(name)
        if port.get("port") is not None:
            problems.each(f"{path}.port", port["port"], names.port_number(port["port"]))
        problems.one_of(port, "protocol", path, supported=PROTOCOLS)
