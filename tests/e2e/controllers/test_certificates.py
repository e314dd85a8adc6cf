"""Certificate requests: approved, signed, refused."""

import base64
import subprocess

import pytest

from e2e.harness import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def request(tmp_path, name, signer, *, subject="/O=makers/CN=jane"):
    key, csr = tmp_path / "key", tmp_path / "csr"
    subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", subject,
         "-keyout", key, "-out", csr], check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    encoded = base64.b64encode(csr.read_bytes()).decode()
    return (
        key,
        f"""
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {{name: {name}}}
spec: {{request: {encoded}, signerName: {signer}, usages: [client auth], expirationSeconds: 86400}}
""",
    )


def test_a_person_gets_a_certificate_that_works(cluster, space, bare, tmp_path):
    key, manifest = request(tmp_path, space, "kubernetes.io/kube-apiserver-client")
    cluster.kubectl("apply", "-f", "-", stdin=manifest)
    assert "Pending" in cluster.kubectl("get", "csr", space)
    cluster.kubectl("certificate", "approve", space)
    eventually(lambda: "Approved,Issued" in cluster.kubectl("get", "csr", space), "it is signed")
    certificate = tmp_path / "crt"
    certificate.write_bytes(
        base64.b64decode(cluster.kubectl("get", "csr", space, "-o", "jsonpath={.status.certificate}"))
    )
    whoami = cluster.kubectl(
        *bare,
        "auth",
        "whoami",
        "--client-certificate",
        str(certificate),
        "--client-key",
        str(key),
        "-o",
        "json",
    )
    assert '"username": "jane"' in whoami and '"makers"' in whoami
    cluster.kubectl("delete", "csr", space)


def test_one_that_is_refused_stays_unsigned(cluster, space, tmp_path):
    _, manifest = request(
        tmp_path, space, "kubernetes.io/kube-apiserver-client", subject="/O=system:masters/CN=eve"
    )
    refused = cluster.kubectl("apply", "-f", "-", stdin=manifest, check=False)
    if "created" in refused:
        cluster.kubectl("certificate", "deny", space)
        assert "Denied" in cluster.kubectl("get", "csr", space)
        assert cluster.kubectl("get", "csr", space, "-o", "jsonpath={.status.certificate}") == ""
        cluster.kubectl("delete", "csr", space)
    else:
        assert "system:masters" in refused
