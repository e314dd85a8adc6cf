"""Network policies (pkg/apis/networking/validation)."""

import ipaddress
from typing import Any

from edgekube.api.validation import names
from edgekube.api.validation.label_selector import label_selector
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
_TYPES = ("Egress", "Ingress")
_PROTOCOLS = ("TCP", "UDP", "SCTP")


def network_policy(tree: Tree, problems: Problems) -> None:
    """Check a NetworkPolicy."""
    spec = tree.get("spec", {})
    label_selector(spec.get("podSelector", {}), "spec.podSelector", problems)
    for field, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(field, ())):
            path = f"spec.{field}[{index}]"
            for number, port in enumerate(rule.get("ports", ())):
                _port(port, f"{path}.ports[{number}]", problems)
            for number, peer in enumerate(rule.get(peers, ())):
                _peer(peer, f"{path}.{peers}[{number}]", problems)
    types = spec.get("policyTypes", ())
    if len(types) > len(_TYPES):
        problems.invalid("spec.policyTypes", types, "may not specify more than two policyTypes")
        return
    for index, kind in enumerate(types):
        if kind not in _TYPES:
            problems.unsupported(f"spec.policyTypes[{index}]", kind, _TYPES)


def _port(port: Tree, path: str, problems: Problems) -> None:
    if port.get("protocol") and port["protocol"] not in _PROTOCOLS:
        problems.unsupported(f"{path}.protocol", port["protocol"], _PROTOCOLS)
    number, end = port.get("port"), port.get("endPort")
    if number is not None:
        problems.each(f"{path}.port", number, names.port(number))
    if end is None:
        return
    if number is None:
        problems.invalid(f"{path}.endPort", end, "may not be specified when `port` is not specified")
    elif isinstance(number, str):
        problems.invalid(f"{path}.endPort", end, "may not be specified when `port` is non-numeric")
    else:
        if end < number:
            problems.invalid(f"{path}.endPort", end, "must be greater than or equal to `port`")
        problems.each(f"{path}.endPort", end, names.port_number(end))


def _peer(peer: Tree, path: str, problems: Problems) -> None:
    for field in ("podSelector", "namespaceSelector"):
        if field in peer:
            label_selector(peer[field], f"{path}.{field}", problems)
    block = peer.get("ipBlock")
    if block is not None:
        _block(block, f"{path}.ipBlock", problems)
        if len(peer) > 1:
            problems.forbidden(path, "may not specify both ipBlock and another peer")
    elif not peer:
        problems.required(path, "must specify a peer")


def _block(block: Tree, path: str, problems: Problems) -> None:
    whole = block.get("cidr", "")
    if not whole:
        problems.required(f"{path}.cidr")
        return
    wrong = names.cidr(whole)
    problems.each(f"{path}.cidr", whole, wrong)
    for index, part in enumerate(block.get("except", ())):
        here = f"{path}.except[{index}]"
        bad = names.cidr(part)
        problems.each(here, part, bad)
        if not wrong and not bad and not _strictly_within(part, whole):
            problems.invalid(here, part, "must be a strict subset of `cidr`")


def _strictly_within(part: str, whole: str) -> bool:
    inner, outer = ipaddress.ip_network(part, strict=False), ipaddress.ip_network(whole, strict=False)
    if inner.version != outer.version or inner.prefixlen <= outer.prefixlen:
        return False
    return inner.network_address in outer
