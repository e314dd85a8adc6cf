"""Expired bootstrap tokens go."""

import base64

import pytest

from edgekube.api.errors import NotFound
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1
from edgekube.controllers.tokencleaner import TYPE, expires


def token(name, expiration):
    data = {"expiration": base64.b64encode(expiration.encode()).decode()} if expiration else {}
    meta = meta_v1.ObjectMeta(name=name, namespace="kube-system")
    return core_v1.Secret(metadata=meta, type=TYPE, data=data)


@pytest.mark.parametrize(
    ("expiration", "when"), [("", None), ("1970-01-01T00:01:40Z", 100.0), ("no time", 0.0)]
)
def test_when_a_token_ends(expiration, when):
    assert expires(token("t", expiration)) == when


async def test_only_expired_ones_are_deleted(world):
    await world.client.create(core.SECRETS, token("old", "2020-01-01T00:00:00Z"))
    await world.client.create(core.SECRETS, token("new", "2999-01-01T00:00:00Z"))

    async def gone():
        try:
            await world.client.get(core.SECRETS, Key("kube-system", "old"))
        except NotFound:
            return True
        return False

    await world.eventually(gone)
    await world.client.get(core.SECRETS, Key("kube-system", "new"))
