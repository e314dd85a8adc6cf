"""The proxy subresource: a real HTTP server behind a Service and a pod."""

import asyncio

import aiohttp
import pytest
from aiohttp import web

from edgekube.api.errors import BadRequest
from edgekube.apiserver.proxying import where

BASE = "/api/v1/namespaces/default"


@pytest.fixture
async def backend():
    async def hello(request):
        return web.Response(
            text=f"{request.method} {request.path_qs} {(await request.read()).decode()} {request.headers.get('X-Test', '')}"
        )

    async def move(_request):
        raise web.HTTPFound("/elsewhere?x=1")

    async def talk(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"echo {message.data}")
        return socket

    app = web.Application()
    app.router.add_get("/move", move)
    app.router.add_get("/ws", talk)
    app.router.add_route("*", "/{tail:.*}", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture
async def served(api, backend):
    await api.post(
        f"{BASE}/services", {"metadata": {"name": "web"}, "spec": {"ports": [{"name": "http", "port": 80}]}}
    )
    await api.post("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", {
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
        "ports": [{"name": "http", "port": backend}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
    })  # fmt: skip
    server = await asyncio.get_running_loop().create_server(api.server.http.protocols, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with aiohttp.ClientSession(address, headers={"Authorization": "Bearer admin-token"}) as session:
        yield session
    server.close()


async def test_there_and_back(served):
    async with served.get(f"{BASE}/services/web/proxy/a/b?c=d", headers={"X-Test": "t"}) as answer:
        assert (answer.status, await answer.text()) == (200, "GET /a/b?c=d  t")
    async with served.post(f"{BASE}/services/http:web:http/proxy/", data="body") as answer:
        assert await answer.text() == "POST / body "
    async with served.get(f"{BASE}/services/web/proxy/move", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (
            302,
            f"{BASE}/services/web/proxy/elsewhere?x=1",
        )


async def test_websockets(served):
    async with served.ws_connect(f"{BASE}/services/web/proxy/ws") as socket:
        await socket.send_str("hi")
        assert await socket.receive_str() == "echo hi"


async def test_what_is_not_there(served):
    async with served.get(f"{BASE}/services/none/proxy/") as answer:
        assert (answer.status, (await answer.json())["reason"]) == (404, "NotFound")
    async with served.get(f"{BASE}/services/web:99/proxy/") as answer:
        assert answer.status == 503
    async with served.get(f"{BASE}/pods/none/proxy/") as answer:
        assert answer.status == 404


@pytest.mark.parametrize(("text", "found"), [
    ("web", ("http", "web", "")), ("web:80", ("http", "web", "80")), ("https:web:s", ("https", "web", "s")), ("http:web:", ("http", "web", "")),
])  # fmt: skip
def test_names(text, found):
    assert (where(text).scheme, where(text).name, where(text).port) == found


@pytest.mark.parametrize("text", ["", "ftp:web:1", "a:b:c:d", ":80"])
def test_bad_names(text):
    with pytest.raises(BadRequest):
        where(text)
