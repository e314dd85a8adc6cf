"""`edgekube server`: the whole control plane as one process, and the broker it supervises."""

import asyncio
import contextlib
import gc
import logging
import secrets
import signal
import socket
import ssl
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import uvloop

from edgekube.api.errors import AlreadyExists, StatusError
from edgekube.api.kinds.core_v1 import SECRETS
from edgekube.api.resource import Key
from edgekube.api.schema import Schemas
from edgekube.api.scheme import Scheme
from edgekube.apiserver.aggregation.remote import FrontProxy
from edgekube.apiserver.authn.accounts import TokenConfig
from edgekube.apiserver.authn.tokenfile import TokenFile
from edgekube.apiserver.bootstrap import BootstrapConfig, bootstrap
from edgekube.apiserver.identity import MASTERS, User
from edgekube.apiserver.server import ApiServer, ApiServerConfig
from edgekube.app import credentials, dns_service
from edgekube.app.audit import auditor
from edgekube.app.broker import Broker, BrokerOptions
from edgekube.app.credentials import Credentials
from edgekube.app.join import JoinDesk
from edgekube.app.membership import AUTHORITY_PATH, JOIN_PATH, ClusterFacts
from edgekube.app.options import ServerOptions
from edgekube.app.paths import ServerPaths
from edgekube.app.signing import signer
from edgekube.app.snapshots import SNAPSHOT_PATH, Snapshots
from edgekube.app.tokens import JoinToken, secret_of
from edgekube.client.typed import Client
from edgekube.cloud.open import open_cloud
from edgekube.control import meter
from edgekube.control.informer import Informers
from edgekube.control.leader import Elector
from edgekube.control.reconcile import Controller
from edgekube.controllers.context import Options as ControllerOptions
from edgekube.controllers.context import Part
from edgekube.controllers.table import build as build_controllers
from edgekube.hub.hub import Hub
from edgekube.scheduler.plugins import Plugins, installed
from edgekube.scheduler.profiles import profiles
from edgekube.scheduler.scheduler import Scheduler
from edgekube.store.base import Store
from edgekube.store.open import open_store
from edgekube.transport.base import Message
from edgekube.transport.mqtt import open_transport
from edgekube.transport.options import TransportOptions
from edgekube.transport.streams import Gateway
from edgekube.transport.topics import Topics

log = logging.getLogger(__name__)

BACKLOG = 512
FREEBIND = 15
"""IP_FREEBIND (ip(7)): an address that comes later, e.g. by DHCP, may be bound now."""
COLLECT = (20_000, 10, 5)
"""
When the cycle collector looks at the young, the middle and the old (gc.set_threshold). An API object is
some 100 containers and no cycle: Python's own figures have a fleet's objects walked again and again, a
quarter of the CPU time of creating 4,000 pods.
"""
LEADER = Key("kube-system", "edgekube-controller-manager")
ISSUER = "https://kubernetes.default.svc.cluster.local"

Extra = Callable[[bytes, Mapping[str, str], User | None], Awaitable[tuple[int, str, bytes]]]


def run(options: ServerOptions) -> int:
    """Run until SIGTERM or SIGINT."""
    gc.set_threshold(*COLLECT)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_signalled(options))
    return 0


async def _until_signalled(options: ServerOptions) -> None:
    loop = asyncio.get_running_loop()
    server = asyncio.create_task(serve(options))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await server


async def serve(options: ServerOptions) -> None:
    """Compose everything and run it until cancelled."""
    paths = ServerPaths(options.data_dir)
    secret = credentials.prepare(options, paths)
    store = open_store(options.store or f"sqlite:///{paths.store}")
    try:
        await _compose(options, paths, secret, store)
    finally:
        await store.close()


async def _compose(options: ServerOptions, paths: ServerPaths, secret: Credentials, store: Store) -> None:
    topics = Topics(options.cluster)
    transport = open_transport(_transport(options, paths))
    # The hub is made later: it needs the API, which needs the gateway.
    gateway = Gateway(transport, topics, present=lambda node: hub.present(node))  # noqa: PLW0108
    scheme = Scheme()
    desk = JoinDesk(secret.authority, _facts(options))
    api = ApiServer(
        store,
        Schemas.load(),
        _api(options, secret, paths),
        gateway=gateway,
        extra_routes=_routes(desk, Snapshots(store)),
        scheme=scheme,
    )
    manager = _client(api, "system:kube-controller-manager")
    informers = Informers(manager)
    hub = Hub(transport, _client(api, "system:edgekube-hub"), informers, topics, epoch=secrets.token_hex(6))
    scheduler = Scheduler(_client(api, "system:kube-scheduler"), informers, profiles=_profiles(options))
    controllers = build_controllers(manager, informers, _controllers(options, secret, scheme))
    queues = [part for part in controllers if isinstance(part, Controller)]
    api.meters.append(
        lambda: meter.text(((q.name, len(q.queue), q.queue.meter) for q in queues), time.monotonic())
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(api.run(), name="api")
        await api.ready.wait()
        await _furnish(manager, options, secret)
        group.create_task(api.serve(_sockets(options), _tls(paths)), name="http")
        if not options.broker:
            group.create_task(Broker(_broker(options, paths)).run(), name="broker")
        group.create_task(transport.run(), name="transport")
        group.create_task(gateway.run(), name="streams")
        group.create_task(_lead(options, manager, (*controllers, scheduler, hub, informers)), name="lead")
        log.info("serving %s:%d", options.advertise, options.port)


async def _lead(options: ServerOptions, client: Client, parts: Sequence[Part]) -> None:
    """Run what only one server of a cluster may run: at once, or when this one is elected."""

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part.run(), name=part.name)

    if not options.leader_elect:
        await run()
        return
    identity = f"{socket.gethostname()}_{uuid.uuid4()}"
    await Elector(client, LEADER, identity).run(run)


def _profiles(options: ServerOptions) -> Mapping[str, Plugins] | None:
    if options.scheduler_config is None:
        return None
    import yaml  # noqa: PLC0415 - seldom asked for

    return profiles(yaml.safe_load(options.scheduler_config.read_text()) or {}, installed())


async def _furnish(client: Client, options: ServerOptions, secret: Credentials) -> None:
    """Make what a cluster always has."""
    config = BootstrapConfig(
        address=options.advertise, port=options.port, service_cidr=options.service_cidrs[0],
        client_authority=secret.authority.certificate.decode(),
        front_proxy_authority=secret.front_proxy.certificate.decode(),
    )  # fmt: skip
    await bootstrap(client, config)
    await dns_service.ensure(client, options.cluster_dns)
    await _honour(client, secret.node_token)


async def _honour(client: Client, token: JoinToken) -> None:
    with contextlib.suppress(AlreadyExists):
        await client.create(SECRETS, secret_of(token, description="the server's own node token"))


def _client(api: ApiServer, user: str) -> Client:
    return Client(api.local(User(user, (MASTERS,))), manager=user.removeprefix("system:"))


def _api(options: ServerOptions, secret: Credentials, paths: ServerPaths) -> ApiServerConfig:
    stem = paths.tls / "front-proxy-client"
    return ApiServerConfig(
        front_proxy=FrontProxy(certificate=stem.with_suffix(".crt"), key=stem.with_suffix(".key")),
        service_cidr=",".join(options.service_cidrs).rstrip(","),
        tokens={secret.admin_token: User("kubernetes-admin", (MASTERS,))},
        account_tokens=TokenConfig(key=secret.service_account_key, issuer=ISSUER, audiences=(ISSUER,)),
        auditor=auditor(options),
        anonymous=options.anonymous_auth,
        authenticators=(TokenFile(options.token_auth_file, time.monotonic),)
        if options.token_auth_file
        else (),
    )


def _controllers(options: ServerOptions, secret: Credentials, scheme: Scheme) -> ControllerOptions:
    return ControllerOptions(
        cluster_cidr=options.cluster_cidr, root_ca=secret.authority.certificate.decode(), scheme=scheme,
        sign=signer(secret.authority), cloud=open_cloud(options.cloud) if options.cloud else None,
    )  # fmt: skip


def _transport(options: ServerOptions, paths: ServerPaths) -> TransportOptions:
    tls = paths.tls
    return TransportOptions(
        brokers=(options.broker or f"mqtts://127.0.0.1:{options.broker_port}",), client_id=f"{options.cluster}-hub",
        authority=tls / "ca.crt", certificate=tls / "hub.crt", key=tls / "hub.key",
        will=Message(Topics(options.cluster).all_gone, b""),
    )  # fmt: skip


def _broker(options: ServerOptions, paths: ServerPaths) -> BrokerOptions:
    tls = paths.tls
    return BrokerOptions(
        directory=paths.broker, cluster=options.cluster, port=options.broker_port,
        authority=tls / "ca.crt", certificate=tls / "broker.crt", key=tls / "broker.key",
    )  # fmt: skip


def _facts(options: ServerOptions) -> ClusterFacts:
    return ClusterFacts(
        cluster=options.cluster,
        brokers=options.broker_urls,
        cluster_dns=options.cluster_dns,
        cluster_domain=options.cluster_domain,
        cluster_cidr=options.cluster_cidrs[0],
        cluster_cidr6=options.cluster_cidrs[1],
        service_cidr=options.service_cidrs[0],
        service_cidr6=options.service_cidrs[1],
        network=options.network,
    )


def _routes(desk: JoinDesk, snapshots: Snapshots) -> Mapping[str, Extra]:
    async def join(body: bytes, _headers: Mapping[str, str], user: User | None) -> tuple[int, str, bytes]:
        try:
            answer = desk.admit(body, user.groups if user else ())
        except StatusError as error:
            return error.code, "application/json", msgspec.json.encode(error.tree())
        return 200, "application/json", msgspec.json.encode(answer)

    async def authority(
        _body: bytes, _headers: Mapping[str, str], _user: User | None
    ) -> tuple[int, str, bytes]:
        return 200, "application/x-pem-file", desk.authority.certificate

    return {
        f"POST {JOIN_PATH}": join,
        f"GET {AUTHORITY_PATH}": authority,
        f"GET {SNAPSHOT_PATH}": snapshots.get,
    }


def _tls(paths: ServerPaths) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paths.tls / "apiserver.crt", paths.tls / "apiserver.key")
    context.load_verify_locations(paths.tls / "ca.crt")
    # Optional: clients with a token or none at all are welcome to try.
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _sockets(options: ServerOptions) -> list[socket.socket]:
    """Return the inherited listening socket, if any, and one for each address to bind."""
    sockets = [socket.socket(fileno=options.listen_fd)] if options.listen_fd >= 0 else []
    for address in options.bind:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IP, FREEBIND, 1)
        sock.bind((address, options.port))
        sock.listen(BACKLOG)
        sockets.append(sock)
    for sock in sockets:
        sock.settimeout(0)
    return sockets
