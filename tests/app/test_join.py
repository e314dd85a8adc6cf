"""Tokens, the join desk, and the server's credentials."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.errors import BadRequest, Forbidden
from edgekube.app import credentials
from edgekube.app.join import JoinDesk
from edgekube.app.membership import ClusterFacts, JoinRequest, Membership, NotJoined, load, save
from edgekube.app.options import ServerOptions
from edgekube.app.paths import ServerPaths
from edgekube.app.tokens import GROUP, BadToken, JoinToken, secret_of
from edgekube.lib import pki

NOW = datetime.now(UTC)
FACTS = ClusterFacts(
    cluster="c", brokers=("mqtts://10.0.0.1:8883",), cluster_dns="10.96.0.10", cluster_domain="cluster.local",
    cluster_cidr="10.244.0.0/16", service_cidr="10.96.0.0/16",
)  # fmt: skip


@pytest.fixture(scope="module")
def desk():
    return JoinDesk(pki.new_authority("ca", NOW), FACTS)


def application(name):

    csr = pki.request(pki.new_key(), pki.Subject(name="whatever")).decode()
    return msgspec.json.encode(JoinRequest(name, csr))


def test_a_node_gets_a_certificate_in_its_name(desk):
    answer = desk.admit(application("pi-4.kitchen"), (GROUP,))
    assert pki.is_issued_by(answer.certificate.encode(), desk.authority.certificate)
    assert answer.facts == FACTS


def test_without_a_bootstrap_token_nothing_is_signed(desk):
    with pytest.raises(Forbidden):
        desk.admit(application("pi"), ("system:masters",))


@pytest.mark.parametrize("name", ["hub", "", "A", "a/b", "x" * 70, "-a", "a#", "+"])
def test_names_that_would_be_somebody_else_are_refused(desk, name):
    with pytest.raises(BadRequest, match="nodeName"):
        desk.admit(application(name), (GROUP,))


@given(st.binary(max_size=200))
def test_garbage_is_a_bad_request(body):
    with pytest.raises(BadRequest):
        JoinDesk(pki.KeyPair(b"", b""), FACTS).admit(body, (GROUP,))


def test_tokens_read_back():
    token = JoinToken.new("ab" * 32)
    assert JoinToken.parse(f" {token}\n") == token
    assert secret_of(token, description="d").string_data["token-secret"] == token.secret
    for wrong in ("", "edge1::x::y", str(token)[:-1], f"{token}x", str(token).replace("edge1", "edge2")):
        with pytest.raises(BadToken):
            JoinToken.parse(wrong)


def test_membership_survives_on_disk(tmp_path):
    save(tmp_path / "m.json", Membership("pi", FACTS))
    assert load(tmp_path / "m.json") == Membership("pi", FACTS)
    (tmp_path / "m.json").write_text("{")
    with pytest.raises(NotJoined):
        load(tmp_path / "m.json")


def test_credentials_stay_and_follow_a_new_address(tmp_path):
    paths = ServerPaths(tmp_path)
    first = credentials.prepare(ServerOptions(data_dir=tmp_path, advertise="10.0.0.1"), paths)
    certificate = (paths.tls / "apiserver.crt").read_bytes()
    assert credentials.prepare(ServerOptions(data_dir=tmp_path, advertise="10.0.0.1"), paths) == first
    proxy = (paths.tls / "front-proxy-client.crt").read_bytes()
    assert pki.is_issued_by(proxy, first.front_proxy.certificate)
    assert not pki.is_issued_by(proxy, first.authority.certificate), "it is nobody's client certificate here"
    assert (paths.tls / "apiserver.crt").read_bytes() == certificate
    credentials.prepare(ServerOptions(data_dir=tmp_path, advertise="10.0.0.2"), paths)
    assert "10.0.0.2" in pki.hosts_of((paths.tls / "apiserver.crt").read_bytes())
    assert first.node_token.authority == pki.fingerprint(first.authority.certificate)
