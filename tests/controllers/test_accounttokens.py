"""Tokens of ServiceAccounts in Secrets."""

import asyncio
import base64

import pytest

from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1
from edgekube.apiserver.authn.accounts import TokenConfig
from edgekube.apiserver.identity import User
from edgekube.apiserver.server import ApiServer, ApiServerConfig
from edgekube.client.typed import Client
from edgekube.control.events import EventSink
from edgekube.control.informer import Informers
from edgekube.controllers import accounttokens
from edgekube.controllers.context import Context, Options
from edgekube.lib import pki
from edgekube.store.memory import MemoryStore

ROBOT, KEY = Key("default", "robot"), Key("default", "robot-token")


@pytest.fixture
async def server(schemas):
    config = ApiServerConfig(account_tokens=TokenConfig(key=pki.new_key(), issuer="here", audiences=("api",)))
    server = ApiServer(MemoryStore(), schemas, config)
    task = asyncio.create_task(server.run())
    await server.ready.wait()
    yield server
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def running(server):
    client = Client(server.local(User("admin", ("system:masters",))))
    await client.create(core.NAMESPACES, core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="default")))
    options = Options(root_ca="PEM")
    informers = Informers(client)
    sink = EventSink(client, options.clock)
    parts = (accounttokens.build(Context(client, informers, options, sink)), informers)
    tasks = [asyncio.create_task(part.run()) for part in parts]
    yield client
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def account():
    return core_v1.ServiceAccount(metadata=meta_v1.ObjectMeta(name=ROBOT.name, namespace=ROBOT.namespace))


def secret():
    notes = {accounttokens.NAME: ROBOT.name}
    meta = meta_v1.ObjectMeta(name=KEY.name, namespace=KEY.namespace, annotations=notes)
    return core_v1.Secret(metadata=meta, type=accounttokens.TYPE)


async def filled(client):
    async with asyncio.timeout(20):
        while not (found := await client.get(core.SECRETS, KEY)).data.get("token"):
            await asyncio.sleep(0.01)
    return found


async def test_a_secret_gets_its_token(running, server):
    made = await running.create(core.SERVICE_ACCOUNTS, account())
    await running.create(core.SECRETS, secret())
    found = await filled(running)
    assert found.metadata.annotations[accounttokens.UID] == made.metadata.uid
    read = {name: base64.b64decode(value).decode() for name, value in found.data.items()}
    assert (read["namespace"], read["ca.crt"]) == ("default", "PEM")
    tokens = server.parts.tokens
    user = await tokens.user_of(read["token"], tokens.config.audiences)
    assert user.name == "system:serviceaccount:default:robot"
    await running.delete(core.SECRETS, KEY)
    assert await tokens.user_of(read["token"], tokens.config.audiences) is None, "it goes with its Secret"


async def test_it_goes_with_its_account(running):
    await running.create(core.SERVICE_ACCOUNTS, account())
    await running.create(core.SECRETS, secret())
    await filled(running)
    await running.delete(core.SERVICE_ACCOUNTS, ROBOT)
    async with asyncio.timeout(20):
        while (await running.list(core.SECRETS)).items:
            await asyncio.sleep(0.01)
