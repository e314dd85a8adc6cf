"""Who somebody is, and what they may do."""

import base64
from datetime import UTC, datetime, timedelta

import pytest

from edgekube.api.errors import Forbidden, Unauthorized
from edgekube.apiserver.authn.accounts import ServiceAccountTokens, TokenConfig
from edgekube.apiserver.authn.base import Authentication, Credentials, credentials_of
from edgekube.apiserver.authn.certificates import Certificates
from edgekube.apiserver.authn.impersonation import impersonated
from edgekube.apiserver.authn.jwt import BadToken, Signer
from edgekube.apiserver.authn.tokens import BootstrapTokens, StaticTokens
from edgekube.apiserver.authz import Access, Authorization, BuiltIn
from edgekube.apiserver.identity import ANONYMOUS, User

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOE = User("joe", ("system:authenticated",))
ROOT = User("root", ("system:masters",))


class Objects:
    """Stored objects by plural, namespace and name."""

    def __init__(self, **objects):
        self.objects = objects

    async def find(self, row, key):
        return self.objects.get(f"{row.plural}_{key.name}".replace("-", "_"))


def test_credentials_are_read_from_headers():
    assert credentials_of({"authorization": "Bearer abc"}, None) == Credentials(token="abc")
    assert credentials_of({"authorization": "Basic abc"}, None) == Credentials()


async def test_a_certificate_names_user_and_groups():
    subject = ((("commonName", "ann"),), (("organizationName", "a"),), (("organizationName", "b"),))
    user = await Certificates().authenticate(Credentials(certificate={"subject": subject}))
    assert (user.name, user.groups) == ("ann", ("a", "b"))
    assert await Certificates().authenticate(Credentials()) is None


async def test_the_first_that_knows_wins_and_unknown_tokens_are_refused():
    chain = Authentication([StaticTokens({"t": User("tom", ("g",))})])
    user = await chain.user_of(Credentials(token="t"))
    assert (user.name, user.groups) == ("tom", ("g", "system:authenticated"))
    assert await chain.user_of(Credentials()) is ANONYMOUS
    with pytest.raises(Unauthorized):
        await chain.user_of(Credentials(token="x"))


def bootstrap_secret(**data):
    values = {"token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true", **data}
    encoded = {name: base64.b64encode(text.encode()).decode() for name, text in values.items()}
    return {"metadata": {}, "type": "bootstrap.kubernetes.io/token", "data": encoded}


@pytest.mark.parametrize(
    ("token", "data", "known"),
    [
        ("abcdef.0123456789abcdef", {}, True),
        ("abcdef.0123456789abcdee", {}, False),
        ("other1.0123456789abcdef", {}, False),
        ("abcdef.0123456789abcdef", {"expiration": "2026-01-01T00:00:01Z"}, True),
        ("abcdef.0123456789abcdef", {"expiration": "2026-01-01T00:00:00Z"}, False),
        ("abcdef.0123456789abcdef", {"expiration": "soon"}, False),
        ("abcdef.0123456789abcdef", {"usage-bootstrap-authentication": "false"}, False),
    ],
)
async def test_bootstrap_tokens(token, data, known):
    objects = Objects(secrets_bootstrap_token_abcdef=bootstrap_secret(**data))
    user = await BootstrapTokens(objects, lambda: NOW).authenticate(Credentials(token=token))
    assert (user is not None) == known
    if user:
        assert (user.name, user.groups) == ("system:bootstrap:abcdef", ("system:bootstrappers",))


def test_signatures(signing_key):
    signer = Signer(signing_key)
    token = signer.sign({"sub": "x"})
    assert signer.verify(token) == {"sub": "x"}
    head, _, signature = token.split(".")
    forged = base64.urlsafe_b64encode(b'{"sub":"y"}').decode().rstrip("=")
    for bad in (f"{head}.{forged}.{signature}", "a.b.c", "", f"{token}x", token[:-4]):
        with pytest.raises(BadToken):
            signer.verify(bad)


@pytest.mark.parametrize(
    ("later", "uid", "audiences", "known"),
    [
        (0, "u1", ("api",), True),
        (600, "u1", ("api",), False),
        (0, "u2", ("api",), False),
        (0, "u1", ("other",), False),
    ],
)
async def test_account_tokens(signing_key, later, uid, audiences, known):
    clock = [NOW]
    config = TokenConfig(key=signing_key, issuer="me", audiences=("api",))
    tokens = ServiceAccountTokens(
        config, Objects(serviceaccounts_sa={"metadata": {"uid": uid}}), lambda: clock[0]
    )
    token = tokens.issue("ns", {"name": "sa", "uid": "u1"}, seconds=600, audiences=audiences)
    clock[0] += timedelta(seconds=later)
    user = await tokens.authenticate(Credentials(token=token))
    assert (user is not None) == known
    if user:
        assert user.name == "system:serviceaccount:ns:sa"
    assert await tokens.authenticate(Credentials(token=token)) == user, "the remembered answer is the same"


def test_impersonation_is_for_masters():
    headers = {"impersonate-user": "joe", "impersonate-group": "a\nb", "impersonate-extra-x": "y"}
    rights = Authorization([BuiltIn()])
    user = impersonated(ROOT, headers, rights)
    assert (user.name, user.groups) == ("joe", ("a", "b", "system:authenticated"))
    assert user.extra == {"x": ("y",)}
    with pytest.raises(Forbidden):
        impersonated(JOE, headers, rights)
    assert impersonated(JOE, {}, rights) is JOE


PODS = Access(verb="list", plural="pods", namespace="default")


@pytest.mark.parametrize(
    ("user", "access", "allowed"),
    [
        (ROOT, PODS, True),
        (User("system:kube-scheduler"), PODS, True),
        (JOE, PODS, False),
        (ANONYMOUS, Access(verb="get", path="/healthz"), True),
        (ANONYMOUS, Access(verb="get", path="/version"), True),
        (ANONYMOUS, Access(verb="get", path="/metrics"), False),
        (ANONYMOUS, Access(verb="get", path="/apis"), False),
        (JOE, Access(verb="get", path="/apis/apps/v1"), True),
        (JOE, Access(verb="get", path="/versions"), False),
        (JOE, Access(verb="get", path="/metrics"), False),
        (JOE, Access(verb="create", group="authentication.k8s.io", plural="selfsubjectreviews"), True),
        (JOE, Access(verb="create", group="authentication.k8s.io", plural="tokenreviews"), False),
    ],
)
def test_built_in_rights(user, access, allowed):
    chain = Authorization([BuiltIn(frozenset({"system:kube-scheduler"}))])
    assert chain.allows(user, access) is allowed


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "/api/v1/namespaces/default/pods",
            'pods is forbidden: User "joe" cannot list resource "pods" in API group "" in the namespace "default"',
        ),
        (
            "/apis/apps/v1/namespaces/x/deployments/d",
            (
                'deployments.apps "d" is forbidden: User "joe" cannot get resource "deployments" in API group "apps" '
                'in the namespace "x"'
            ),
        ),
        (
            "/api/v1/nodes",
            'nodes is forbidden: User "joe" cannot list resource "nodes" in API group "" at the cluster scope',
        ),
        ("/metrics", 'forbidden: User "joe" cannot get path "/metrics"'),
    ],
)
async def test_refusals_in_kubernetes_words(api, path, message):
    status = await api.get(path, code=403, user=JOE)
    assert (status["reason"], status["message"]) == ("Forbidden", message)
