"""
Which endpoints of a Service get new connections from this node, as kube-proxy chooses them.

Ready ones; if there are none those that end but still serve (KEP-1669). Hints of the
EndpointSlices narrow them to this node's or this zone's (KEP-2433, 3015, 4444).
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from edgekube.api.types import core_v1, discovery_v1
from edgekube.network.base import Backend

Slices = Collection[discovery_v1.EndpointSlice]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An endpoint that may be chosen, by one of its addresses."""

    backend: Backend
    ready: bool
    """If not, it ends and still serves."""
    nodes: frozenset[str]
    """Names of the nodes it is meant for; none: not said."""
    zones: frozenset[str]
    """Zones it is meant for; none: not said."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What there is for one port of a Service."""

    everywhere: tuple[Backend, ...]
    """For traffic that may go to any node."""
    here: tuple[Backend, ...]
    """For traffic that must not leave this node."""


def choose(slices: Slices, port: core_v1.ServicePort, node_name: str, zone: str) -> Choice:
    """Choose for one port and the node `node_name` in `zone` ("": in none)."""
    found = list(_candidates(slices, port, node_name))
    near = [candidate for candidate in found if candidate.backend.local]
    ready = [candidate for candidate in found if candidate.ready]
    return Choice(_backends(_by_hints(ready, node_name, zone) or found), _backends(_ready(near)))


def _ready(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    return [candidate for candidate in candidates if candidate.ready] or candidates


def _by_hints(ready: Sequence[Candidate], node_name: str, zone: str) -> Sequence[Candidate]:
    """Return the endpoints meant for this node, else for its zone; all, if hints are missing or name neither."""
    for said, wanted in ((_nodes, node_name), (_zones, zone)):
        if wanted and all(said(candidate) for candidate in ready):
            meant = [candidate for candidate in ready if wanted in said(candidate)]
            if meant:
                return meant
    return ready


def _nodes(candidate: Candidate) -> frozenset[str]:
    return candidate.nodes


def _zones(candidate: Candidate) -> frozenset[str]:
    return candidate.zones


def _backends(candidates: Iterable[Candidate]) -> tuple[Backend, ...]:
    return tuple(sorted({candidate.backend for candidate in candidates}))


def _candidates(slices: Slices, port: core_v1.ServicePort, node_name: str) -> Iterable[Candidate]:
    for item in slices:
        number = _target_port(item, port)
        if number is None or item.address_type != "IPv4":
            continue
        for endpoint in item.endpoints:
            ready = is_ready(endpoint)
            if not ready and not _is_ending(endpoint):
                continue
            hints = endpoint.hints or discovery_v1.EndpointHints()
            nodes = frozenset(hint.name for hint in hints.for_nodes)
            zones = frozenset(hint.name for hint in hints.for_zones)
            local = endpoint.node_name == node_name
            for address in endpoint.addresses:
                if is_ipv4(address):
                    yield Candidate(Backend(address, number, local), ready, nodes, zones)


def _target_port(item: discovery_v1.EndpointSlice, port: core_v1.ServicePort) -> int | None:
    """Return the number a slice has for a Service's port; named target ports are resolved there."""
    for candidate in item.ports:
        if candidate.name == port.name and (candidate.protocol or "TCP") == (port.protocol or "TCP"):
            return candidate.port
    return None


def is_ready(endpoint: discovery_v1.Endpoint) -> bool:
    """Tell whether an endpoint takes new connections; not said means yes."""
    return endpoint.conditions is None or endpoint.conditions.ready is not False


def _is_ending(endpoint: discovery_v1.Endpoint) -> bool:
    conditions = endpoint.conditions
    return conditions is not None and bool(conditions.terminating) and bool(conditions.serving)


def is_ipv4(address: str) -> bool:
    """Tell whether it is one; the rules know no other family."""
    try:
        IPv4Address(address)
    except ValueError:
        return False
    return True
