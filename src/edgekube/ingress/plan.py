"""From Ingresses, Services, EndpointSlices and Secrets to sites and where they lead. Pure."""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1, discovery_v1, networking_v1

CONTROLLER = "edgekube.io/ingress"
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
LEGACY_CLASS = "kubernetes.io/ingress.class"
REDIRECT = "ingress.kubernetes.io/ssl-redirect"
ANY = ""
"""The site of hosts nobody named."""
_PATH = re.compile(r"/[A-Za-z0-9._~!$&()*+,;=:@%/-]*")
_EXACT, _PREFIX = 0, 1


@dataclass(frozen=True, slots=True, order=True)
class Route:
    """One path of a site; routes sort as they are asked: exact before prefix, the longest first."""

    kind: int
    shortness: int
    path: str
    backend: str

    @property
    def exact(self) -> bool:
        """Whether the path must be the very same; else its elements must begin so."""
        return self.kind == _EXACT


@dataclass(frozen=True, slots=True)
class Site:
    """A host, `*.` and the rest of one, or ANY; `redirect`: plain HTTP is sent to HTTPS."""

    host: str
    routes: tuple[Route, ...]
    redirect: bool = False


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something in an Ingress that cannot be done."""

    ingress: Key
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Table:
    """All that the proxy is to do."""

    sites: tuple[Site, ...] = ()
    default: str = ""
    """The backend of what no route takes; "": 404."""
    backends: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name → `address:port` of its servers."""
    certificates: Mapping[str, tuple[bytes, tuple[str, ...]]] = field(default_factory=dict)
    """Name → PEM with key, and the hosts it is for (none: what it names itself)."""
    complaints: tuple[Complaint, ...] = ()


@dataclass(frozen=True, slots=True)
class World:
    """What the plan is made of."""

    ingresses: Iterable[networking_v1.Ingress] = ()
    classes: Iterable[networking_v1.IngressClass] = ()
    services: Mapping[Key, core_v1.Service] = field(default_factory=dict)
    slices: Mapping[Key, Sequence[discovery_v1.EndpointSlice]] = field(default_factory=dict)
    """By Service."""
    secrets: Mapping[Key, core_v1.Secret] = field(default_factory=dict)


def ours(ingress: networking_v1.Ingress, classes: Iterable[networking_v1.IngressClass]) -> bool:
    """Tell whether an Ingress is for this controller: by its class, or by none where ours is the default."""
    mine = [item for item in classes if item.spec.controller == CONTROLLER]
    name = ingress.spec.ingress_class_name or ingress.metadata.annotations.get(LEGACY_CLASS)
    if name:
        return any(item.metadata.name == name for item in mine)
    return any(item.metadata.annotations.get(DEFAULT_CLASS) == "true" for item in mine)


def plan(world: World) -> Table:
    """Return the table; of two Ingresses that claim one path the older wins, as Kubernetes advises."""
    maker = _Maker(world)
    chosen = [item for item in world.ingresses if ours(item, world.classes)]
    chosen.sort(key=lambda item: (item.metadata.creation_timestamp, key_of(item)))
    for ingress in chosen:
        maker.take(ingress)
    return maker.table()


class _Maker:
    def __init__(self, world: World) -> None:
        self._world = world
        self._routes: dict[str, dict[tuple[int, str], Route]] = {}
        self._redirects: set[str] = set()
        self._default = ""
        self._backends: dict[str, tuple[str, ...]] = {}
        self._certificates: dict[str, tuple[bytes, tuple[str, ...]]] = {}
        self._complaints: list[Complaint] = []

    def take(self, ingress: networking_v1.Ingress) -> None:
        """Add what one Ingress says."""
        if ingress.spec.default_backend is not None and not self._default:
            self._default = self._backend(ingress, ingress.spec.default_backend)
        for rule in ingress.spec.rules:
            routes = self._routes.setdefault(rule.host, {})
            for item in rule.http.paths if rule.http is not None else ():
                self._route(ingress, routes, item)
        for entry in ingress.spec.tls:
            self._certificate(ingress, entry)
            if ingress.metadata.annotations.get(REDIRECT) == "true":
                self._redirects |= set(entry.hosts)

    def table(self) -> Table:
        """Return all that was taken."""
        sites = tuple(
            Site(host, tuple(sorted(routes.values())), host in self._redirects)
            for host, routes in sorted(self._routes.items(), key=lambda pair: _rank(pair[0]))
        )
        return Table(sites, self._default, self._backends, self._certificates, tuple(self._complaints))

    def _route(
        self,
        ingress: networking_v1.Ingress,
        routes: dict[tuple[int, str], Route],
        item: networking_v1.HTTPIngressPath,
    ) -> None:
        path = item.path or "/"
        if not _PATH.fullmatch(path):
            self._complain(ingress, "BadPath", f"path {path!r} holds characters that are not served")
            return
        kind = _EXACT if item.path_type == "Exact" else _PREFIX
        if kind == _PREFIX:
            path = path.rstrip("/") or "/"
        if (kind, path) not in routes:
            routes[kind, path] = Route(kind, -len(path), path, self._backend(ingress, item.backend))

    def _backend(self, ingress: networking_v1.Ingress, wish: networking_v1.IngressBackend) -> str:
        """Return the name of a backend, made if need be; one that leads nowhere answers 503."""
        if wish.service is None or wish.service.port is None:
            self._complain(ingress, "BadBackend", "resource backends are not supported")
            return "nowhere"
        namespace, service, port = ingress.metadata.namespace, wish.service.name, wish.service.port
        name = f"{namespace}_{service}_{port.name or port.number}"
        if name not in self._backends:
            self._backends[name] = self._servers(ingress, Key(namespace, service), port)
        return name

    def _servers(
        self, ingress: networking_v1.Ingress, key: Key, wish: networking_v1.ServiceBackendPort
    ) -> tuple[str, ...]:
        service = self._world.services.get(key)
        if service is None:
            self._complain(ingress, "BadBackend", f"Service {key} does not exist")
            return ()
        ports = [
            p for p in service.spec.ports if (p.name == wish.name if wish.name else p.port == wish.number)
        ]
        if not ports:
            self._complain(ingress, "BadBackend", f"Service {key} has no port {wish.name or wish.number}")
            return ()
        found = {
            f"{address}:{port.port}"
            for item in self._world.slices.get(key, ())
            if item.address_type == "IPv4"
            for port in item.ports
            if port.name == ports[0].name and port.port
            for endpoint in item.endpoints
            if endpoint.conditions is None or endpoint.conditions.ready is not False
            for address in endpoint.addresses
        }
        return tuple(sorted(found))

    def _certificate(self, ingress: networking_v1.Ingress, entry: networking_v1.IngressTLS) -> None:
        if not entry.secret_name:
            return
        key = Key(ingress.metadata.namespace, entry.secret_name)
        secret = self._world.secrets.get(key)
        try:
            parts = (
                [base64.b64decode(secret.data[name]).strip() for name in ("tls.crt", "tls.key")]
                if secret
                else []
            )
        except (KeyError, binascii.Error):
            parts = []
        if not all(parts) or not parts:
            self._complain(ingress, "BadSecret", f"Secret {key} is not there or holds no tls.crt and tls.key")
            return
        name = f"{key.namespace}_{key.name}"
        hosts = self._certificates.get(name, (b"", ()))[1]
        merged = tuple(dict.fromkeys((*hosts, *entry.hosts)))
        self._certificates[name] = (b"\n".join(parts) + b"\n", merged)

    def _complain(self, ingress: networking_v1.Ingress, reason: str, message: str) -> None:
        self._complaints.append(Complaint(key_of(ingress), reason, message))


def _rank(host: str) -> tuple[int, int, str]:
    """Sort exact hosts first, then wildcards, the longest first, then ANY."""
    return (2 if host == ANY else 1 if host.startswith("*.") else 0, -len(host), host)
