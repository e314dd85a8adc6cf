"""The API server put together: store and schemas in, sockets and carriers out."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from edgekube.api import defaults
from edgekube.api.kinds.core_v1 import SERVICES
from edgekube.api.resource import AnyResource
from edgekube.api.schema import Normalised, Schemas
from edgekube.api.scheme import VIEWS, Scheme
from edgekube.apiserver import pages, virtual
from edgekube.apiserver.addresses.book import Book
from edgekube.apiserver.addresses.keeper import ServiceRanges
from edgekube.apiserver.addresses.ranges import Families
from edgekube.apiserver.admission.base import Chain
from edgekube.apiserver.admission.certificates import CertificateRequests
from edgekube.apiserver.admission.lifecycle import NamespaceLifecycle, ProtectedNames
from edgekube.apiserver.admission.limits import LimitRanger
from edgekube.apiserver.admission.nodes import TaintNodesByCondition
from edgekube.apiserver.admission.pods import DefaultTolerationSeconds, ServiceAccount
from edgekube.apiserver.admission.podsecurity.plugin import PodSecurity
from edgekube.apiserver.admission.policy.mutating import MutatingAdmissionPolicies
from edgekube.apiserver.admission.policy.plugin import ValidatingAdmissionPolicies
from edgekube.apiserver.admission.priority import OneDefaultPriority, Priority
from edgekube.apiserver.admission.quota.plugin import ResourceQuota
from edgekube.apiserver.admission.runtime_class import RuntimeClass
from edgekube.apiserver.admission.services import AddressClaims, Addresses
from edgekube.apiserver.admission.storage import (
    ClaimResize,
    DefaultIngressClass,
    DefaultStorageClass,
    StorageProtection,
)
from edgekube.apiserver.admission.webhook.plugin import MutatingWebhooks, Renew, ValidatingWebhooks
from edgekube.apiserver.aggregation.keeper import Aggregation
from edgekube.apiserver.aggregation.local import LocalServices
from edgekube.apiserver.aggregation.probe import Prober
from edgekube.apiserver.aggregation.remote import FrontProxy
from edgekube.apiserver.audit.auditor import Auditor
from edgekube.apiserver.authn.accounts import ServiceAccountTokens, TokenConfig
from edgekube.apiserver.authn.base import Authentication, Authenticator
from edgekube.apiserver.authn.certificates import Certificates
from edgekube.apiserver.authn.tokens import BootstrapTokens, StaticTokens
from edgekube.apiserver.authz import Authorization, Authorizer, BuiltIn
from edgekube.apiserver.caches import Caches
from edgekube.apiserver.codec import Codec
from edgekube.apiserver.custom.conversion import converter
from edgekube.apiserver.custom.keeper import Definitions
from edgekube.apiserver.dial import Dialer
from edgekube.apiserver.discovery import Discovery
from edgekube.apiserver.exchange import Parts
from edgekube.apiserver.fairness.gate import SEATS, Gate
from edgekube.apiserver.handler import Handler, Pages
from edgekube.apiserver.http import Extra, HttpServer, Stream
from edgekube.apiserver.identity import User
from edgekube.apiserver.local import LocalCarrier
from edgekube.apiserver.managing import FieldManager
from edgekube.apiserver.metrics import Metrics
from edgekube.apiserver.node.authorizer import NodeAuthorizer
from edgekube.apiserver.node.restriction import NodeRestriction
from edgekube.apiserver.openapi import OpenApiPages
from edgekube.apiserver.present import Presenter
from edgekube.apiserver.rbac.authorizer import Rbac
from edgekube.apiserver.rbac.escalation import EscalationCheck
from edgekube.apiserver.reading import Reading
from edgekube.apiserver.registry.meta import utcnow
from edgekube.apiserver.registry.registry import Registry
from edgekube.apiserver.registry.storage import Storage
from edgekube.apiserver.request import Request, Tree
from edgekube.apiserver.streaming import Streaming
from edgekube.apiserver.versions import Versions
from edgekube.apiserver.webhook_client import WebhookClient
from edgekube.client.base import Carrier
from edgekube.store.base import Store
from edgekube.transport.base import StreamGateway

CONTROL_PLANE = frozenset({"system:kube-controller-manager", "system:kube-scheduler", "system:edgekube-hub"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServerConfig:
    """How the API server behaves."""

    service_cidr: str = "10.43.0.0/16"
    node_ports: tuple[int, int] = (30000, 32767)
    version: str = "v1.37.0+edgekube"
    tokens: Mapping[str, User] = field(default_factory=dict)
    """Static bearer tokens."""
    account_tokens: TokenConfig | None = None
    """How ServiceAccount tokens are signed; None: there are none."""
    trusted: frozenset[str] = CONTROL_PLANE
    """Users that may do everything."""
    auditor: Auditor | None = None
    """Notes requests from outside; None: nobody does."""
    seats: int = SEATS
    """Requests under way at most, all limited priority levels together."""
    authenticators: tuple[Authenticator, ...] = ()
    """Asked after certificates and static tokens."""
    anonymous: bool = True
    """Whether requests without credentials are anonymous, rather than refused."""
    authorizers: tuple[Authorizer, ...] = ()
    """Asked after the built-in rules."""
    front_proxy: FrontProxy | None = None
    """What extension servers know this server by; None: nothing."""


class ApiServer:
    """
    The composition of the API server. `run` keeps its caches; `serve` answers on sockets.

    `extra_routes` maps `METHOD /path` to functions of the composition root.
    """

    def __init__(
        self, store: Store, schemas: Schemas, config: ApiServerConfig, *, gateway: StreamGateway | None = None,
        extra_routes: Mapping[str, Extra] | None = None, scheme: Scheme | None = None,
    ) -> None:  # fmt: skip
        self.config = config
        self.scheme = scheme or Scheme()
        self.ready = asyncio.Event()
        self.metrics = Metrics()
        self.meters: list[Callable[[], Iterable[str]]] = [self._flow_metrics]
        """What else says lines for /metrics."""
        self._caches = Caches(store, [row for row in self.scheme if row not in VIEWS])
        self._storage = Storage(self._caches)
        self._addresses = Addresses(
            Families(*config.service_cidr.split(",")), Book(self._storage), config.node_ports
        )
        self._discovery: Discovery | None = None
        self._discovered = (0, 0)
        self._versions = Versions()
        self._dialer = Dialer(self._storage, gateway)
        self._webhooks = WebhookClient(self._dialer)
        self.parts = self._parts(schemas)
        self._definitions = Definitions(
            self.scheme,
            self._caches,
            self._versions,
            self.parts.registry,
            converter=converter(self._webhooks),
        )
        self._local_services = LocalServices(self.scheme, self.parts.registry)
        prober = Prober(self._storage, self._dialer, config.front_proxy)
        self._aggregation = Aggregation(
            self._caches, self.parts.registry, prober, deleted=self._local_services.look
        )
        self._ranges = ServiceRanges(self._caches, self.parts.registry, self._addresses.ranges)
        self.handler = Handler(
            self.parts, Presenter(utcnow), self._pages(), self.metrics, Gate(self._caches, seats=config.seats),
            auditor=config.auditor,
        )  # fmt: skip
        self.http = HttpServer(
            self.handler, self.parts.authentication, extra=extra_routes or {},
            stream=self._streams(gateway), metrics=self.metrics,
        )  # fmt: skip

    def _streams(self, gateway: StreamGateway | None) -> Stream:
        """Return what serves requests whose connection is the answer."""
        streaming = Streaming(self.handler, gateway)

        async def serve(raw: web.BaseRequest, request: Request) -> web.StreamResponse | None:
            if len(self._aggregation) and (answer := await self._aggregated(raw, request)) is not None:
                return answer
            if "/proxy" in request.path:
                # Only those who use it pay for its imports.
                from edgekube.apiserver.proxying import Proxying  # noqa: PLC0415

                proxied = await Proxying(self.handler, self._dialer).serve(raw, request)
                if proxied is not None:
                    return proxied
            return await streaming.serve(raw, request)

        return serve

    async def _aggregated(self, raw: web.BaseRequest, request: Request) -> web.StreamResponse | None:
        from edgekube.apiserver.aggregation.proxy import AggregatedProxy  # noqa: PLC0415 - as above

        proxy = AggregatedProxy(self.handler, self._aggregation, self._dialer, self.config.front_proxy)
        return await proxy.serve(raw, request)

    def local(self, user: User) -> Carrier:
        """Return a carrier that calls the handler directly as `user`."""
        return LocalCarrier(self.handler, user)

    async def run(self) -> None:
        """Fill the caches, become ready, and keep them until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._caches.run(), name="caches")
            if self.config.auditor is not None:
                group.create_task(self.config.auditor.sink.run(), name="audit")
            await self._caches.filled()
            await self._ranges.load()
            await self._addresses.load(await self._storage.all(SERVICES))
            group.create_task(self._addresses.repair(lambda: self._storage.all(SERVICES)), name="addresses")
            await self._definitions.load()
            await self._aggregation.load()
            group.create_task(self._definitions.run(), name="definitions")
            group.create_task(self._ranges.run(), name="service-ranges")
            group.create_task(self._local_services.run(), name="local-api-services")
            group.create_task(self._aggregation.run(), name="aggregation")
            self.ready.set()

    async def serve(self, sockets: Sequence[socket.socket], context: ssl.SSLContext | None) -> None:
        """Answer HTTP (HTTPS with a TLS context) on listening sockets until cancelled."""
        await self.ready.wait()
        async with self._listening(sockets, context):
            await asyncio.Event().wait()

    @asynccontextmanager
    async def _listening(
        self, sockets: Sequence[socket.socket], context: ssl.SSLContext | None
    ) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(self.http.protocols, sock=sock, ssl=context) for sock in sockets]
        try:
            yield
        finally:
            for server in servers:
                server.close()
            await self.http.close()

    def _parts(self, schemas: Schemas) -> Parts:
        config, storage = self.config, self._storage
        codec = Codec(schemas)
        tokens = (
            ServiceAccountTokens(config.account_tokens, storage, utcnow) if config.account_tokens else None
        )
        authenticators = (
            Certificates(),
            StaticTokens(config.tokens),
            *config.authenticators,
            *((tokens,) if tokens else ()),
            BootstrapTokens(storage, utcnow),
        )
        rbac = Rbac(self._caches)
        authentication = Authentication(authenticators, anonymous=config.anonymous)
        authorization = Authorization(
            (BuiltIn(config.trusted), NodeAuthorizer(self._caches), rbac, *config.authorizers)
        )
        return Parts(
            scheme=self.scheme,
            codec=codec,
            registry=Registry(
                storage,
                codec,
                self._admission(
                    codec,
                    authorization,
                    EscalationCheck(rbac, authorization),
                    CertificateRequests(authorization),
                ),
                versions=self._versions,
            ),
            reading=Reading(self._caches),
            authentication=authentication,
            authorization=authorization,
            rbac=rbac,
            versions=self._versions,
            tokens=tokens,
        )

    def _admission(
        self,
        codec: Codec,
        authorization: Authorization,
        escalation: EscalationCheck,
        certificates: CertificateRequests,
    ) -> Chain:
        reviewed = (self.scheme, self._caches, self._storage, self._webhooks)
        return Chain((
            NamespaceLifecycle(self._storage),
            ProtectedNames(),
            escalation,
            certificates,
            ServiceAccount(self._storage),
            DefaultTolerationSeconds(),
            TaintNodesByCondition(),
            RuntimeClass(self._storage),
            Priority(self._storage),
            OneDefaultPriority(self._storage),
            StorageProtection(),
            DefaultStorageClass(self._storage),
            DefaultIngressClass(self._storage),
            ClaimResize(self._storage),
            LimitRanger(self._storage),
            PodSecurity(self._storage),
            MutatingAdmissionPolicies(
                self.scheme, self._caches, self._storage, authorization,
                shape_of=FieldManager(codec.schemas).shape_of, renew=_renewal(codec),
            ),
            MutatingWebhooks(*reviewed, renew=_renewal(codec)),
            self._addresses,
            NodeRestriction(self._storage),
            ValidatingAdmissionPolicies(self.scheme, self._caches, self._storage, authorization),
            ValidatingWebhooks(*reviewed),
            AddressClaims(self._addresses.book),
            # Last: it charges what the others made of the object.
            ResourceQuota(self._storage),
        ))  # fmt: skip

    def _pages(self) -> Pages:
        alive = {"ping": lambda: True}
        ready = {**alive, "caches": self.ready.is_set}
        discovery = pages.discovery_page(self._discover)
        documents = OpenApiPages(
            self.parts.codec.schemas,
            lambda: tuple(self.scheme),
            self.config.version,
            schema_of=self._schema_of,
            others=lambda: self._aggregation.documents(),  # noqa: PLW0108 - made after this
        )
        checks = {"healthz": ready, "livez": alive, "readyz": ready}
        health = {name: pages.health_page(name, table) for name, table in checks.items()}
        return Pages(
            exact={
                "/": pages.root_page,
                "/version": pages.version_page(self.config.version),
                "/metrics": pages.metrics_page(self._metrics_text),
                **pages.issuer_pages(self.parts.tokens),
            },
            below={"api": discovery, "apis": discovery, "openapi": documents.page, **health},
        )

    def _schema_of(self, row: AnyResource) -> Tree:
        return self._definitions.schema_of(row)

    def _discover(self) -> Discovery:
        generation = (self.scheme.generation, self._aggregation.generation)
        if self._discovery is None or self._discovered != generation:
            self._discovered = generation
            rows = (*self.scheme, *(entry.row for entry in virtual.VIRTUAL))
            self._discovery = Discovery(rows, self._aggregation.extensions())
        return self._discovery

    def _flow_metrics(self) -> Iterable[str]:
        return self.handler.passages.gate.text()

    async def _metrics_text(self) -> str:
        objects = ((name, len(cache)) for name, cache in self._caches)
        return self.metrics.text(objects, (line for source in self.meters for line in source()))


def _renewal(codec: Codec) -> Renew:
    """Return what makes an object that a webhook changed whole again."""

    def renew(row: AnyResource, tree: Tree) -> Normalised:
        found = codec.normalise(tree, row, "Ignore", [])
        defaults.apply(row, found.tree)
        return found

    return renew
