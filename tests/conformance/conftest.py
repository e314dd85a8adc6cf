"""A served API with every controller, for the documented steps of Kubernetes' conformance tests over HTTP."""

import asyncio
import base64
import contextlib
import itertools
import json
import threading
from types import SimpleNamespace

import aiohttp
import pytest

from clients.cluster import controlled, serving
from edgekube.lib import pki

WAIT = 30.0
NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def cluster(schemas, tmp_path_factory):
    """Run it in a thread of its own: one for all tests, which keep apart by namespaces and names."""
    folder, ready, found = tmp_path_factory.mktemp("conformance"), threading.Event(), SimpleNamespace()

    async def run():
        found.loop, found.stop = asyncio.get_running_loop(), asyncio.Event()
        async with serving(schemas, folder) as served, controlled(served) as running:
            # Without TLS: what it is for is tested elsewhere.
            plain = await found.loop.create_server(running.server.http.protocols, "127.0.0.1", 0)
            found.url = "http://127.0.0.1:{1}".format(*plain.sockets[0].getsockname())
            ready.set()
            await found.stop.wait()
            plain.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    assert ready.wait(WAIT)
    yield found
    found.loop.call_soon_threadsafe(found.stop.set)
    thread.join(WAIT)


class Api:
    """What tests ask of the API. `base` is the path of a namespace of their own."""

    def __init__(self, session, namespace):
        self.session, self.namespace = session, namespace
        self.base = f"/api/v1/namespaces/{namespace}"

    def within(self, group_version, plural):
        """Return the path of a collection in the namespace (`apps/v1`, or `v1`)."""
        root = f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}"
        return f"{root}/namespaces/{self.namespace}/{plural}"

    async def send(self, method, path, body=None, **headers):
        data = body if isinstance(body, bytes | str | None) else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:
            named.setdefault("content-type", "application/json")
        async with self.session.request(method, path, data=data, headers=named) as answer:
            text = await answer.text()
            return answer, text

    async def call(self, method, path, body=None, code=None, **headers):
        answer, text = await self.send(method, path, body, **headers)
        if code is not None:
            assert answer.status == code, f"{method} {path}: {answer.status} {text}"
        return json.loads(text)

    async def get(self, path, code=200, **headers):
        return await self.call("GET", path, code=code, **headers)

    async def post(self, path, body, code=201, **headers):
        return await self.call("POST", path, body, code, **headers)

    async def put(self, path, body, code=200, **headers):
        return await self.call("PUT", path, body, code, **headers)

    async def patch(self, path, body, code=200, kind="merge-patch+json", **headers):
        return await self.call("PATCH", path, body, code, content_type=f"application/{kind}", **headers)

    async def delete(self, path, body=None, code=200, **headers):
        return await self.call("DELETE", path, body, code, **headers)

    async def update(self, path, change):
        """GET, change, PUT, again on a conflict."""
        async with asyncio.timeout(WAIT):
            while True:
                tree = await self.get(path.removesuffix("/status") if path.endswith("/status") else path)
                change(tree)
                answer, text = await self.send("PUT", path, tree)
                if answer.status != 409:
                    assert answer.status == 200, text
                    return json.loads(text)

    async def items(self, path):
        return (await self.get(path))["items"]

    @contextlib.asynccontextmanager
    async def watch(self, path, **query):
        """Give a function that returns the next event, as (type, object)."""
        params = {"watch": "true", **{name: str(value) for name, value in query.items()}}
        async with self.session.get(path, params=params) as answer:
            assert answer.status == 200, await answer.text()

            async def following():
                async with asyncio.timeout(WAIT):
                    line = await answer.content.readline()
                event = json.loads(line)
                return event["type"], event["object"]

            yield following

    async def until(self, check):
        """Return what the async `check` returns once that is true."""
        async with asyncio.timeout(WAIT):
            while not (found := await check()):
                await asyncio.sleep(0.02)
            return found

    async def gone(self, path):
        async def check():
            return (await self.send("GET", path))[0].status == 404

        await self.until(check)

    async def comes(self, path, wanted=lambda _tree: True):
        """Return the object once it is there and as wanted."""

        async def check():
            answer, text = await self.send("GET", path)
            tree = json.loads(text)
            return tree if answer.status == 200 and wanted(tree) else None

        return await self.until(check)


@pytest.fixture
async def api(cluster):
    """The API as its administrator, with a namespace that has its ServiceAccount."""
    headers = {"Authorization": "Bearer admin-token"}
    async with aiohttp.ClientSession(cluster.url, headers=headers) as session:
        found = Api(session, f"e2e-{next(NUMBERS)}")
        await found.post("/api/v1/namespaces", {"metadata": {"name": found.namespace}})
        await found.comes(f"{found.base}/serviceaccounts/default")
        yield found
    # Connections that were left in the middle of a watch close in the next turn.
    await asyncio.sleep(0.01)


@pytest.fixture
def unique():
    """A name that nobody else has."""
    return f"u{next(NUMBERS)}"


@pytest.fixture
def pod():
    def make(name, labels=None, **spec):
        container = {"name": "c", "image": "localhost/pause:1"}
        return {
            "metadata": {"name": name, "labels": labels or {}},
            "spec": {"containers": [container], **spec},
        }

    return make


@pytest.fixture(scope="session")
def signing_request():
    """A certificate request in base64."""
    return base64.b64encode(pki.request(pki.new_key(), pki.Subject(name="jane"))).decode()
