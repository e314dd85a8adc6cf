"""Fixtures every package may use: the real API server in this process, over the store in memory."""

import asyncio
import os
from contextlib import asynccontextmanager

import pytest
from hypothesis import settings

from edgekube.api.schema import Schemas
from edgekube.apiserver.bootstrap import BootstrapConfig, bootstrap
from edgekube.apiserver.identity import User
from edgekube.apiserver.server import ApiServer, ApiServerConfig
from edgekube.client.typed import Client
from edgekube.store.memory import MemoryStore

# A run of the suite is the same on every machine; `make search` looks for new examples.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

MASTER = User("system:kube-controller-manager", ("system:masters",))
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


class Counting:
    """A carrier that notes what was written through it."""

    def __init__(self, carrier):
        self.carrier, self.writes = carrier, []

    async def do(self, call):
        if call.verb in WRITES:
            self.writes.append((call.verb, call.resource.plural, call.name or "", call.subresource))
        return await self.carrier.do(call)

    def watch(self, call):
        return self.carrier.watch(call)


@pytest.fixture(scope="session")
def schemas() -> Schemas:
    return Schemas.load()


@asynccontextmanager
async def running(coroutine):
    task = asyncio.ensure_future(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def api_config() -> ApiServerConfig:
    """What `api_server` is configured with; a test may parametrize it."""
    return ApiServerConfig()


@pytest.fixture
async def api_server(schemas, api_config):
    """The API server with the namespaces every cluster has."""
    server = ApiServer(MemoryStore(), schemas, api_config)
    async with running(server.run()):
        await asyncio.wait_for(server.ready.wait(), 10)
        await bootstrap(Client(server.local(MASTER)), BootstrapConfig(address="192.0.2.1"))
        yield server


@pytest.fixture
def api_carrier(api_server):
    return Counting(api_server.local(MASTER))


@pytest.fixture
def api_client(api_carrier) -> Client:
    """A client of a real API server in this process; `api_carrier.writes` lists what it wrote."""
    return Client(api_carrier)
