"""The HTTPS carrier against the real API server, over TLS with client certificates."""

import asyncio
import json
import socket
import ssl
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from edgekube.api.errors import (
    Conflict,
    Expired,
    Forbidden,
    InternalError,
    NotFound,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
)
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1
from edgekube.client.base import Unreachable
from edgekube.client.execplugin import BadKubeconfig, run_plugin
from edgekube.client.https import HttpsCarrier, error_of
from edgekube.client.kubeconfig import Access
from edgekube.client.typed import Client
from edgekube.lib import pki

NOW = datetime.now(UTC)


@pytest.fixture(scope="session")
def authority():
    return pki.new_authority("test", NOW)


@pytest.fixture(scope="session")
def admin(authority):
    return pki.issue(authority, pki.Subject(name="admin", organizations=("system:masters",)), NOW)


@pytest.fixture
async def access(api_server, authority, admin, tmp_path):
    serving = pki.issue(authority, pki.Subject(name="server", hosts=("edgekube.test",)), NOW)
    serving.save(tmp_path / "crt", tmp_path / "key")
    (tmp_path / "ca").write_bytes(authority.certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca"))
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    sock = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(api_server.serve([sock], context))
    yield Access(
        server=f"https://127.0.0.1:{sock.getsockname()[1]}", authority=authority.certificate,
        server_name="edgekube.test", certificate=admin.certificate, key=admin.key,
    )  # fmt: skip
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def client(access):
    async with HttpsCarrier(access) as carrier:
        yield Client(carrier)


def config_map(name, **data):
    return core_v1.ConfigMap(metadata=meta_v1.ObjectMeta(name=name, namespace="default"), data=data)


async def test_objects_go_there_and_back(client):
    made = await client.create(core.CONFIG_MAPS, config_map("a", x="ä"))
    assert (await client.get(core.CONFIG_MAPS, Key("default", "a"))).data == {"x": "ä"}
    await client.patch(core.CONFIG_MAPS, Key("default", "a"), {"data": {"y": "1"}})
    with pytest.raises(Conflict):
        await client.update(core.CONFIG_MAPS, made)
    assert [
        found.metadata.name for found in (await client.list(core.CONFIG_MAPS, namespace="default")).items
    ] == ["a"]
    with pytest.raises(Conflict):
        await client.delete(core.CONFIG_MAPS, Key("default", "a"), uid="another")
    await client.delete(core.CONFIG_MAPS, Key("default", "a"))
    with pytest.raises(NotFound) as caught:
        await client.get(core.CONFIG_MAPS, Key("default", "a"))
    assert (caught.value.kind, caught.value.name) == ("configmaps", "a")


async def test_a_collection_is_deleted_at_once(client):
    for name in "abc":
        await client.create(core.CONFIG_MAPS, config_map(name))
    await client.delete_collection(core.CONFIG_MAPS, namespace="default", fields="metadata.name!=b")
    assert [
        found.metadata.name for found in (await client.list(core.CONFIG_MAPS, namespace="default")).items
    ] == ["b"]


async def test_a_watch_streams_lines_of_any_length(client):
    since = (await client.list(core.CONFIG_MAPS)).resource_version
    seen = []

    async def follow():
        async for event in client.watch(core.CONFIG_MAPS, since=since):
            if event.object is not None:
                seen.append((event.type, len(event.object.data.get("x", ""))))
            if len(seen) == 3:
                return

    task = asyncio.create_task(follow())
    await client.create(core.CONFIG_MAPS, config_map("a", x="x" * 700_000))
    await client.patch(core.CONFIG_MAPS, Key("default", "a"), {"data": {"x": "ü"}})
    await client.delete(core.CONFIG_MAPS, Key("default", "a"))
    await asyncio.wait_for(task, 20)
    assert seen == [("ADDED", 700_000), ("MODIFIED", 1), ("DELETED", 1)]


async def test_nobody_in_particular_may_do_nothing(access):
    async with HttpsCarrier(replace(access, certificate=b"", key=b"")) as carrier:
        with pytest.raises((Unauthorized, Forbidden)):
            await Client(carrier).list(core.SECRETS)


async def test_a_server_of_another_ca_is_not_talked_to(access):
    other = pki.new_authority("other", NOW).certificate
    async with HttpsCarrier(replace(access, authority=other)) as carrier:
        with pytest.raises(Unreachable, match="certificate"):
            await Client(carrier).list(core.NODES)


async def test_a_closed_port_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    async with HttpsCarrier(Access(server=f"http://127.0.0.1:{port}")) as carrier:
        with pytest.raises(Unreachable):
            await Client(carrier).list(core.NODES)
        with pytest.raises(Unreachable):
            async for _ in Client(carrier).watch(core.NODES):
                pass


@asynccontextmanager
async def answering(*parts):
    """A server that says the same to everybody and hangs up."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        async with HttpsCarrier(
            Access(server=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        ) as carrier:
            yield Client(carrier)
    finally:
        server.close()
        await server.wait_closed()


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data):
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def collected(client):
    return [event.type async for event in client.watch(core.NODES)]


async def test_a_watch_that_ends_properly_just_ends():
    event = b'{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"1"}}}\n'
    async with answering(HEAD, chunk(event[:20]), chunk(event[20:]), b"0\r\n\r\n") as client:
        assert await collected(client) == ["ADDED"]


async def test_a_watch_cut_in_the_middle_is_unreachable():
    async with answering(HEAD, chunk(b'{"type":"ADD')) as client:
        with pytest.raises(Unreachable):
            await collected(client)


async def test_an_error_within_a_watch_is_raised():
    error = b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}\n'
    async with answering(HEAD, chunk(error), b"0\r\n\r\n") as client:
        with pytest.raises(Expired, match="too old"):
            await collected(client)


async def test_words_that_are_no_json_are_a_fault_of_the_line():
    async with answering(HEAD, chunk(b"<html>\n"), b"0\r\n\r\n") as client:
        with pytest.raises(Unreachable):
            await collected(client)
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>") as client:
        with pytest.raises(Unreachable):
            await client.list(core.NODES)


@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [(503, b"upstream", ServiceUnavailable), (429, b"", TooManyRequests), (401, b"{}", Unauthorized),
     (502, b"<html>", InternalError), (409, b'{"kind":"Status","reason":"AlreadyExists"}', Conflict)],
)  # fmt: skip
def test_answers_without_a_status_go_by_their_code(code, body, expected):
    error = error_of(code, body)
    assert isinstance(error, expected) or error.reason == "AlreadyExists"


def test_an_exec_plugin_gives_credentials(tmp_path):
    script = tmp_path / "plug"
    status = {"status": {"token": "t0", "clientCertificateData": "C", "clientKeyData": "K"}}
    script.write_text(
        f'#!/bin/sh\n[ "$WHO" = me ] && [ -n "$KUBERNETES_EXEC_INFO" ] && echo \'{json.dumps(status)}\'\n'
    )
    script.chmod(0o755)
    plugin = {"command": "./plug", "env": [{"name": "WHO", "value": "me"}]}
    assert run_plugin(plugin, {}, folder=tmp_path) == {
        "token": "t0", "client-certificate-data": "Qw==", "client-key-data": "Sw==",
    }  # fmt: skip
    with pytest.raises(BadKubeconfig, match="plug"):
        run_plugin({"command": "./plug"}, {}, folder=tmp_path)
    with pytest.raises(BadKubeconfig, match="get one"):
        run_plugin({"command": "./none", "installHint": "get one"}, {}, folder=tmp_path)
    with pytest.raises(BadKubeconfig, match="no ExecCredential"):
        run_plugin({"command": "/bin/echo", "args": ["hi"]}, {}, folder=tmp_path)


def test_bad_certificates_are_the_kubeconfigs_fault():
    with pytest.raises(BadKubeconfig):
        Access(server="https://x", authority=b"no pem").ssl_context()
