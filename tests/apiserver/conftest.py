"""An API server on a memory store, called in process."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from edgekube.api.schema import Schemas
from edgekube.apiserver.authn.accounts import TokenConfig
from edgekube.apiserver.bootstrap import BootstrapConfig, bootstrap
from edgekube.apiserver.identity import User
from edgekube.apiserver.request import Request, Response
from edgekube.apiserver.server import ApiServer, ApiServerConfig
from edgekube.client.typed import Client
from edgekube.lib import pki
from edgekube.store.base import Store
from edgekube.store.memory import MemoryStore

from .extension import extended, wardle  # noqa: F401 - fixtures

ADMIN = User("admin", ("system:masters", "system:authenticated"))
JOE = User("joe", ("system:authenticated",))


@dataclass
class Api:
    server: ApiServer

    async def send(
        self, method: str, path: str, body: Any = None, *, user: User = ADMIN, **headers: str
    ) -> Response:
        path, _, text = path.partition("?")
        query = dict(part.partition("=")[::2] for part in text.split("&") if part)
        data = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.server.handler.answer(
            Request(method=method, path=path, user=user, query=query, headers=names, body=data)
        )

    async def call(
        self, method: str, path: str, body: Any = None, *, code: int | None = None, **more: Any
    ) -> Any:
        response = await self.send(method, path, body, **more)
        tree = msgspec.json.decode(response.body)
        if code is not None:
            assert response.code == code, tree
        return tree

    async def get(self, path: str, code: int = 200, **more: Any) -> Any:
        return await self.call("GET", path, code=code, **more)

    async def post(self, path: str, body: Any, code: int = 201, **more: Any) -> Any:
        return await self.call("POST", path, body, code=code, **more)

    async def put(self, path: str, body: Any, code: int = 200, **more: Any) -> Any:
        return await self.call("PUT", path, body, code=code, **more)

    async def patch(
        self, path: str, body: Any, code: int = 200, kind: str = "merge-patch+json", **more: Any
    ) -> Any:
        return await self.call("PATCH", path, body, code=code, content_type=f"application/{kind}", **more)

    async def delete(self, path: str, body: Any = None, code: int = 200, **more: Any) -> Any:
        return await self.call("DELETE", path, body, code=code, **more)

    async def watch(self, path: str, **more: Any) -> Any:
        response = await self.send("GET", path, **more)
        assert response.code == 200, response.body
        assert response.events is not None
        return response.events


@contextlib.asynccontextmanager
async def running(server: ApiServer) -> Any:
    task = asyncio.create_task(server.run())
    try:
        await server.ready.wait()
        yield server
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture(scope="session")
def signing_key() -> bytes:
    return pki.new_key()


@pytest.fixture
def make_server(schemas: Schemas, signing_key: bytes) -> Any:
    def make(
        store: Store | None = None,
        *,
        auditor: Any = None,
        front_proxy: Any = None,
        service_cidr: str = "10.43.0.0/24",
        **more: Any,
    ) -> ApiServer:
        tokens = TokenConfig(key=signing_key, issuer="https://kubernetes.default.svc", audiences=("api",))
        config = ApiServerConfig(
            tokens={"admin-token": ADMIN, "joe-token": JOE},
            account_tokens=tokens,
            service_cidr=service_cidr,
            auditor=auditor,
            front_proxy=front_proxy,
        )
        return ApiServer(store or MemoryStore(), schemas, config, **more)

    return make


@pytest.fixture
async def api(make_server: Any) -> Any:
    async with running(make_server()) as server:
        config = BootstrapConfig(address="192.0.2.1", service_cidr="10.43.0.0/24")
        await bootstrap(Client(server.local(ADMIN)), config)
        yield Api(server)


@pytest.fixture
def start() -> Any:
    """Run another server inside a test: `async with start(make_server(store)) as api`."""

    @contextlib.asynccontextmanager
    async def begin(server: ApiServer) -> Any:
        async with running(server):
            yield Api(server)

    return begin


@pytest.fixture
def pod() -> Any:
    def make(name: str, **spec: Any) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": "localhost/x:1"}], **spec},
        }

    return make


@pytest.fixture
def config_map() -> Any:
    def make(name: str, **data: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}

    return make


@pytest.fixture
def deployment() -> Any:
    def make(name: str, **spec: Any) -> dict[str, Any]:
        labels = {"app": name}
        template = {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "c", "image": "localhost/x:1"}]},
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
        }

    return make


@pytest.fixture
async def account(api: Api) -> Any:
    """The default ServiceAccount, which a controller would make."""
    body = {"metadata": {"name": "default"}}
    return await api.post("/api/v1/namespaces/default/serviceaccounts", body)
