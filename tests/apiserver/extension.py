"""An extension server, and an API server that knows its Service."""

import asyncio
import base64
import json
import ssl
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web

from edgekube.apiserver.aggregation.remote import FrontProxy
from edgekube.apiserver.bootstrap import BootstrapConfig, bootstrap
from edgekube.apiserver.identity import User
from edgekube.client.typed import Client
from edgekube.lib import pki

ADMIN = User("admin", ("system:masters", "system:authenticated"))
API_SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
DEFAULT = "/api/v1/namespaces/default"
GROUP = "/apis/wardle.example.com/v1alpha1"
SECONDS = 30.0


async def until(check):
    async with asyncio.timeout(SECONDS):
        while not (found := await check()):
            await asyncio.sleep(0.05)
        return found


def available(api_service):
    conditions = (api_service.get("status") or {}).get("conditions") or ()
    return next(((c["status"], c["reason"]) for c in conditions if c["type"] == "Available"), None)


class Echo:
    """Takes the bytes of a connection that changed its protocol."""

    def __init__(self, transport):
        self.transport, self.ended = transport, asyncio.Event()

    def feed_data(self, data):
        if data.endswith(b"stop"):
            self.transport.close()
            self.ended.set()
        else:
            self.transport.write(b"<" + data + b">")
        return False, b""

    def feed_eof(self):
        self.ended.set()


class Wardle:
    """An extension server that believes its front proxy, and keeps flunders in memory."""

    def __init__(self):
        self.asked, self.flunders, self.port, self.bundle, self.peers = [], {}, 0, "", []
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self.documents, self.probes = {}, []

    async def discovery(self, request):
        self.note(request)
        resources = [
            {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder",
             "verbs": ["create", "get", "list", "watch"], "shortNames": ["fl"]},
            {"name": "flunders/status", "singularName": "", "namespaced": True, "kind": "Flunder", "verbs": ["get"]},
        ]  # fmt: skip
        return web.json_response({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1alpha1",
            "resources": resources,
        })  # fmt: skip

    def note(self, request):
        probe = request.path == GROUP or request.path.startswith("/openapi/")
        kept = self.probes if probe else self.asked
        kept.append((request.method, request.path_qs, list(request.headers.items())))
        self.peers.append(request.transport.get_extra_info("peercert"))

    async def upgrade(self, request):
        """Speak a protocol that nobody between knows: say something first, then echo, until told to stop."""
        request.protocol.set_parser(echo := Echo(request.transport))
        head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        request.transport.write(f"{head}X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\nhello".encode())
        await echo.ended.wait()
        response = web.StreamResponse()
        response.force_close()
        return response

    def document(self, request):
        if (tree := self.documents.get(request.path)) is None:
            return web.json_response({}, status=404)
        tag = f'"{len(json.dumps(tree))}"'
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304)
        return web.json_response(tree, headers={"ETag": tag})

    async def serve(self, request):
        self.note(request)
        if request.headers.get("Upgrade", "").startswith("SPDY"):
            return await self.upgrade(request)
        if "slow" in request.query:
            self.begun.set()
            await self.go_on.wait()
        if request.path.startswith("/openapi/"):
            return self.document(request)
        if "warn" in request.query:
            return web.json_response({}, headers=[("Warning", '299 - "a"'), ("Warning", '299 - "b"')])
        if "watch" in request.query:
            answer = web.StreamResponse(headers={"Content-Type": "application/json"})
            await answer.prepare(request)
            await answer.write(b'{"type":"ADDED","object":{}}\n')
            await asyncio.sleep(60)
            return answer
        if request.method == "POST":
            tree = await request.json()
            self.flunders[tree["metadata"]["name"]] = tree
            return web.json_response(tree, status=201)
        return web.json_response({"kind": "FlunderList", "items": list(self.flunders.values())})


@pytest.fixture
async def wardle(tmp_path):
    now = datetime.now(UTC)
    authority, proxies = pki.new_authority("wardle", now), pki.new_authority("front-proxy-ca", now)
    serving = pki.issue(authority, pki.Subject(name="w", hosts=("wardle.default.svc",)), now)
    serving.save(tmp_path / "crt", tmp_path / "key")
    pki.issue(proxies, pki.Subject(name="front-proxy-client"), now).save(
        tmp_path / "proxy.crt", tmp_path / "proxy.key"
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=proxies.certificate.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    server = Wardle()
    server.bundle = base64.b64encode(authority.certificate).decode()
    server.proxy = FrontProxy(certificate=tmp_path / "proxy.crt", key=tmp_path / "proxy.key")
    server.authority = proxies.certificate.decode()

    async def served(request):
        return await server.serve(request)

    app = web.Application()
    app.router.add_get(GROUP, server.discovery)
    app.router.add_route("*", "/{tail:.*}", served)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    server.port, server.stop = runner.addresses[0][1], runner.cleanup
    yield server
    await runner.cleanup()


@pytest.fixture
async def extended(make_server, start, wardle):
    """A server that knows the extension server's Service, and a session over HTTP as joe and as an admin."""
    async with start(make_server(front_proxy=wardle.proxy)) as api:
        config = BootstrapConfig(
            address="192.0.2.1", service_cidr="10.43.0.0/24", client_authority="CLIENTS",
            front_proxy_authority=wardle.authority,
        )  # fmt: skip
        await bootstrap(Client(api.server.local(ADMIN)), config)
        await api.post(
            f"{DEFAULT}/services", {"metadata": {"name": "wardle"}, "spec": {"ports": [{"port": 443}]}}
        )
        await api.post("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", {
            "metadata": {"name": "w-1", "labels": {"kubernetes.io/service-name": "wardle"}}, "addressType": "IPv4",
            "ports": [{"name": "", "port": wardle.port}], "endpoints": [{"addresses": ["127.0.0.1"]}],
        })  # fmt: skip
        listening = await asyncio.get_running_loop().create_server(api.server.http.protocols, "127.0.0.1", 0)
        address = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with aiohttp.ClientSession(address) as session:
            api.session = session
            yield api
        listening.close()


def api_service(**spec):
    return {
        "metadata": {"name": "v1alpha1.wardle.example.com"},
        "spec": {
            "group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 10,
            "service": {"namespace": "default", "name": "wardle"}, **spec,
        },
    }  # fmt: skip


async def ask(api, path, method="GET", token="admin-token", **more):
    headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
    async with api.session.request(method, path, headers=headers, **more) as answer:
        return answer.status, json.loads(await answer.text())


async def state(api, wanted):
    async def check():
        found = await api.call("GET", f"{API_SERVICES}/v1alpha1.wardle.example.com")
        return found if available(found) == wanted else None

    return await until(check)


async def registered(api, wardle):
    await api.post(API_SERVICES, api_service(caBundle=wardle.bundle))
    await state(api, ("True", "Passed"))
