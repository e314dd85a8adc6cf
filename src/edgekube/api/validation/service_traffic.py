"""Services: how traffic comes in and is spread (pkg/apis/core/validation, ValidateService)."""

import ipaddress
from typing import Any

from edgekube.api.validation import names
from edgekube.api.validation.problems import Problems, shown

Tree = dict[str, Any]
POLICIES = ("Cluster", "Local")
DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
KUBELET_PORT = 10250
_ONLY_BALANCERS = "may only be used when `type` is 'LoadBalancer'"
_LONGEST_STICKINESS = 86400


def traffic(tree: Tree, problems: Problems) -> None:
    """Check how a Service's traffic comes in."""
    spec = tree.get("spec", {})
    kind = spec.get("type", "")
    _stickiness(spec, problems)
    _external_addresses(spec, problems)
    _source_ranges(tree, spec, kind, problems)
    _policies(spec, kind, problems)
    _balancer(spec, kind, problems)
    if spec.get("trafficDistribution"):
        problems.one_of(spec, "trafficDistribution", "spec", supported=DISTRIBUTIONS)


def needs_health_port(spec: Tree) -> bool:
    """Whether a Service may have a port for its load balancer's health checks."""
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _stickiness(spec: Tree, problems: Problems) -> None:
    problems.one_of(spec, "sessionAffinity", "spec", supported=("ClientIP", "None"))
    config = spec.get("sessionAffinityConfig")
    path = "spec.sessionAffinityConfig"
    if spec.get("sessionAffinity") == "None" and config is not None:
        problems.forbidden(path, "must not be set when session affinity is None")
    elif spec.get("sessionAffinity") == "ClientIP":
        seconds = (config or {}).get("clientIP", {}).get("timeoutSeconds")
        if seconds is None:
            problems.required(path, "when session affinity type is ClientIP")
        elif not 0 < seconds <= _LONGEST_STICKINESS:
            detail = f"must be greater than 0 and less than {_LONGEST_STICKINESS}"
            problems.invalid(f"{path}.clientIP.timeoutSeconds", seconds, detail)


def _external_addresses(spec: Tree, problems: Problems) -> None:
    for index, text in enumerate(spec.get("externalIPs", ())):
        path, wrong = f"spec.externalIPs[{index}]", names.ip_address(text)
        problems.each(path, text, wrong)
        if not wrong:
            problems.each(path, text, _special(text))


def _special(text: str) -> list[str]:
    """Return why an address cannot be anybody's own."""
    address = ipaddress.ip_address(text)
    found = {
        f"may not be unspecified ({text})": address.is_unspecified,
        "may not be in the loopback range (127.0.0.0/8, ::1/128)": address.is_loopback,
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)": address.is_link_local,
        "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)": address in LOCAL_MULTICAST,
    }
    return [why for why, is_so in found.items() if is_so]


class _Networks:
    """Some networks of both families."""

    def __init__(self, *texts: str) -> None:
        self._networks = tuple(map(ipaddress.ip_network, texts))

    def __contains__(self, address: object) -> bool:
        return any(address in network for network in self._networks)


LOCAL_MULTICAST = _Networks("224.0.0.0/24", "ff02::/16")


def _source_ranges(tree: Tree, spec: Tree, kind: str, problems: Problems) -> None:
    path = "spec.LoadBalancerSourceRanges"
    blocks = spec.get("loadBalancerSourceRanges", ())
    text = (tree.get("metadata", {}).get("annotations") or {}).get(SOURCE_RANGES)
    if blocks:
        if kind != "LoadBalancer":
            problems.forbidden(path, _ONLY_BALANCERS)
        for index, block in enumerate(blocks):
            problems.each(f"{path}[{index}]", block, names.cidr(block.strip()))
    elif text is not None:
        path = f"metadata.annotations[{SOURCE_RANGES}]"
        if kind != "LoadBalancer":
            problems.forbidden(path, _ONLY_BALANCERS)
        if text.strip() and any(names.cidr(block.strip()) for block in text.split(",")):
            problems.invalid(
                path, text, "must be a list of IP ranges. For example, 10.240.0.0/24,10.250.0.0/24"
            )


def _policies(spec: Tree, kind: str, problems: Problems) -> None:
    policy, external = spec.get("externalTrafficPolicy"), kind in ("LoadBalancer", "NodePort")
    external = external or (kind == "ClusterIP" and bool(spec.get("externalIPs")))
    if external:
        problems.one_of(spec, "externalTrafficPolicy", "spec", supported=POLICIES)
    elif policy:
        detail = "may only be set for externally-accessible services"
        problems.invalid("spec.externalTrafficPolicy", policy, detail)
    if spec.get("internalTrafficPolicy"):
        problems.one_of(spec, "internalTrafficPolicy", "spec", supported=POLICIES)
    elif kind in ("ClusterIP", "LoadBalancer", "NodePort"):
        problems.required("spec.internalTrafficPolicy")


def _balancer(spec: Tree, kind: str, problems: Problems) -> None:
    name = spec.get("loadBalancerClass")
    if name is not None:
        if kind == "LoadBalancer":
            problems.each("spec.loadBalancerClass", name, names.qualified(name))
        else:
            problems.forbidden("spec.loadBalancerClass", _ONLY_BALANCERS)
    if spec.get("allocateLoadBalancerNodePorts") is not None and kind != "LoadBalancer":
        problems.forbidden("spec.allocateLoadBalancerNodePorts", _ONLY_BALANCERS)
    _health(spec, problems)
    if kind == "LoadBalancer":
        for index, port in enumerate(spec.get("ports", ())):
            if port.get("port") == KUBELET_PORT:
                detail = f"may not expose port {KUBELET_PORT} externally since it is used by kubelet"
                problems.invalid(f"spec.ports[{index}].port", KUBELET_PORT, detail)


def _health(spec: Tree, problems: Problems) -> None:
    path, port = "spec.healthCheckNodePort", spec.get("healthCheckNodePort") or 0
    if port < 0:
        problems.invalid(path, port, "must be greater than or equal to 0")
    elif port and not needs_health_port(spec):
        detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        problems.invalid(path, port, detail)
    elif port and any(each.get("nodePort") == port for each in spec.get("ports", ())):
        problems.invalid(path, port, f"may not be the same as a node port ({shown(port)})")
