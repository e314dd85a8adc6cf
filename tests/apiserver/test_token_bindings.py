"""ServiceAccount tokens: what they are bound to, whom they are for, and how others verify them."""

import base64

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from edgekube.apiserver.authn.base import Credentials
from edgekube.apiserver.identity import User, service_account

ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/default"
REVIEW = "/apis/authentication.k8s.io/v1/tokenreviews"
BOUND = {
    "Secret": ("/api/v1/namespaces/default/secrets", {}),
    "Node": ("/api/v1/nodes", {}),
}


async def request(api, **spec):
    return (await api.post(f"{ACCOUNT}/token", {"spec": spec}))["status"]["token"]


async def review(api, token, *audiences):
    body = {"spec": {"token": token, "audiences": list(audiences)}}
    return (await api.post(REVIEW, body))["status"]


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("kind", BOUND)
async def test_a_token_ends_with_what_it_is_bound_to(api, account, kind):
    path, body = BOUND[kind]
    await api.post(path, {"metadata": {"name": "thing"}, **body})
    reference = {"apiVersion": "v1", "kind": kind, "name": "thing"}
    token = await request(api, boundObjectRef=reference)
    user = (await review(api, token))["user"]
    assert ("authentication.kubernetes.io/node-name" in user.get("extra", {})) == (kind == "Node")
    await api.delete(f"{path}/thing")
    assert not (await review(api, token)).get("authenticated")


async def test_other_kinds_are_refused(api, account):
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x"}
    status = await api.post(f"{ACCOUNT}/token", {"spec": {"boundObjectRef": reference}}, code=400)
    assert "cannot bind token" in status["message"]


async def test_reviews_by_audience(api, account):
    token = await request(api, audiences=["vault", "other"])
    assert not (await review(api, token)).get("authenticated"), "it is not for the API server"
    status = await review(api, token, "vault", "unknown")
    assert (status["authenticated"], status["audiences"]) == (True, ["vault"])
    assert not (await review(api, token, "unknown")).get("authenticated")
    assert not (await review(api, "admin-token", "vault")).get("authenticated")
    assert (await review(api, "admin-token", "api", "vault"))["audiences"] == ["api"]


async def test_others_can_verify_a_token(api, account):
    user = service_account("default", "default", "", {})
    config = await api.get("/.well-known/openid-configuration", user=user)
    assert config["jwks_uri"] == f"{config['issuer']}/openid/v1/jwks"
    [key] = (await api.get("/openid/v1/jwks", user=user))["keys"]
    token = await request(api)
    signed, _, signature = token.rpartition(".")
    assert msgspec.json.decode(decoded(signed.split(".")[0]))["kid"] == key["kid"]
    x, y = (int.from_bytes(decoded(key[part])) for part in "xy")
    raw = decoded(signature)
    der = utils.encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    public.verify(der, signed.encode(), ec.ECDSA(hashes.SHA256()))
    await api.get("/openid/v1/jwks", code=403, user=User("system:anonymous", ("system:unauthenticated",)))


async def test_a_review_of_one_namespace(api):
    path = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews"
    spec = {"user": "x", "groups": ["system:masters"]}
    wanted = {"verb": "get", "resource": "pods", "namespace": "default"}
    body = {"metadata": {"namespace": "default"}, "spec": {**spec, "resourceAttributes": wanted}}
    assert (await api.post(path, body))["status"]["allowed"] is True
    body["spec"]["resourceAttributes"] = {**wanted, "namespace": "kube-system"}
    await api.post(path, body, code=400)


async def test_static_tokens_are_known(api):
    user = await api.server.parts.authentication.user_of(Credentials(token="joe-token"))
    assert user.name == "joe"
