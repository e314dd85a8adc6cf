"""A real HAProxy between real clients and servers on the loopback."""

import asyncio
import shutil
import socket
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from edgekube.app.ingress import HaProxy
from edgekube.ingress.haproxy import ProxyOptions
from edgekube.ingress.plan import Route, Site, Table
from edgekube.lib import pki

# The sample handshake of RFC 6455, 1.3.
KEY = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@asynccontextmanager
async def server(name):
    """Answer every request with the server's name and the request; echo after an upgrade."""

    async def talk(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            if b"upgrade: websocket" in head.lower():
                writer.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    + ACCEPT
                    + b"\r\n"
                )
                while data := await reader.read(100):
                    writer.write(data)
                break
            body = name.encode() + b"\n" + head
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
        writer.close()

    async def quiet(reader, writer):
        try:
            await talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    made = await asyncio.start_server(quiet, "127.0.0.1", 0)
    async with made:
        yield f"127.0.0.1:{made.sockets[0].getsockname()[1]}"


@pytest.fixture
async def proxy(tmp_path):
    assert shutil.which("haproxy"), "apt install haproxy"
    ports = free_port(), free_port()
    made = HaProxy(
        ProxyOptions(
            directory=tmp_path, http=f"127.0.0.1:{ports[0]}", https=f"127.0.0.1:{ports[1]}", connections=100
        )
    )
    made.ports = ports
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def site(host, *routes, **more):
    return Site(
        host, tuple(sorted(Route(kind, -len(path), path, backend) for kind, path, backend in routes)), **more
    )


async def get(proxy, host, path="/", *, tls=None, extra=""):
    port = proxy.ports[1 if tls else 0]
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls, server_hostname=host if tls else None
        )
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{extra}\r\n".encode())
        answer = (await reader.read(-1)).decode()
        writer.close()
    return answer.split(" ", 2)[1], answer.partition("\r\n\r\n")[2]


async def up(proxy):
    async with asyncio.timeout(20):
        while True:
            try:
                return await get(proxy, "nobody")
            except OSError:
                await asyncio.sleep(0.05)


async def test_hosts_paths_and_what_nobody_serves(proxy):
    async with server("one") as one, server("two") as two:
        sites = (
            site("a.example.com", (0, "/x", "one"), (1, "/x", "two"), (1, "/", "one")),
            site("*.example.com", (1, "/foo", "two"), (1, "/down", "none")),
        )
        await proxy.serve(Table(sites, "", {"one": (one,), "two": (two,), "none": ()}))
        assert (await up(proxy))[0] == "404"
        for host, path, found in (
            ("a.example.com", "/", "one"), ("A.example.com:80", "/y", "one"), ("a.example.com", "/x", "one"),
            ("a.example.com", "/x/z", "two"), ("a.example.com", "/xyz", "one"), ("b.example.com", "/foo", "two"),
            ("b.example.com", "/foo?q=/x", "two"),
        ):  # fmt: skip
            status, body = await get(proxy, host, path)
            assert (status, body.split("\n")[0]) == ("200", found), (host, path)
        for host, path, status in (
            ("b.example.com", "/foobar", "404"), ("c.b.example.com", "/foo", "404"), ("b.example.com", "/down", "503"),
            ("other.org", "/", "404"),
        ):  # fmt: skip
            assert (await get(proxy, host, path))[0] == status, (host, path)
        _, body = await get(proxy, "a.example.com")
        assert "x-forwarded-for: 127.0.0.1" in body.lower()
        assert "x-forwarded-proto: http\r" in body.lower()


def certificate(host):
    authority = pki.new_authority("test", datetime.now(UTC))
    pair = pki.issue(authority, pki.Subject(name=host, hosts=(host,)), datetime.now(UTC))
    trust = ssl.create_default_context(cadata=authority.certificate.decode())
    return pair.certificate + pair.key, trust


async def test_certificates_by_name_redirects_and_a_bad_one_left_out(proxy):
    async with server("one") as one:
        sites = (
            site("a.example.com", (1, "/", "one"), redirect=True),
            site("b.example.com", (1, "/", "one")),
        )
        (pem_a, trust_a), (pem_b, trust_b) = certificate("a.example.com"), certificate("b.example.com")
        certificates = {
            "a": (pem_a, ("a.example.com",)),
            "b": (pem_b, ()),
            "c": (b"nonsense", ("c.example.com",)),
        }
        await proxy.serve(Table(sites, "", {"one": (one,)}, certificates))
        await up(proxy)
        for host, trust in (("a.example.com", trust_a), ("b.example.com", trust_b)):
            status, body = await get(proxy, host, tls=trust)
            assert status == "200"
            assert "x-forwarded-proto: https\r" in body.lower()
        assert (await get(proxy, "a.example.com"))[0] == "308"
        assert (await get(proxy, "b.example.com"))[0] == "200"


async def test_a_websocket_outlives_a_reload_and_no_request_is_lost(proxy):
    async with server("one") as one, server("two") as two:
        await proxy.serve(Table((site("", (1, "/", "one")),), "", {"one": (one,)}))
        await up(proxy)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.ports[0])
        writer.write(
            b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + KEY + b"\r\n"
        )
        assert b"101" in await reader.readuntil(b"\r\n\r\n")
        statuses, stop = [], asyncio.Event()

        async def ask():
            while not stop.is_set():
                status, body = await get(proxy, "h")
                statuses.append((status, body.split("\n")[0]))

        asking = asyncio.create_task(ask())
        for address in (two, one, two):
            await proxy.serve(Table((site("", (1, "/", "one")),), "", {"one": (address,)}))
            await asyncio.sleep(0.7)
        stop.set()
        await asking
        assert {status for status, _ in statuses} == {"200"}
        assert {name for _, name in statuses} == {"one", "two"}
        writer.write(b"still here")
        assert await reader.readexactly(10) == b"still here"
        writer.close()
