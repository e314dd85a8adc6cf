"""From Services and EndpointSlices to packet rules: what kube-proxy decides, as a pure function of both."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import collapse_addresses

from edgekube.api.resource import Key
from edgekube.api.types import core_v1, discovery_v1
from edgekube.network.base import Forwarding, Frontend, Transport
from edgekube.proxy.endpoints import FAMILIES, Choice, IPFamily, Slices, choose

SERVICE_NAME = "kubernetes.io/service-name"
BALANCE = "edgekube.io/balance"
"""Annotation of a Service: "random" chooses backends by chance instead of in turn."""
_OTHER_PROXY = "service.kubernetes.io/service-proxy-name"
_AFFINITY_SECONDS = 10800
"""The API's default of sessionAffinityConfig.clientIP.timeoutSeconds."""

Rules = Mapping[Frontend, Forwarding]


@dataclass(frozen=True, slots=True)
class Here:
    """What the rules depend on besides the objects."""

    node_name: str
    own_addresses: frozenset[str] = field(default=frozenset())
    """Addresses of the service range that this node answers itself: never forwarded, never refused."""
    zone: str = ""
    """The node's topology.kubernetes.io/zone."""


def service_key(item: discovery_v1.EndpointSlice) -> Key | None:
    """Return the key of the Service that a slice belongs to."""
    name = item.metadata.labels.get(SERVICE_NAME)
    return Key(item.metadata.namespace, name) if name else None


def plan_service(service: core_v1.Service, slices: Slices, here: Here) -> dict[Frontend, Forwarding]:
    """
    Return the rules of one Service: its cluster IPs, node ports, external and load balancer addresses.

    Each family it has a cluster IP of has rules of its own: the endpoints are others.
    """
    spec = service.spec
    if spec.type == "ExternalName" or _OTHER_PROXY in service.metadata.labels:
        return {}
    rules: dict[Frontend, Forwarding] = {}
    for family in FAMILIES:
        cluster_ips = family.of(spec.cluster_ips or (spec.cluster_ip,))
        # Without: headless, or not given an address yet.
        if cluster_ips:
            near = [item for item in slices if item.address_type == family.value]
            _plan_family(rules, service, near, here, family=family, cluster_ips=cluster_ips)
    return {frontend: rule for frontend, rule in rules.items() if frontend.address not in here.own_addresses}


def _plan_family(
    rules: dict[Frontend, Forwarding], service: core_v1.Service, slices: Slices, here: Here, *,
    family: IPFamily, cluster_ips: Collection[str],
) -> None:  # fmt: skip
    spec = service.spec
    external, balanced = family.of(spec.external_ips), family.of(_balanced(service))
    for port in spec.ports:
        try:
            transport = Transport[port.protocol or "TCP"]
        except KeyError:
            continue
        choice = choose(slices, port, here.node_name, here.zone)
        inside, outside = _within(service, port, choice), _from_outside(service, port, choice)
        rules |= {Frontend(address, transport, port.port): inside for address in cluster_ips}
        if port.node_port and spec.type in {"NodePort", "LoadBalancer"}:
            rules[Frontend(family.any_address, transport, port.node_port)] = outside
        rules |= {Frontend(address, transport, port.port): outside for address in external}
        ranged = replace(outside, sources=_sources(spec, family))
        rules |= {Frontend(address, transport, port.port): ranged for address in balanced}


def _within(service: core_v1.Service, port: core_v1.ServicePort, choice: Choice) -> Forwarding:
    """Return what the cluster IP does."""
    near_only = service.spec.internal_traffic_policy == "Local"
    backends = choice.here if near_only else choice.everywhere
    silent = bool(choice.everywhere) and not backends
    return replace(_plain(service, port), backends=backends, silent=silent)


def _from_outside(service: core_v1.Service, port: core_v1.ServicePort, choice: Choice) -> Forwarding:
    """Return what the other addresses do: pods and the node itself reach all endpoints whatever the policy."""
    plain = _plain(service, port)
    if service.spec.external_traffic_policy != "Local":
        return replace(plain, backends=choice.everywhere, masquerade=True)
    inside = choice.everywhere if choice.everywhere != choice.here else ()
    return replace(plain, backends=choice.here, inside=inside, silent=bool(inside) and not choice.here)


def _plain(service: core_v1.Service, port: core_v1.ServicePort) -> Forwarding:
    name = f"{service.metadata.namespace}/{service.metadata.name}" + (f":{port.name}" if port.name else "")
    chance = service.metadata.annotations.get(BALANCE) == "random"
    return Forwarding(name, (), _affinity(service.spec), random=chance)


def _balanced(service: core_v1.Service) -> Iterator[str]:
    """Return the addresses the load balancer gave that this node answers for."""
    status = service.status
    if service.spec.type == "LoadBalancer" and status.load_balancer is not None:
        # "Proxy" wants the packets to pass the balancer (KEP-1860).
        yield from (item.ip for item in status.load_balancer.ingress if item.ip_mode != "Proxy")


def _sources(spec: core_v1.ServiceSpec, family: IPFamily) -> tuple[str, ...]:
    """Return the clients let in by the load balancer's addresses of a family; () for everybody."""
    networks = set()
    for text in spec.load_balancer_source_ranges:
        try:
            networks.add(family.network(text.strip(), strict=False))
        except ValueError:
            # Of the other family: not for these addresses.
            continue
    if any(network.prefixlen == 0 for network in networks):
        return ()
    return tuple(map(str, collapse_addresses(networks)))  # type: ignore[type-var]  # all of one family


def _affinity(spec: core_v1.ServiceSpec) -> int:
    if spec.session_affinity != "ClientIP":
        return 0
    config = spec.session_affinity_config
    seconds = (
        config.client_ip.timeout_seconds if config is not None and config.client_ip is not None else None
    )
    return seconds or _AFFINITY_SECONDS


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
