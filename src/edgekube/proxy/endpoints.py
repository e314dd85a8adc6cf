"""
Which endpoints of a Service get new connections from this node, as kube-proxy chooses them.

Ready ones; if there are none those that end but still serve (KEP-1669). Hints of the
EndpointSlices narrow them to this node's or this zone's (KEP-2433, 3015, 4444).
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from edgekube.api.types import core_v1, discovery_v1
from edgekube.network.base import ANY, ANY6, Backend

_ADDRESSES = frozenset({"IPv4", "IPv6"})
"""Types of slices whose endpoints are addresses, not names."""
Slices = Collection[discovery_v1.EndpointSlice]


class IPFamily(Enum):
    """The two, as Services and EndpointSlices call them."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"

    @property
    def any_address(self) -> str:
        """What stands for every address of the node."""
        return ANY6 if self is IPFamily.IPV6 else ANY

    @property
    def network(self) -> type[IPv4Network] | type[IPv6Network]:
        """The class of its CIDRs."""
        return IPv6Network if self is IPFamily.IPV6 else IPv4Network

    def of(self, addresses: Iterable[str]) -> list[str]:
        """Return those of this family, as they are usually written."""
        read = IPv6Address if self is IPFamily.IPV6 else IPv4Address
        found = []
        for address in addresses:
            try:
                found.append(str(read(address)))
            except ValueError:
                # Another family's, or a name: "None" is one.
                continue
        return found


FAMILIES = tuple(IPFamily)


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
    """Choose for one port and the node `node_name` in `zone` ("": in none); slices are of one family."""
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
        if number is None or item.address_type not in _ADDRESSES:
            continue
        addresses = IPFamily(item.address_type).of
        for endpoint in item.endpoints:
            ready = is_ready(endpoint)
            if not ready and not _is_ending(endpoint):
                continue
            hints = endpoint.hints or discovery_v1.EndpointHints()
            nodes = frozenset(hint.name for hint in hints.for_nodes)
            zones = frozenset(hint.name for hint in hints.for_zones)
            local = endpoint.node_name == node_name
            for address in addresses(endpoint.addresses):
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
