"""
Topology-aware routing: endpoints are shared out to zones by how much processor the zones have (KEP-2433).

An endpoint is its own zone's if it can be. Zones with too few get some of those that can spare one; when
that cannot be made fair enough, or nobody knows enough, there are no hints and all serve all.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from edgekube.api import quantity
from edgekube.api.types import core_v1, discovery_v1
from edgekube.controllers.endpoints.backends import ZONE, Backend
from edgekube.controllers.nodes.health import ready

MODE = "service.kubernetes.io/topology-mode"
OLD_MODE = "service.kubernetes.io/topology-aware-hints"
AUTO = frozenset({"Auto", "auto"})
OVERLOAD = 1.2
"""How much more than its share a zone's endpoints may have to bear."""
ROUNDING = 1e-9
NO_WORK = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


def auto(service: core_v1.Service) -> bool:
    """Tell whether a Service wants this; it goes before trafficDistribution."""
    annotations = service.metadata.annotations
    return annotations.get(MODE, annotations.get(OLD_MODE, "")) in AUTO


def shares(nodes: Iterable[core_v1.Node]) -> Mapping[str, float]:
    """Return each zone's part of the processors; {} when there is one zone only, or a node says too little."""
    cpu: Counter[str] = Counter()
    for node in nodes:
        if not ready(node) or not works(node):
            continue
        zone, amount = node.metadata.labels.get(ZONE, ""), processors(node)
        if not zone or not amount:
            return {}
        cpu[zone] += amount
    total = cpu.total()
    return {zone: amount / total for zone, amount in cpu.items()} if len(cpu) > 1 and total else {}


def works(node: core_v1.Node) -> bool:
    """Tell whether a node's processors are for pods, and not for a control plane."""
    return not any(label in node.metadata.labels for label in NO_WORK)


def processors(node: core_v1.Node) -> int:
    """Return a node's thousandths of a processor for pods; 0 while it is not ready or does not say."""
    amount = node.status.allocatable.get("cpu", "")
    return quantity.milli(amount) if amount and ready(node) else 0


def hinted(backends: Sequence[Backend], parts: Mapping[str, float]) -> Sequence[Backend]:
    """Return the backends with hints by zone, or all without."""
    given = assigned([b.endpoint.zone if _takes(b) else None for b in backends], parts)
    return [
        Backend(_hint(backend.endpoint, zone), backend.ports)
        for backend, zone in zip(backends, given, strict=True)
    ]


def assigned(zones: Sequence[str | None], parts: Mapping[str, float]) -> Sequence[str]:
    """Return for each endpoint (its zone; None: it takes no connections) the zone it serves; "" for all if not fair."""
    nobody = [""] * len(zones)
    live = [zone for zone in zones if zone is not None]
    least = {zone: math.ceil(len(live) * part / OVERLOAD - ROUNDING) for zone, part in parts.items()}
    if not parts or sum(least.values()) > len(live) or any(zone not in parts for zone in live):
        return nobody
    found = [zone or "" for zone in zones]
    counts = Counter(live)
    for zone in sorted(parts):
        while counts[zone] < least[zone]:
            donor = max(sorted(parts), key=lambda z: counts[z] - len(live) * parts[z])
            if counts[donor] <= least[donor]:
                return nobody
            # The last of its endpoints: those before stay where they are when the next one comes.
            found[len(found) - 1 - found[::-1].index(donor)] = zone
            counts[donor] -= 1
            counts[zone] += 1
    return found


def _takes(backend: Backend) -> bool:
    conditions = backend.endpoint.conditions
    return conditions is not None and bool(conditions.ready) and not conditions.terminating


def _hint(endpoint: discovery_v1.Endpoint, zone: str) -> discovery_v1.Endpoint:
    hints = discovery_v1.EndpointHints(for_zones=(discovery_v1.ForZone(name=zone),)) if zone else None
    return msgspec.structs.replace(endpoint, hints=hints)
