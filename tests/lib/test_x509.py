"""Certificates signed for requests: what their extensions say."""

import base64
from datetime import UTC, datetime

import pytest
from cryptography import x509

from edgekube.lib import pki
from edgekube.lib.x509 import sign_request

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def signed(usages):
    authority = pki.new_authority("test-ca", NOW)
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(pki._name(pki.Subject(name="jane")))
        .sign(pki._private(pki.new_key()), pki.hashes.SHA256())
    )
    text = base64.b64encode(csr.public_bytes(pki.serialization.Encoding.PEM)).decode()
    made = sign_request(authority.certificate, authority.key, text, usages=usages, now=NOW, seconds=3600)
    return x509.load_pem_x509_certificate(made).extensions


def test_no_bit_set_means_no_key_usage_at_all():
    """OpenSSL takes a certificate with an empty key usage for a broken one."""
    extensions = signed(["client auth"])
    with pytest.raises(x509.ExtensionNotFound):
        extensions.get_extension_for_class(x509.KeyUsage)
    assert len(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == 1


def test_the_bits_asked_for():
    usage = signed(["digital signature", "client auth"]).get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_encipherment
