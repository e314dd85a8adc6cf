"""Services."""

from typing import Any

from edgekube.api.validation import metadata, names
from edgekube.api.validation.problems import Problems
from edgekube.api.validation.service_traffic import needs_health_port, traffic

Tree = dict[str, Any]
PROTOCOLS = ("SCTP", "TCP", "UDP")
TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
HEADLESS = "None"
FAMILIES = ("IPv4", "IPv6")
FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_ONCE = "may not change once set"


def service(tree: Tree, problems: Problems) -> None:
    """Check a Service."""
    spec = tree.get("spec", {})
    kind = spec.get("type", "")
    problems.one_of(spec, "type", "spec", supported=TYPES)
    metadata.labels(spec.get("selector", {}), "spec.selector", problems)
    if kind == "ExternalName":
        _external_name(spec, problems)
    elif not spec.get("ports") and spec.get("clusterIP") != HEADLESS:
        problems.required("spec.ports")
    _ports(spec.get("ports", ()), kind, problems)
    _addresses(spec, kind, problems)
    _families(spec, kind, problems)
    traffic(tree, problems)


def update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change: the address and its family, unless the Service was or becomes an alias."""
    spec, before = tree.get("spec", {}), old.get("spec", {})
    if spec.get("type") == before.get("type") == "LoadBalancer":
        mine, had = spec.get("loadBalancerClass"), before.get("loadBalancerClass")
        if mine != had:
            problems.invalid("spec.loadBalancerClass", mine, _ONCE)
    if needs_health_port(spec) and needs_health_port(before):
        problems.unchanged(spec, before, "healthCheckNodePort", "spec")
    if "ExternalName" in (spec.get("type"), before.get("type")):
        return
    if before.get("clusterIP") and spec.get("clusterIP") != before["clusterIP"]:
        problems.invalid("spec.clusterIPs[0]", spec.get("clusterIPs", []), _ONCE)
    families = before.get("ipFamilies", ())
    if families and spec.get("ipFamilies", ())[:1] != families[:1]:
        problems.invalid("spec.ipFamilies[0]", spec.get("ipFamilies", []), _ONCE)
    addresses, had = spec.get("clusterIPs", ()), before.get("clusterIPs", ())
    if len(had) > 1 and len(addresses) > 1 and addresses[1] != had[1]:
        problems.invalid("spec.clusterIPs[1]", addresses, _ONCE)


def status(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check a Service's status: the addresses a load balancer gave it."""
    balancer = tree.get("status", {}).get("loadBalancer", {})
    entries = balancer.get("ingress", ())
    # What is left of a Service that was one may stay until its controller takes it away.
    new = entries != old.get("status", {}).get("loadBalancer", {}).get("ingress", ())
    if entries and new and tree.get("spec", {}).get("type") != "LoadBalancer":
        problems.forbidden(
            "status.loadBalancer.ingress", 'may only be used when `spec.type` is "LoadBalancer"'
        )
    for index, entry in enumerate(entries):
        _ingress(entry, f"status.loadBalancer.ingress[{index}]", problems)


def _ingress(entry: Tree, path: str, problems: Problems) -> None:
    address, host = entry.get("ip"), entry.get("hostname")
    if address:
        problems.each(f"{path}.ip", address, names.ip_address(address))
        problems.one_of(entry, "ipMode", path, supported=("Proxy", "VIP"))
    elif entry.get("ipMode") is not None:
        problems.forbidden(f"{path}.ipMode", "may not be specified when `ip` is not set")
    if host:
        problems.each(f"{path}.hostname", host, names.subdomain(host))
        if not names.ip_address(host):
            problems.invalid(f"{path}.hostname", host, "must be a DNS name, not an IP address")


def _external_name(spec: Tree, problems: Problems) -> None:
    name = spec.get("externalName", "").removesuffix(".")
    if name:
        problems.each("spec.externalName", name, names.subdomain(name))
    else:
        problems.required("spec.externalName")
    for field, path in ALIAS_LACKS.items():
        if spec.get(field):
            problems.forbidden(path, "may not be set for ExternalName services")


ALIAS_LACKS = {
    "clusterIP": "spec.clusterIPs", "ipFamilies": "spec.ipFamilies", "ipFamilyPolicy": "spec.ipFamilyPolicy",
}  # fmt: skip
"""Fields that are for Services with an address of their own."""


def _ports(ports: list[Tree], kind: str, problems: Problems) -> None:
    seen_names: set[str] = set()
    seen_numbers = set()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        name, number = port.get("name", ""), port.get("port", 0)
        if name:
            problems.each(f"{path}.name", name, names.label(name))
            if name in seen_names:
                problems.duplicate(f"{path}.name", name)
            seen_names.add(name)
        elif len(ports) > 1:
            problems.required(f"{path}.name")
        problems.each(f"{path}.port", number, names.port_number(number))
        problems.one_of(port, "protocol", path, supported=PROTOCOLS)
        target = port.get("targetPort") or number
        problems.each(f"{path}.targetPort", target, names.port(target))
        if port.get("nodePort") and kind == "ClusterIP":
            problems.forbidden(f"{path}.nodePort", "may not be used when `type` is 'ClusterIP'")
        key = (port.get("protocol"), number)
        if key in seen_numbers:
            problems.duplicate(path, {"protocol": key[0], "port": number})
        seen_numbers.add(key)
    _node_ports(ports, problems)


def _node_ports(ports: list[Tree], problems: Problems) -> None:
    seen = set()
    for index, port in enumerate(ports):
        key = (port.get("protocol"), port.get("nodePort", 0))
        if key[1] and key in seen:
            problems.duplicate(f"spec.ports[{index}].nodePort", key[1])
        seen.add(key)


def _addresses(spec: Tree, kind: str, problems: Problems) -> None:
    addresses = spec.get("clusterIPs", ())
    if addresses and spec.get("clusterIP", "") != addresses[0]:
        problems.invalid("spec.clusterIPs", addresses, "first value must match `clusterIP`")
    for index, address in enumerate(addresses):
        path = f"spec.clusterIPs[{index}]"
        if address != HEADLESS:
            problems.each(path, address, names.ip_address(address))
        elif kind in ("NodePort", "LoadBalancer"):
            problems.invalid(path, address, f"may not be set to 'None' for {kind} services")


def _families(spec: Tree, kind: str, problems: Problems) -> None:
    if kind == "ExternalName":
        return
    families, seen = spec.get("ipFamilies", ()), set[str]()
    for index, family in enumerate(families):
        path = f"spec.ipFamilies[{index}]"
        if family not in FAMILIES:
            problems.unsupported(path, family, FAMILIES)
        elif family in seen:
            problems.duplicate(path, family)
        seen.add(family)
    if spec.get("ipFamilyPolicy"):
        problems.one_of(spec, "ipFamilyPolicy", "spec", supported=FAMILY_POLICIES)
    _at_most_two(spec, problems)
    for index, (address, family) in enumerate(zip(spec.get("clusterIPs", ()), families, strict=False)):
        wrong = (
            address != HEADLESS and not names.ip_address(address) and (":" in address) != (family == "IPv6")
        )
        if wrong and family in FAMILIES:
            detail = f"expected an {family} value as indicated by `ipFamilies[{index}]`"
            problems.invalid(f"spec.clusterIPs[{index}]", address, detail)


def _at_most_two(spec: Tree, problems: Problems) -> None:
    single = (spec.get("ipFamilyPolicy") or "SingleStack") == "SingleStack"
    for field, what in (("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")):
        if single and len(spec.get(field, ())) > 1:
            detail = f"must be 'PreferDualStack' or 'RequireDualStack' when multiple {what} are specified"
            problems.invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy", ""), detail)
    for field in ("clusterIPs", "ipFamilies"):
        if len(spec.get(field, ())) > 2:
            problems.invalid(f"spec.{field}", spec[field], "may only hold up to 2 values")
