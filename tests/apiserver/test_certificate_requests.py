"""Requests for certificates: who made them, who may approve and sign."""

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from edgekube.apiserver.identity import User

PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
BOB = User("bob", ("system:authenticated",), "u-bob")
SIGNER = "kubernetes.io/kube-apiserver-client"


def request(name, *groups, signer=SIGNER):
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, "bob")]
    parts += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(parts)).sign(key, hashes.SHA256())
    text = base64.b64encode(csr.public_bytes(Encoding.PEM)).decode()
    spec = {"request": text, "signerName": signer, "usages": ["client auth"], "username": "root"}
    return {"metadata": {"name": name}, "spec": {**spec, "groups": ["system:masters"]}}


async def grant(api, *rules):
    """Give bob rights."""
    resources = ["certificatesigningrequests", "certificatesigningrequests/approval"]
    resources += ["certificatesigningrequests/status"]
    base = {"apiGroups": ["certificates.k8s.io"], "resources": resources, "verbs": ["*"]}
    await api.post(f"{RBAC}/clusterroles", {"metadata": {"name": "bob"}, "rules": [base, *rules]})
    subject = {"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}
    ref = {"kind": "ClusterRole", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}
    body = {"metadata": {"name": "bob"}, "roleRef": ref, "subjects": [subject]}
    await api.post(f"{RBAC}/clusterrolebindings", body)
    for plural in ("clusterroles", "clusterrolebindings"):
        # A list waits until the caches show what was written: grants hold from then on.
        await api.get(f"{RBAC}/{plural}")


def signers(verb, name):
    return {
        "apiGroups": ["certificates.k8s.io"],
        "resources": ["signers"],
        "verbs": [verb],
        "resourceNames": [name],
    }


def approved(csr):
    condition = {"type": "Approved", "status": "True", "reason": "Test"}
    return {**csr, "status": {"conditions": [condition]}}


async def test_the_server_says_who_asked(api):
    await grant(api)
    spec = (await api.post(PATH, request("a"), user=BOB))["spec"]
    assert (spec["username"], spec["uid"], spec["groups"]) == ("bob", "u-bob", ["system:authenticated"])


async def test_nobody_asks_to_be_a_master(api):
    status = await api.post(PATH, request("a", "system:masters"), code=403)
    assert "with system:masters group is not allowed" in status["message"]
    await api.post(PATH, request("b", "developers"))


@pytest.mark.parametrize("name", [SIGNER, "kubernetes.io/*"])
async def test_approving_needs_a_right_on_the_signer(api, name):
    await grant(api, signers("approve", name))
    csr = await api.post(PATH, request("a"))
    await api.put(f"{PATH}/a/approval", approved(csr), user=BOB)
    other = await api.post(PATH, request("b", signer="example.com/x"))
    status = await api.put(f"{PATH}/b/approval", approved(other), code=403, user=BOB)
    assert 'not permitted to approve requests with signerName "example.com/x"' in status["message"]


async def test_signing_needs_a_right_on_the_signer(api):
    await grant(api, signers("approve", SIGNER))
    csr = await api.post(PATH, request("a"))
    failed = {"type": "Failed", "status": "True", "reason": "Test"}
    body = {**csr, "status": {"conditions": [failed]}}
    status = await api.put(f"{PATH}/a/status", body, code=403, user=BOB)
    assert f'not permitted to sign requests with signerName "{SIGNER}"' in status["message"]
    await api.put(f"{PATH}/a/status", body)
