"""Certificates: a real TLS handshake with what we issue, and what must be refused."""

import asyncio
import ssl
from datetime import UTC, datetime

import pytest
from cryptography import x509

from edgekube.lib import pki
from edgekube.lib.files import write_atomic

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def authority():
    return pki.new_authority("test-ca", NOW)


def test_hosts_and_issuer(authority):
    pair = pki.issue(authority, pki.Subject(name="x", hosts=("a.example", "127.0.0.1", "::1")), NOW)
    assert pki.hosts_of(pair.certificate) == {"a.example", "127.0.0.1", "::1"}
    assert pki.is_issued_by(pair.certificate, authority.certificate)
    assert not pki.is_issued_by(pair.certificate, pki.new_authority("test-ca", NOW).certificate)


def test_a_request_gets_the_name_the_signer_says_not_the_one_it_claims(authority):
    csr = pki.request(pki.new_key(), pki.Subject(name="admin", organizations=("system:masters",)))
    signed = pki.sign_request(authority, csr, pki.Subject(name="node1", organizations=("system:nodes",)), NOW)

    subject = x509.load_pem_x509_certificate(signed).subject.rfc4514_string()
    assert subject == "CN=node1,O=system:nodes"


def test_garbage_is_refused(authority):
    with pytest.raises(pki.BadCertificateRequest):
        pki.sign_request(authority, b"hello", pki.Subject(name="x"), NOW)
    csr = pki.request(pki.new_key(), pki.Subject(name="x"))
    with pytest.raises(pki.BadCertificateRequest):
        pki.sign_request(authority, csr.replace(b"A", b"B", 20), pki.Subject(name="x"), NOW)


async def test_mutual_tls(authority, tmp_path):
    for stem, subject in (
        ("server", pki.Subject(name="s", hosts=("127.0.0.1",))),
        ("client", pki.Subject(name="c")),
    ):
        pki.issue(authority, subject, NOW).save(tmp_path / f"{stem}.crt", tmp_path / f"{stem}.key")
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    inside = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "ca.crt")
    inside.verify_mode = ssl.CERT_REQUIRED
    inside.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    outside = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    outside.load_cert_chain(tmp_path / "client.crt", tmp_path / "client.key")
    seen = asyncio.Queue()

    async def serve(_reader, writer):
        seen.put_nowait(writer.get_extra_info("peercert"))
        writer.write(b"hi")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=inside)
    async with server:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.sockets[0].getsockname()[1], ssl=outside
        )
        assert await reader.read() == b"hi"
        writer.close()
        await writer.wait_closed()
    assert (("commonName", "c"),) in (await seen.get())["subject"]


def test_keys_are_private_and_files_whole(tmp_path):
    pair = pki.new_authority("x", NOW)
    pair.save(tmp_path / "tls" / "a.crt", tmp_path / "tls" / "a.key")
    assert (tmp_path / "tls" / "a.key").stat().st_mode & 0o777 == 0o600
    assert pki.KeyPair.load(tmp_path / "tls" / "a.crt", tmp_path / "tls" / "a.key") == pair
    write_atomic(tmp_path / "tls" / "a.crt", b"new")
    assert sorted(p.name for p in (tmp_path / "tls").iterdir()) == ["a.crt", "a.key"]
    assert len(pki.fingerprint(pair.certificate)) == 64
