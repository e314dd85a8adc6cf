"""ServiceCIDRs and IPAddresses (pkg/apis/networking/validation, KEP-1880)."""

import ipaddress
from typing import Any

from edgekube.api.validation import names
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
_MOST = 2
_ONE_EACH = "may only hold one value for each IP family"
_MAY_NOT_CHANGE = "field is immutable"


def service_cidr(tree: Tree, problems: Problems) -> None:
    """Check a ServiceCIDR."""
    ranges = tree.get("spec", {}).get("cidrs", ())
    if not ranges:
        problems.required("spec.cidrs", "at least one CIDR required")
        return
    if len(ranges) > _MOST:
        problems.invalid("spec", {"cidrs": ranges}, _ONE_EACH)
    valid = [_range(text, f"spec.cidrs[{index}]", problems) for index, text in enumerate(ranges)]
    if len(ranges) == _MOST and all(valid):
        families = {":" in text for text in ranges}
        if len(families) < _MOST:
            problems.invalid("spec", {"cidrs": ranges}, _ONE_EACH)


def service_cidr_update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may change: a range of the other family may be added."""
    ranges, before = tree.get("spec", {}).get("cidrs", []), old.get("spec", {}).get("cidrs", [])
    if ranges == before:
        return
    grows = len(before) == 1 and len(ranges) == _MOST
    if not grows:
        problems.invalid("spec.cidrs", ranges, _MAY_NOT_CHANGE)
    elif ranges[0] != before[0]:
        problems.invalid("spec.cidrs[0]", ranges[0], _MAY_NOT_CHANGE)


def ip_address(tree: Tree, problems: Problems) -> None:
    """Check an IPAddress: its name is the address, its parent what has it."""
    name = tree["metadata"].get("name", "")
    problems.each("metadata.name", name, _canonical(name))
    parent = tree.get("spec", {}).get("parentRef")
    if parent is None:
        problems.required("spec.parentRef")
        return
    if group := parent.get("group"):
        problems.each("spec.parentRef.group", group, names.subdomain(group))
    for field in ("resource", "name"):
        value = parent.get(field)
        if not value:
            problems.required(f"spec.parentRef.{field}")
        else:
            problems.each(f"spec.parentRef.{field}", value, names.path_segment(value))
    if namespace := parent.get("namespace"):
        problems.each("spec.parentRef.namespace", namespace, names.path_segment(namespace))


def ip_address_update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change: to whom an address belongs."""
    spec, before = tree.get("spec", {}), old.get("spec", {})
    if before.get("parentRef"):
        problems.unchanged(spec, before, "parentRef", "spec")


def _range(text: str, path: str, problems: Problems) -> bool:
    wrong = names.cidr(text)
    problems.each(path, text, wrong)
    if wrong:
        return False
    canonical = str(ipaddress.ip_network(text, strict=False))
    if canonical != text:
        problems.invalid(path, text, f'must be in canonical form ("{canonical}")')
        return False
    return True


def _canonical(name: str) -> list[str]:
    wrong = names.ip_address(name)
    if not wrong and str(ipaddress.ip_address(name)) != name:
        return ["must be a canonical format IP address"]
    return wrong
