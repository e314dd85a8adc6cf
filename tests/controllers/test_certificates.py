"""Certificate requests: who gets one, from whom, and for how long."""

import asyncio
import base64
from datetime import UTC, datetime

import msgspec
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from edgekube.api.errors import NotFound
from edgekube.api.kinds.certificates_v1 import CERTIFICATE_SIGNING_REQUESTS
from edgekube.api.kinds.rbac_v1 import CLUSTER_ROLE_BINDINGS
from edgekube.api.resource import Key, key_of
from edgekube.api.types import certificates_v1, meta_v1, rbac_v1
from edgekube.apiserver.identity import User
from edgekube.app.signing import signer
from edgekube.client.typed import Client
from edgekube.control.clock import stamp
from edgekube.control.events import EventSink
from edgekube.control.informer import Informers
from edgekube.controllers.certificates import controller, signers
from edgekube.controllers.context import Context, Options
from edgekube.lib import pki
from edgekube.lib.x509 import parse_request

NODE = pki.Subject(name="system:node:one", organizations=("system:nodes",))
CLIENT = ("digital signature", "client auth")
SERVER = ("digital signature", "server auth")
SAN = pki.Subject(name=NODE.name, organizations=NODE.organizations, hosts=("one", "10.0.0.1"))


def pkcs10(subject, *, hosts=()):
    builder = x509.CertificateSigningRequestBuilder().subject_name(pki._name(subject))
    names = pki._alternatives(hosts or subject.hosts)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    csr = builder.sign(pki._private(pki.new_key()), pki.hashes.SHA256())
    return base64.b64encode(csr.public_bytes(pki.serialization.Encoding.PEM)).decode()


def request(name, subject, signer_name, usages, **spec):
    spec = certificates_v1.CertificateSigningRequestSpec(
        request=pkcs10(subject), signer_name=signer_name, usages=usages, **spec
    )
    return certificates_v1.CertificateSigningRequest(metadata=meta_v1.ObjectMeta(name=name), spec=spec)


@pytest.mark.parametrize(
    ("signer_name", "subject", "usages", "why"),
    [
        (signers.API_CLIENT, pki.Subject(name="bob"), CLIENT, ""),
        (signers.API_CLIENT, pki.Subject(name="bob"), SERVER, "usages did not match client auth"),
        (signers.KUBELET_CLIENT, NODE, CLIENT, ""),
        (signers.KUBELET_CLIENT, NODE, (*CLIENT, "key encipherment"), ""),
        (signers.KUBELET_CLIENT, NODE, ("client auth",), "usages did not match client auth"),
        (signers.KUBELET_CLIENT, SAN, CLIENT, "subject alternative names are not allowed"),
        (
            signers.KUBELET_CLIENT,
            pki.Subject(name=NODE.name),
            CLIENT,
            "subject organization is not system:nodes",
        ),
        (signers.KUBELET_SERVING, SAN, SERVER, ""),
        (signers.KUBELET_SERVING, NODE, SERVER, "DNS or IP subjectAltName is required"),
        (signers.KUBELET_SERVING, SAN, CLIENT, "usages did not match server auth"),
    ],
)
def test_what_signers_demand(signer_name, subject, usages, why):
    asked = parse_request(pkcs10(subject))
    assert signers.RULES[signer_name](asked, frozenset(usages)) == why


def test_a_kubelet_is_recognized():
    asked = parse_request(pkcs10(NODE))
    own = request("a", NODE, signers.KUBELET_CLIENT, CLIENT, username=NODE.name)
    other = request("a", NODE, signers.KUBELET_CLIENT, CLIENT, username="system:bootstrap:x")
    assert [right for right, _ in signers.recognized(own, asked)] == ["selfnodeclient", "nodeclient"]
    assert [right for right, _ in signers.recognized(other, asked)] == ["nodeclient"]
    assert signers.recognized(request("a", NODE, signers.API_CLIENT, CLIENT), asked) == []


@pytest.fixture(scope="module")
def authority():
    return pki.new_authority("test-ca", datetime.now(UTC))


class Desk:
    """The loop beside an API server, with a clock to turn."""

    def __init__(self, client):
        self.client, self.ahead = client, 0.0

    def clock(self):
        return datetime.now(UTC).timestamp() + self.ahead

    async def until(self, name, state):
        async with asyncio.timeout(20):
            while True:
                found = await self.client.get(CERTIFICATE_SIGNING_REQUESTS, Key("", name))
                if signers.state(found.status) == state:
                    return found
                await asyncio.sleep(0.01)

    async def approve(self, name):
        condition = {"type": "Approved", "status": "True", "reason": "Test", "message": "yes"}
        patch = {"status": {"conditions": [condition]}}
        await self.client.patch(CERTIFICATE_SIGNING_REQUESTS, Key("", name), patch, subresource="approval")


@pytest.fixture
async def desk(api_client, authority):
    desk = Desk(api_client)
    options = Options(sign=signer(authority), clock=desk.clock)
    informers = Informers(api_client)
    context = Context(api_client, informers, options, EventSink(api_client, desk.clock))
    parts = (controller.build(context), informers)
    tasks = [asyncio.create_task(part.run()) for part in parts]
    yield desk
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_approved_request_is_signed(desk, authority):
    spec = {"expiration_seconds": 3600}
    await desk.client.create(
        CERTIFICATE_SIGNING_REQUESTS,
        request("bob", pki.Subject(name="bob", organizations=("dev",)), signers.API_CLIENT, CLIENT, **spec),
    )
    await desk.until("bob", "Pending")
    await desk.approve("bob")
    issued = await desk.until("bob", "Issued")
    pem = base64.b64decode(issued.status.certificate)
    assert pki.is_issued_by(pem, authority.certificate)
    made = x509.load_pem_x509_certificate(pem)
    assert made.subject.rfc4514_string() == "CN=bob,O=dev"
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    left = (made.not_valid_after_utc - datetime.now(UTC)).total_seconds()
    assert 3000 < left <= 3600
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


async def test_a_wrong_one_fails(desk):
    wrong = request("wrong", NODE, signers.KUBELET_SERVING, SERVER)
    await desk.client.create(CERTIFICATE_SIGNING_REQUESTS, wrong)
    await desk.approve("wrong")
    failed = await desk.until("wrong", "Failed")
    assert failed.status.conditions[-1].message == "DNS or IP subjectAltName is required"
    assert failed.status.conditions[-1].reason == "SignerValidationFailure"


async def test_kubelets_are_approved_only_with_the_right(desk, api_server):
    group = "rbac.authorization.k8s.io"
    role = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"
    await desk.client.create(
        CLUSTER_ROLE_BINDINGS,
        rbac_v1.ClusterRoleBinding(
            metadata=meta_v1.ObjectMeta(name="renew"),
            role_ref=rbac_v1.RoleRef(api_group=group, kind="ClusterRole", name=role),
            subjects=(rbac_v1.Subject(kind="User", name=NODE.name, api_group=group),),
        ),
    )
    await desk.client.list(CLUSTER_ROLE_BINDINGS)
    own = request("own", NODE, signers.KUBELET_CLIENT, CLIENT)
    two = pki.Subject(name="system:node:two", organizations=("system:nodes",))
    other = request("other", two, signers.KUBELET_CLIENT, CLIENT)
    # The other is made first, so that the loop has seen it by then.
    second = Client(api_server.local(User(two.name, (*NODE.organizations, "system:authenticated"))))
    await second.create(CERTIFICATE_SIGNING_REQUESTS, other)
    kubelet = Client(api_server.local(User(NODE.name, (*NODE.organizations, "system:authenticated"))))
    await kubelet.create(CERTIFICATE_SIGNING_REQUESTS, own)
    issued = await desk.until("own", "Issued")
    assert issued.status.conditions[0].reason == "AutoApproved"
    await desk.until("other", "Pending")


async def test_old_ones_go(desk):
    await desk.client.create(
        CERTIFICATE_SIGNING_REQUESTS, request("old", pki.Subject(name="x"), signers.API_CLIENT, CLIENT)
    )
    await desk.approve("old")
    await desk.until("old", "Issued")
    desk.ahead = 3700.0
    touched = {"metadata": {"labels": {"a": "b"}}}
    await desk.client.patch(CERTIFICATE_SIGNING_REQUESTS, Key("", "old"), touched)
    with pytest.raises(NotFound):
        await desk.until("old", "Nothing")


def test_since_when():
    condition = certificates_v1.CertificateSigningRequestCondition(
        type="Approved", status="True", last_update_time=stamp(100)
    )
    made = request("a", NODE, signers.API_CLIENT, CLIENT)
    status = certificates_v1.CertificateSigningRequestStatus(conditions=(condition,), certificate="x")
    assert signers.since(msgspec.structs.replace(made, status=status)) == stamp(100)
    assert key_of(made) == Key("", "a")
