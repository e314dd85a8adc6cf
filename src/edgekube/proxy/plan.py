"""From Services and EndpointSlices to packet rules: what kube-proxy decides, as a pure function of both."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from edgekube.api.resource import Key
from edgekube.api.types import core_v1, discovery_v1
from edgekube.network.base import Backend, Forwarding, Frontend, Transport

SERVICE_NAME = "kubernetes.io/service-name"
_OTHER_PROXY = "service.kubernetes.io/service-proxy-name"
_AFFINITY_SECONDS = 10800
"""The API's default of sessionAffinityConfig.clientIP.timeoutSeconds."""

Rules = Mapping[Frontend, Forwarding]
Slices = Collection[discovery_v1.EndpointSlice]


@dataclass(frozen=True, slots=True)
class Here:
    """What the rules depend on besides the objects."""

    node_name: str
    own_addresses: frozenset[str] = field(default=frozenset())
    """Addresses of the service range that this node answers itself: never forwarded, never refused."""


def service_key(item: discovery_v1.EndpointSlice) -> Key | None:
    """Return the key of the Service that a slice belongs to."""
    name = item.metadata.labels.get(SERVICE_NAME)
    return Key(item.metadata.namespace, name) if name else None


def plan_service(service: core_v1.Service, slices: Slices, here: Here) -> dict[Frontend, Forwarding]:
    """Return the rules of one Service: its cluster IP, node ports, external and load balancer addresses."""
    spec = service.spec
    if spec.type == "ExternalName" or _OTHER_PROXY in service.metadata.labels:
        return {}
    cluster_ips = [address for address in spec.cluster_ips or (spec.cluster_ip,) if _is_ipv4(address)]
    if not cluster_ips:
        # Headless, or not given an address yet.
        return {}
    rules: dict[Frontend, Forwarding] = {}
    for port in spec.ports:
        try:
            transport = Transport[port.protocol or "TCP"]
        except KeyError:
            continue
        backends = _backends(slices, port, here.node_name)
        name = f"{service.metadata.namespace}/{service.metadata.name}" + (
            f":{port.name}" if port.name else ""
        )
        inside = _near(backends, spec.internal_traffic_policy)
        affinity = _affinity(spec)
        for address in cluster_ips:
            rules[Frontend(address, transport, port.port)] = Forwarding(name, inside, affinity)
        near_only = spec.external_traffic_policy == "Local"
        outside = Forwarding(
            name, _near(backends, spec.external_traffic_policy), affinity, masquerade=not near_only
        )
        for frontend in _outer_frontends(service, port, transport):
            rules[frontend] = outside
    return {frontend: rule for frontend, rule in rules.items() if frontend.address not in here.own_addresses}


def _outer_frontends(
    service: core_v1.Service, port: core_v1.ServicePort, transport: Transport
) -> Iterator[Frontend]:
    spec, status = service.spec, service.status
    if port.node_port and spec.type in {"NodePort", "LoadBalancer"}:
        yield Frontend("", transport, port.node_port)
    addresses = list(spec.external_ips)
    if spec.type == "LoadBalancer" and status.load_balancer is not None:
        # "Proxy" wants the packets to pass the balancer (KEP-1860).
        addresses += [item.ip for item in status.load_balancer.ingress if item.ip_mode != "Proxy"]
    for address in addresses:
        if _is_ipv4(address):
            yield Frontend(address, transport, port.port)


def _affinity(spec: core_v1.ServiceSpec) -> int:
    if spec.session_affinity != "ClientIP":
        return 0
    config = spec.session_affinity_config
    seconds = (
        config.client_ip.timeout_seconds if config is not None and config.client_ip is not None else None
    )
    return seconds or _AFFINITY_SECONDS


def _near(backends: tuple[Backend, ...], policy: str) -> tuple[Backend, ...]:
    return tuple(backend for backend in backends if backend.local) if policy == "Local" else backends


def _backends(slices: Slices, port: core_v1.ServicePort, node_name: str) -> tuple[Backend, ...]:
    """Return where the port leads: ready endpoints, or if there are none those that still serve while they end."""
    ready: set[Backend] = set()
    ending: set[Backend] = set()
    for item in slices:
        number = _target_port(item, port)
        if number is None or item.address_type != "IPv4":
            continue
        for endpoint in item.endpoints:
            chosen = ready if is_ready(endpoint) else ending if _is_ending(endpoint) else None
            if chosen is not None:
                local = endpoint.node_name == node_name
                chosen.update(
                    Backend(address, number, local) for address in endpoint.addresses if _is_ipv4(address)
                )
    return tuple(sorted(ready or ending))


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


def _is_ipv4(address: str) -> bool:
    try:
        IPv4Address(address)
    except ValueError:
        return False
    return True


class Wishes:
    """The rules of all Services. Of two that claim one frontend the first by namespace and name gets it."""

    def __init__(self) -> None:
        self._services: dict[Key, Rules] = {}
        self._claims: dict[Frontend, list[Key]] = {}

    def put(self, service: Key, rules: Rules) -> set[Frontend]:
        """Replace a Service's rules ({}: it is gone) and return the frontends this may change."""
        old = self._services.pop(service, {})
        if rules:
            self._services[service] = rules
        for frontend in old.keys() - rules.keys():
            claims = self._claims[frontend]
            claims.remove(service)
            if not claims:
                del self._claims[frontend]
        for frontend in rules.keys() - old.keys():
            claims = self._claims.setdefault(frontend, [])
            claims.append(service)
            claims.sort()
        return {
            frontend for frontend in old.keys() | rules.keys() if old.get(frontend) != rules.get(frontend)
        }

    def get(self, frontend: Frontend) -> Forwarding | None:
        """Return what a frontend should do."""
        claims = self._claims.get(frontend)
        return self._services[claims[0]][frontend] if claims else None

    def all(self) -> dict[Frontend, Forwarding]:
        """Return everything."""
        return {frontend: self._services[claims[0]][frontend] for frontend, claims in self._claims.items()}

    def services(self) -> Collection[Key]:
        """Return the Services that have rules."""
        return self._services.keys()


@dataclass(frozen=True, slots=True)
class Change:
    """The least that turns what is programmed into what is wished."""

    put: Rules
    drop: Collection[Frontend]

    def __bool__(self) -> bool:
        return bool(self.put or self.drop)


def difference(programmed: Rules, wishes: Wishes, frontends: Iterable[Frontend]) -> Change:
    """Return the change that those frontends need."""
    put: dict[Frontend, Forwarding] = {}
    drop: list[Frontend] = []
    for frontend in frontends:
        wish = wishes.get(frontend)
        if wish is None:
            if frontend in programmed:
                drop.append(frontend)
        elif programmed.get(frontend) != wish:
            put[frontend] = wish
    return Change(put, drop)
