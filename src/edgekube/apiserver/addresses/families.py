"""
Which IP families a Service has, before it is given addresses of them (KEP-563, dual-stack Services).

What the client leaves open follows from what it says: families from addresses, the policy from how
many there are; the rest is the cluster's primary family, and the other one where the policy wants two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edgekube.apiserver.addresses.ranges import family_of
from edgekube.apiserver.addresses.services import HEADLESS
from edgekube.apiserver.request import Tree

BOTH = ("IPv4", "IPv6")
SINGLE, REQUIRE = "SingleStack", "RequireDualStack"


@dataclass(frozen=True, slots=True)
class Wrong:
    """A wish the cluster cannot fulfil."""

    field: str
    message: str


def settle(spec: Tree, before: Tree | None, cluster: Sequence[str]) -> Wrong | None:
    """Fill in clusterIPs, ipFamilies and ipFamilyPolicy; `cluster` has its families, the primary first."""
    addresses = list(spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else ()))
    if before is not None and before.get("type") != "ExternalName":
        addresses = _carried(spec, before, addresses)
    if addresses:
        spec["clusterIPs"] = addresses
        spec.setdefault("clusterIP", addresses[0])
    families = list(spec.get("ipFamilies") or ())
    families += [family_of(address) for address in addresses[len(families) :] if address != HEADLESS]
    if addresses[:1] == [HEADLESS] and not spec.get("selector"):
        # Whoever fills its endpoints may have addresses of either family, also where the cluster has one.
        _finish(spec, families or [cluster[0]], spec.get("ipFamilyPolicy") or REQUIRE, BOTH)
        return None
    policy = spec.get("ipFamilyPolicy") or (REQUIRE if max(len(families), len(addresses)) > 1 else SINGLE)
    if policy == REQUIRE and len(cluster) == 1:
        message = f'Invalid value: "{policy}": this cluster is not configured for dual-stack services'
        return Wrong("spec.ipFamilyPolicy", message)
    for index, family in enumerate(families):
        if family in BOTH and family not in cluster:
            return Wrong(
                f"spec.ipFamilies[{index}]", f'Invalid value: "{family}": not configured on this cluster'
            )
    _finish(spec, families or [cluster[0]], policy, cluster)
    return None


def _finish(spec: Tree, families: list[str], policy: str, possible: Sequence[str]) -> None:
    if policy != SINGLE and len(families) == 1:
        families = [*families, *(family for family in possible if family not in families)]
    spec["ipFamilies"], spec["ipFamilyPolicy"] = families, policy


def _carried(spec: Tree, before: Tree, addresses: list[str]) -> list[str]:
    """Keep what an update does not tell; return its addresses. Back to one family the second address goes."""
    had = list(before.get("clusterIPs") or ())
    for field in ("ipFamilyPolicy", "ipFamilies"):
        if not spec.get(field) and before.get(field):
            spec[field] = before[field]
    if spec.get("ipFamilyPolicy") == SINGLE:
        if before.get("ipFamilyPolicy") != SINGLE:
            # What the client changed itself, too, is for the validation to judge.
            if addresses == had:
                addresses = addresses[:1]
            if spec.get("ipFamilies") == before.get("ipFamilies"):
                spec["ipFamilies"] = (spec.get("ipFamilies") or [])[:1]
            spec["clusterIPs"] = addresses
    elif addresses and addresses == had[:1]:
        addresses = had
    return addresses
