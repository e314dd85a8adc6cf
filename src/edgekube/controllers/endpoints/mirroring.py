"""
Mirrors Endpoints that people write by hand into EndpointSlices (KEP-752, "EndpointSliceMirroring").

Only those of a Service without a selector, unless they ask not to be.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from edgekube.api.kinds import core_v1 as core
from edgekube.api.kinds import discovery_v1 as discovery
from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1, discovery_v1, meta_v1
from edgekube.control.index import Index
from edgekube.control.reconcile import Controller
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context
from edgekube.controllers.endpoints.backends import Ports
from edgekube.controllers.endpoints.plan import MANAGED_BY, SERVICE_NAME, SKIP_MIRROR, Plan, Slice, packed
from edgekube.controllers.ownership import owned_by

MANAGER = "endpointslicemirroring-controller.k8s.io"
LEADER = "control-plane.alpha.kubernetes.io/leader"
MOST = 1000
"""Addresses of a subset that are mirrored."""
Wanted = Mapping[tuple[str, Ports], Mapping[tuple[str, ...], discovery_v1.Endpoint]]
"""Endpoints by addresses, for each family and set of ports."""


def mirrored(endpoints: core_v1.Endpoints | None, service: core_v1.Service | None) -> bool:
    """Whether these Endpoints are mirrored."""
    if endpoints is None or service is None or endpoints.metadata.deletion_timestamp:
        return False
    meta = endpoints.metadata
    return (
        not service.spec.selector
        and meta.labels.get(SKIP_MIRROR) != "true"
        and LEADER not in meta.annotations
    )


def wanted(endpoints: core_v1.Endpoints) -> Wanted:
    """Return what the slices should hold."""
    found: dict[tuple[str, Ports], dict[tuple[str, ...], discovery_v1.Endpoint]] = {}
    for subset in endpoints.subsets:
        ports = tuple(
            discovery_v1.EndpointPort(
                name=port.name,
                port=port.port,
                protocol=port.protocol or "TCP",
                app_protocol=port.app_protocol,
            )
            for port in subset.ports
        )
        every = [(address, True) for address in subset.addresses]
        every += [(address, False) for address in subset.not_ready_addresses]
        for address, ready in every[:MOST]:
            family = "IPv6" if ":" in address.ip else "IPv4"
            made = discovery_v1.Endpoint(
                addresses=(address.ip,), conditions=discovery_v1.EndpointConditions(ready=ready),
                hostname=address.hostname, node_name=address.node_name, target_ref=address.target_ref,
            )  # fmt: skip
            found.setdefault((family, ports), {})[made.addresses] = made
    return found


def plan(endpoints: core_v1.Endpoints, existing: Sequence[Slice]) -> Plan:
    """Compare the slices there are with what they should hold."""
    left = {piece.metadata.name: piece for piece in existing}
    create: list[Slice] = []
    update: list[Slice] = []
    for (family, ports), held in wanted(endpoints).items():
        pieces = [piece for piece in existing if (piece.address_type, piece.ports) == (family, ports)]
        fills = packed(dict(held), pieces)
        for piece, fill in zip(pieces, fills, strict=False):
            if fill:
                del left[piece.metadata.name]
                fresh = _filled(piece, endpoints, fill)
                update += [fresh] if fresh != piece else []
        for fill in fills[len(pieces) :]:
            meta = meta_v1.ObjectMeta(
                generate_name=f"{endpoints.metadata.name}-", namespace=endpoints.metadata.namespace,
                owner_references=(owned_by(endpoints),),
            )  # fmt: skip
            create.append(_filled(Slice(metadata=meta, address_type=family, ports=ports), endpoints, fill))
    return Plan(tuple(create), tuple(update), tuple(left.values()))


def _filled(piece: Slice, endpoints: core_v1.Endpoints, fill: tuple[discovery_v1.Endpoint, ...]) -> Slice:
    labels = {**endpoints.metadata.labels, SERVICE_NAME: endpoints.metadata.name, MANAGED_BY: MANAGER}
    meta = msgspec.structs.replace(piece.metadata, labels=labels)
    return msgspec.structs.replace(piece, metadata=meta, endpoints=fill)


class Mirroring:
    """Follow Endpoints."""

    def __init__(self, context: Context) -> None:
        self.services = context.informers.of(core.SERVICES)
        self.endpoints = context.informers.of(core.ENDPOINTS)
        self.slices = context.informers.of(discovery.ENDPOINT_SLICES)
        self._writer = Writer(context.client, self.slices)
        self._slices_of = Index(self.slices, slices_key)

    async def reconcile(self, key: Key) -> float | None:
        """Bring the mirrored slices of one Endpoints object up to date."""
        endpoints = self.endpoints.get(key)
        existing = [piece for piece in self._slices_of.of(key) if not piece.metadata.deletion_timestamp]
        if endpoints is None or not mirrored(endpoints, self.services.get(key)):
            decided = Plan(delete=tuple(existing))
        else:
            decided = plan(endpoints, existing)
        for piece in decided.create:
            await self._writer.create(piece)
        for piece in decided.update:
            await self._writer.update(piece)
        for piece in decided.delete:
            await self._writer.delete(piece)
        return None


def slices_key(piece: Slice) -> Iterable[Key]:
    """Return the Endpoints a slice of ours mirrors."""
    labels = piece.metadata.labels
    if labels.get(MANAGED_BY) != MANAGER or SERVICE_NAME not in labels:
        return []
    return [Key(piece.metadata.namespace, labels[SERVICE_NAME])]


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = Mirroring(context)
    controller = Controller("endpointslicemirroring", logic)
    controller.watch(logic.endpoints, lambda endpoints: [key_of(endpoints)])
    controller.watch(logic.services, lambda service: [] if service.spec.selector else [key_of(service)])
    controller.watch(logic.slices, slices_key)
    return controller
