"""Services."""

from typing import Any

from edgekube.api.validation import metadata, names
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
PROTOCOLS = ("SCTP", "TCP", "UDP")
TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
HEADLESS = "None"
_LONGEST_STICKINESS = 86400


def service(tree: Tree, problems: Problems) -> None:
    """Check a Service."""
    spec = tree.get("spec", {})
    kind = spec.get("type", "")
    problems.one_of(spec, "type", "spec", supported=TYPES)
    problems.one_of(spec, "sessionAffinity", "spec", supported=("ClientIP", "None"))
    _stickiness(spec, problems)
    metadata.labels(spec.get("selector", {}), "spec.selector", problems)
    if kind == "ExternalName":
        _external_name(spec, problems)
    elif not spec.get("ports") and spec.get("clusterIP") != HEADLESS:
        problems.required("spec.ports")
    _ports(spec.get("ports", ()), kind, problems)
    _addresses(spec, kind, problems)


def update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change: the address, unless the Service becomes an alias of a name."""
    spec, before = tree.get("spec", {}), old.get("spec", {})
    if "ExternalName" in (spec.get("type"), before.get("type")):
        return
    if before.get("clusterIP") and spec.get("clusterIP") != before["clusterIP"]:
        problems.invalid("spec.clusterIPs[0]", spec.get("clusterIPs", []), "may not change once set")


def _stickiness(spec: Tree, problems: Problems) -> None:
    seconds = spec.get("sessionAffinityConfig", {}).get("clientIP", {}).get("timeoutSeconds")
    if seconds is not None and not 0 < seconds <= _LONGEST_STICKINESS:
        problems.invalid(
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            seconds,
            f"must be greater than 0 and less than {_LONGEST_STICKINESS}",
        )


def _external_name(spec: Tree, problems: Problems) -> None:
    name = spec.get("externalName", "").removesuffix(".")
    if name:
        problems.each("spec.externalName", name, names.subdomain(name))
    else:
        problems.required("spec.externalName")
    if spec.get("clusterIP"):
        problems.forbidden("spec.clusterIPs", "may not be set for ExternalName services")


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
    for index, address in enumerate(spec.get("externalIPs", ())):
        problems.each(f"spec.externalIPs[{index}]", address, names.ip_address(address))
    _traffic(spec, kind, problems)


def _traffic(spec: Tree, kind: str, problems: Problems) -> None:
    for index, block in enumerate(spec.get("loadBalancerSourceRanges", ())):
        problems.each(f"spec.loadBalancerSourceRanges[{index}]", block, names.cidr(block))
    if spec.get("loadBalancerSourceRanges") and kind != "LoadBalancer":
        problems.forbidden("spec.LoadBalancerSourceRanges", "may only be used when `type` is 'LoadBalancer'")
    policy = spec.get("externalTrafficPolicy")
    if policy and kind not in ("LoadBalancer", "NodePort") and not spec.get("externalIPs"):
        problems.invalid(
            "spec.externalTrafficPolicy", policy, "may only be set for externally-accessible services"
        )
    for field in ("externalTrafficPolicy", "internalTrafficPolicy"):
        if spec.get(field):
            problems.one_of(spec, field, "spec", supported=("Cluster", "Local"))
    if spec.get("ipFamilyPolicy"):
        problems.one_of(
            spec, "ipFamilyPolicy", "spec", supported=("PreferDualStack", "RequireDualStack", "SingleStack")
        )
