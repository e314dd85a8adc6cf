"""What the EndpointSlices and the Endpoints object of a Service should be (KEP-752)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from edgekube.api.types import core_v1, discovery_v1, meta_v1
from edgekube.controllers.endpoints.backends import Backend, Ports
from edgekube.controllers.ownership import owned_by

FULL = 100
"""Endpoints a slice has at most."""
MOST = 1000
"""Addresses an Endpoints object has at most."""
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
ENDPOINTS_MANAGED_BY = "endpoints.kubernetes.io/managed-by"
ENDPOINTS_MANAGER = "endpoint-controller"

Slice = discovery_v1.EndpointSlice


@dataclass(frozen=True, slots=True)
class Plan:
    """Slices to write."""

    create: tuple[Slice, ...] = ()
    update: tuple[Slice, ...] = ()
    delete: tuple[Slice, ...] = ()


def plan(
    service: core_v1.Service, backends: Sequence[Backend], existing: Sequence[Slice], family: str
) -> Plan:
    """Decide for one address family; `existing` are the slices of that family that we manage."""
    wanted: dict[Ports, dict[tuple[str, ...], discovery_v1.Endpoint]] = {}
    for backend in backends:
        wanted.setdefault(backend.ports, {})[backend.endpoint.addresses] = backend.endpoint
    create: list[Slice] = []
    update: list[Slice] = []
    delete: list[Slice] = []
    by_ports: dict[Ports, list[Slice]] = {}
    for piece in existing:
        by_ports.setdefault(piece.ports, []).append(piece)
    for ports in [*wanted, *(ports for ports in by_ports if ports not in wanted)]:
        pieces = by_ports.get(ports, [])
        fills = packed(wanted.get(ports, {}), pieces)
        for piece, endpoints in zip(pieces, fills, strict=False):
            if not endpoints:
                delete.append(piece)
            elif (fresh := _renewed(service, piece, endpoints)) != piece:
                update.append(fresh)
        create += [_made(service, ports, endpoints, family) for endpoints in fills[len(pieces) :]]
    if not wanted:
        return _placeholder(service, existing, family)
    return Plan(tuple(create), tuple(update), tuple(delete))


def packed(
    wanted: dict[tuple[str, ...], discovery_v1.Endpoint], pieces: Sequence[Slice]
) -> list[tuple[discovery_v1.Endpoint, ...]]:
    """Leave endpoints in the slices they are in, fill the fullest with new ones, then open new slices."""
    left = dict(wanted)
    fills: list[list[discovery_v1.Endpoint]] = []
    for piece in pieces:
        kept = [left.pop(e.addresses) for e in piece.endpoints if e.addresses in left]
        fills.append(kept)
    fresh = list(left.values())
    for fill in sorted(fills, key=len, reverse=True):
        # Only slices that stay, and as few writes as can be.
        while fresh and 0 < len(fill) < FULL:
            fill.append(fresh.pop(0))
    for fill in fills:
        while fresh and len(fill) < FULL:
            fill.append(fresh.pop(0))
    while fresh:
        fills.append(fresh[:FULL])
        fresh = fresh[FULL:]
    return [tuple(fill) for fill in fills]


def _placeholder(service: core_v1.Service, existing: Sequence[Slice], family: str) -> Plan:
    """Keep one empty slice, so that clients can tell a Service without pods from one not looked at."""
    if not existing:
        return Plan(create=(_made(service, (), (), family),))
    first, *others = existing
    empty = msgspec.structs.replace(_renewed(service, first, ()), ports=())
    return Plan(update=(empty,) if empty != first else (), delete=tuple(others))


def _made(
    service: core_v1.Service, ports: Ports, endpoints: tuple[discovery_v1.Endpoint, ...], family: str
) -> Slice:
    return Slice(
        metadata=meta_v1.ObjectMeta(
            generate_name=f"{service.metadata.name}-",
            namespace=service.metadata.namespace,
            labels=labels(service),
            owner_references=(owned_by(service),),
        ),
        address_type=family,
        endpoints=endpoints,
        ports=ports,
    )


def _renewed(service: core_v1.Service, piece: Slice, endpoints: tuple[discovery_v1.Endpoint, ...]) -> Slice:
    meta = msgspec.structs.replace(piece.metadata, labels=labels(service))
    return msgspec.structs.replace(piece, metadata=meta, endpoints=endpoints)


def headless(service: core_v1.Service) -> bool:
    """Whether the Service has no address of its own."""
    return service.spec.cluster_ip == "None"


def labels(service: core_v1.Service) -> dict[str, str]:
    """Return the labels of its slices."""
    found = {**service.metadata.labels, SERVICE_NAME: service.metadata.name, MANAGED_BY: MANAGER}
    found.pop(HEADLESS, None)
    return {**found, HEADLESS: ""} if headless(service) else found


def endpoints_object(
    service: core_v1.Service, backends: Iterable[Backend], existing: core_v1.Endpoints | None
) -> core_v1.Endpoints:
    """Return the older form of the same, for clients that still read it."""
    found = {
        **service.metadata.labels, SKIP_MIRROR: "true", ENDPOINTS_MANAGED_BY: ENDPOINTS_MANAGER,
    }  # fmt: skip
    if headless(service):
        found[HEADLESS] = ""
    base = existing.metadata if existing else meta_v1.ObjectMeta(
        name=service.metadata.name, namespace=service.metadata.namespace
    )  # fmt: skip
    return core_v1.Endpoints(
        metadata=msgspec.structs.replace(base, labels=found),
        subsets=tuple(_subsets(list(backends)[:MOST])),
    )


def _subsets(backends: Iterable[Backend]) -> Iterator[core_v1.EndpointSubset]:
    groups: dict[Ports, tuple[list[core_v1.EndpointAddress], list[core_v1.EndpointAddress]]] = {}
    for backend in backends:
        conditions = backend.endpoint.conditions
        assert conditions is not None
        if conditions.terminating and not conditions.ready:
            continue
        ready, unready = groups.setdefault(backend.ports, ([], []))
        (ready if conditions.ready else unready).append(_address(backend.endpoint))
    for ports, (ready, unready) in groups.items():
        yield core_v1.EndpointSubset(
            addresses=tuple(ready),
            not_ready_addresses=tuple(unready),
            ports=tuple(
                core_v1.EndpointPort(
                    name=p.name, port=p.port or 0, protocol=p.protocol, app_protocol=p.app_protocol
                )
                for p in ports
            ),
        )


def _address(endpoint: discovery_v1.Endpoint) -> core_v1.EndpointAddress:
    return core_v1.EndpointAddress(
        ip=endpoint.addresses[0], hostname=endpoint.hostname, node_name=endpoint.node_name,
        target_ref=endpoint.target_ref,
    )  # fmt: skip
