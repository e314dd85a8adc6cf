"""The HTTP server on TLS: connections, and the real kubectl against it."""

import asyncio
import base64
import contextlib
import gzip
import io
import shutil
import socket
import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import msgspec
import pytest

from edgekube.api.kinds.core_v1 import CONFIG_MAPS
from edgekube.api.protobuf.wire import records
from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1
from edgekube.apiserver.bootstrap import BootstrapConfig, bootstrap
from edgekube.apiserver.http import listen_context
from edgekube.apiserver.identity import User
from edgekube.client.https import HttpsCarrier
from edgekube.client.kubeconfig import Access, render
from edgekube.client.typed import Client
from edgekube.lib import pki

ADMIN = User("admin", ("system:masters",))
KUBECTL = Path(sys.executable).parent / "kubectl"
MAPS = "/api/v1/namespaces/default/configmaps"
APP = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: "localhost/x:1", ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {a: b}
"""


async def echo(body, headers, user):
    return 201, "text/plain", b"%s|%s" % (body, (user.name if user else "nobody").encode())


class Cluster:
    def __init__(self, url, ca, folder):
        self.url, self.ca, self.folder = url, ca, folder

    def access(self, **more):
        return Access(server=self.url, authority=self.ca.certificate, **more)

    def certificate(self, name, *groups):
        pair = pki.issue(self.ca, pki.Subject(name=name, organizations=groups), datetime.now(UTC))
        return self.access(certificate=pair.certificate, key=pair.key)

    async def kubectl(self, *arguments, stdin="", code=0, seconds=30):
        process = await asyncio.create_subprocess_exec(
            KUBECTL, "--kubeconfig", self.folder / "config", "--cache-dir", self.folder / "cache", *arguments,
            stdin=-1, stdout=-1, stderr=-1,
        )  # fmt: skip
        try:
            async with asyncio.timeout(seconds):
                out, err = await process.communicate(stdin.encode())
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        text = (out + err).decode()
        assert process.returncode == code, text
        return text


@pytest.fixture
async def cluster(make_server, start, tmp_path):
    ca = pki.new_authority("ca", datetime.now(UTC))
    pair = pki.issue(ca, pki.Subject(name="kube-apiserver", hosts=("127.0.0.1",)), datetime.now(UTC))
    ca.save(tmp_path / "ca.crt", tmp_path / "ca.key")
    pair.save(tmp_path / "server.crt", tmp_path / "server.key")
    context = listen_context(
        str(tmp_path / "server.crt"), str(tmp_path / "server.key"), authority=str(tmp_path / "ca.crt")
    )
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    server = make_server(extra_routes={"POST /edgekube/v1/echo": echo})
    async with start(server):
        serving = asyncio.create_task(server.serve([sock], context))
        await bootstrap(
            Client(server.local(ADMIN)), BootstrapConfig(address="127.0.0.1", service_cidr="10.43.0.0/24")
        )
        found = Cluster(f"https://127.0.0.1:{port}", ca, tmp_path)
        found.server = server
        (tmp_path / "config").write_text(render(found.access(token="admin-token"), name="test"))
        yield found
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


@pytest.fixture
async def session(cluster):
    tls = ssl.create_default_context(cadata=cluster.ca.certificate.decode())
    headers = {"Authorization": "Bearer admin-token", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(
        cluster.url, connector=aiohttp.TCPConnector(ssl=tls), headers=headers, auto_decompress=False
    ) as found:
        yield found


async def test_certificates_and_tokens(cluster):
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    for access, name in (
        (cluster.certificate("ann", "system:masters"), "ann"),
        (cluster.access(token="joe-token"), "joe"),
        (cluster.access(token="admin-token", impersonate="eve"), "eve"),
    ):
        async with HttpsCarrier(access) as carrier:
            answer = msgspec.json.decode(await carrier.raw("POST", path, body=b"{}"))
            assert answer["status"]["userInfo"]["username"] == name


async def test_strangers(cluster, session):
    async with session.get("/version", headers={"Authorization": ""}) as answer:
        assert answer.status == 200
    async with session.get(MAPS, headers={"Authorization": ""}) as answer:
        assert answer.status == 403
    async with session.get("/version", headers={"Authorization": "Bearer none"}) as answer:
        assert (answer.status, (await answer.json())["message"]) == (401, "Unauthorized")


async def test_the_typed_client_over_https(cluster):
    async with HttpsCarrier(cluster.certificate("ann", "system:masters")) as carrier:
        client = Client(carrier)
        meta = meta_v1.ObjectMeta(namespace="default", name="a")
        await client.create(CONFIG_MAPS, core_v1.ConfigMap(metadata=meta, data={"x": "1"}))
        events = client.watch(CONFIG_MAPS, namespace="default")
        assert (await anext(events)).object.data == {"x": "1"}
        await client.patch(CONFIG_MAPS, Key("default", "a"), {"data": {"x": "2"}})
        assert (await anext(events)).object.data == {"x": "2"}
        await events.aclose()


async def test_bodies_over_the_limit(session):
    async with session.post(MAPS, data=io.BytesIO(b" " * (3 * 1024 * 1024 + 1))) as answer:
        assert (answer.status, (await answer.json())["reason"]) == (413, "RequestEntityTooLarge")


async def test_large_answers_come_whole_and_squeezed_if_asked(session):
    for number in range(4):
        body = {"metadata": {"name": f"m{number}"}, "data": {"x": "y" * 200_000}}
        async with session.post(MAPS, data=msgspec.json.encode(body)) as answer:
            assert answer.status == 201
    async with session.get(MAPS, headers={"Accept-Encoding": "identity"}) as answer:
        plain = await answer.read()
    assert len(msgspec.json.decode(plain)["items"]) == 4
    async with session.get(MAPS, headers={"Accept-Encoding": "gzip"}) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await answer.read()) == plain


async def test_a_client_that_asks_before_sending_is_told_to_go_on(session):
    body = b'{"metadata": {"name": "a"}}'
    async with asyncio.timeout(10), session.post(MAPS, data=body, expect100=True) as answer:
        assert answer.status == 201


async def test_warnings_are_headers(session):
    body = msgspec.json.encode({"metadata": {"name": "a"}, "datum": 1, "other": 2})
    async with session.post(MAPS, data=body) as answer:
        assert answer.headers.getall("Warning") == [
            '299 - "unknown field \\"datum\\""', '299 - "unknown field \\"other\\""',
        ]  # fmt: skip


async def test_extra_routes(session):
    async with session.post("/edgekube/v1/echo", data=b"hi") as answer:
        assert (answer.status, await answer.read()) == (201, b"hi|admin")
    async with session.post("/edgekube/v1/echo", data=b"hi", headers={"Authorization": ""}) as answer:
        assert await answer.read() == b"hi|nobody"


TOKEN = "base64url.bearer.authorization.k8s.io." + base64.urlsafe_b64encode(b"admin-token").decode().rstrip(
    "="
)


@pytest.mark.parametrize("protocols", [(), (TOKEN,), (TOKEN, "base64.binary.k8s.io")])
async def test_a_watch_as_messages_of_a_websocket(cluster, session, protocols):
    """As browsers have it, which can send no header with a token."""
    headers = {"Authorization": ""} if protocols else {}
    path = f"{MAPS}?watch=1&resourceVersion=0&timeoutSeconds=20"
    async with asyncio.timeout(20), session.ws_connect(path, protocols=protocols, headers=headers) as socket:
        assert socket.protocol == (protocols[1] if len(protocols) > 1 else None)
        await asyncio.gather(*(
            session.post(MAPS, data=msgspec.json.encode({"metadata": {"name": f"m{number}"}})) for number in range(3)
        ))  # fmt: skip
        names = []
        for _ in range(3):
            message = await socket.receive()
            assert message.type is aiohttp.WSMsgType.TEXT
            event = msgspec.json.decode(message.data)
            assert event["type"] == "ADDED"
            names.append(event["object"]["metadata"]["name"])
        assert sorted(names) == ["m0", "m1", "m2"]
        assert cluster.server.metrics.watchers == 1
        await socket.ping()
    async with asyncio.timeout(10):
        while cluster.server.metrics.watchers:
            await asyncio.sleep(0.01)


async def test_a_watch_in_protobuf_over_a_websocket_ends_with_its_time(session):
    path = f"{MAPS}?watch=1&resourceVersion=0&timeoutSeconds=1"
    await session.post(MAPS, data=b'{"metadata": {"name": "m"}}')
    headers = {"Accept": "application/vnd.kubernetes.protobuf"}
    async with asyncio.timeout(20), session.ws_connect(path, headers=headers) as socket:
        message = await socket.receive()
        assert message.type is aiohttp.WSMsgType.BINARY
        fields = {number: value for number, _, value in records(memoryview(message.data))}
        assert bytes(fields[1]) == b"ADDED"
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_a_watch_that_may_not_be_is_refused_before_the_websocket(session):
    for path, code in ((f"{MAPS}?watch=1&resourceVersion=x", 400), ("/api/v1/nothing?watch=1", 404)):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(path)
        assert refused.value.status == code


async def test_a_watcher_that_leaves_is_forgotten(cluster, session):
    answer = await session.get("/api/v1/namespaces?watch=1")
    assert await answer.content.readline()
    assert cluster.server.metrics.watchers == 1
    answer.close()
    async with asyncio.timeout(10):
        while cluster.server.metrics.watchers:
            await asyncio.sleep(0.01)


async def test_pods_streams_are_checked_first(cluster, session):
    pods = "/api/v1/namespaces/default/pods"
    async with session.get(f"{pods}/none/log") as answer:
        assert answer.status == 404
    account = {"metadata": {"name": "default"}}
    async with session.post("/api/v1/namespaces/default/serviceaccounts", json=account) as answer:
        assert answer.status == 201
    body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    async with session.post(pods, json=body) as answer:
        assert answer.status == 201
    async with session.get(f"{pods}/p/log") as answer:
        assert (answer.status, (await answer.json())["message"]) == (
            400,
            "pod p does not have a host assigned",
        )
    async with session.get(f"{pods}/p/log", headers={"Authorization": "Bearer joe-token"}) as answer:
        assert answer.status == 403


@pytest.mark.skipif(not shutil.which(KUBECTL), reason="kubectl is not installed")
async def test_kubectl(cluster):
    run = cluster.kubectl
    assert "deployments" in await run("api-resources")
    assert "deployment.apps/web created" in await run("apply", "-f", "-", stdin=APP)
    assert "deployment.apps/web unchanged" in await run("apply", "-f", "-", stdin=APP)
    assert "maxSurge" in await run("explain", "deployment.spec.strategy.rollingUpdate")
    assert "scaled" in await run("scale", "deploy/web", "--replicas=3")
    assert "0/3" in await run("get", "deploy", "web", "-o", "wide")
    assert "image updated" in await run("set", "image", "deploy/web", "c=localhost/x:2")
    assert "created" in await run("create", "configmap", "cm", "--from-literal=a=b")
    assert "labeled" in await run("label", "cm", "cm", "x=y")
    for kind, patch in (
        ("merge", '{"data":{"a":"1"}}'),
        ("strategic", '{"data":{"b":"2"}}'),
        ("json", '[{"op":"add","path":"/data/c","value":"3"}]'),
    ):
        assert "patched" in await run("patch", "cm", "cm", "--type", kind, "-p", patch)
    assert await run("get", "cm", "cm", "-o", "jsonpath={.data}") == '{"a":"1","b":"2","c":"3"}'
    assert "condition met" in await run("wait", "--for=jsonpath={.data.a}=1", "cm/cm", "--timeout=5s")
    strict = await run(
        "create", "-f", "-", stdin="{apiVersion: v1, kind: ConfigMap, metadata: {name: z}, datum: {}}", code=1
    )
    assert 'strict decoding error: unknown field "datum"' in strict
    assert "created" in await run("create", "serviceaccount", "default")
    assert (await run("create", "token", "default")).count(".") == 2
    assert "admin" in await run("auth", "whoami")
    assert await run("auth", "can-i", "list", "pods") == "yes\n"
    assert 'deployment.apps "web" deleted' in await run("delete", "-f", "-", stdin=APP)
    assert 'deployments.apps "web" not found' in await run("get", "deploy", "web", code=1)


@pytest.mark.skipif(not shutil.which(KUBECTL), reason="kubectl is not installed")
async def test_kubectl_watches_tables(cluster):
    process = await asyncio.create_subprocess_exec(
        KUBECTL,
        "--kubeconfig",
        cluster.folder / "config",
        "get",
        "cm",
        "-n",
        "default",
        "-w",
        "-o",
        "wide",
        stdout=-1,
    )
    try:
        async with asyncio.timeout(20):
            await cluster.kubectl("create", "configmap", "a")
            assert (await process.stdout.readline()).split() == [b"NAME", b"DATA", b"AGE"]
            assert (await process.stdout.readline()).split()[:2] == [b"a", b"0"]
            await cluster.kubectl("patch", "cm", "a", "-p", '{"data":{"x":"y"}}')
            assert (await process.stdout.readline()).split()[:2] == [b"a", b"1"]
    finally:
        process.kill()
        await process.wait()


async def test_a_watcher_that_does_not_read_is_dropped(cluster, session):
    host, _, port = cluster.url.removeprefix("https://").partition(":")
    tls = ssl.create_default_context(cadata=cluster.ca.certificate.decode())
    reader, writer = await asyncio.open_connection(host, int(port), ssl=tls, limit=1024)
    request = f"GET {MAPS}?watch=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin-token\r\n\r\n"
    writer.write(request.encode())
    async with asyncio.timeout(20):
        while not cluster.server.metrics.watchers:
            await asyncio.sleep(0.01)
        for number in range(100):
            body = {"metadata": {"name": f"m{number}"}, "data": {"x": "y" * 500_000}}
            async with session.post(MAPS, data=io.BytesIO(msgspec.json.encode(body))) as answer:
                assert answer.status == 201
            if not cluster.server.metrics.watchers:
                break
        assert not cluster.server.metrics.watchers
    writer.transport.abort()
    assert reader


@pytest.mark.skipif(not shutil.which(KUBECTL), reason="kubectl is not installed")
async def test_kubectl_certificate(cluster):
    for name, verb, condition in (("a", "approve", "Approved"), ("b", "deny", "Denied")):
        wish = pki.request(pki.new_key(), pki.Subject(name="bob"))
        spec = {
            "request": base64.b64encode(wish).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
        }
        kind = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
        body = {**kind, "metadata": {"name": name}, "spec": spec}
        await cluster.kubectl("create", "-f", "-", stdin=msgspec.json.encode(body).decode())
        assert "Pending" in await cluster.kubectl("get", "csr", name)
        assert await cluster.kubectl("certificate", verb, name)
        assert condition in await cluster.kubectl("get", "csr", name)
