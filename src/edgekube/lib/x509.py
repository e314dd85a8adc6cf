"""Certificate requests (RFC 2986), read and signed with `cryptography`; import this only where that is needed."""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The subject and the alternative names of a request."""

    name: str
    organizations: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()


def parse_request(text: str) -> Asked | None:
    """Return what a base64 PEM request asks for; None when it cannot be read."""
    try:
        csr = x509.load_pem_x509_csr(base64.b64decode(text))
        names = _names(csr)
    except (ValueError, binascii.Error):
        return None
    common = [str(each.value) for each in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = csr.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return Asked(
        name=common[0] if common else "",
        organizations=tuple(str(each.value) for each in groups),
        dns=tuple(names.get_values_for_type(x509.DNSName)),
        addresses=tuple(str(each) for each in names.get_values_for_type(x509.IPAddress)),
        emails=tuple(names.get_values_for_type(x509.RFC822Name)),
        uris=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
    )


def _names(csr: x509.CertificateSigningRequest) -> x509.SubjectAlternativeName:
    try:
        return csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])


USAGES = {
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH, "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING, "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING, "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
}  # fmt: skip
KEY_USAGES = {"digital signature": "digital_signature", "key encipherment": "key_encipherment"}
BACKDATE = timedelta(minutes=5)
"""Certificates begin earlier than now, as Kubernetes' do."""


def sign_request(
    certificate: bytes, key: bytes, text: str, *, usages: Iterable[str], now: datetime, seconds: float
) -> bytes:
    """Return the PEM certificate that a base64 PEM request asks for, signed by the CA `certificate` with its `key`."""
    csr = x509.load_pem_x509_csr(base64.b64decode(text))
    issuer, private = x509.load_pem_x509_certificate(certificate), load_pem_private_key(key, password=None)
    assert isinstance(private, EllipticCurvePrivateKey)
    chosen = frozenset(usages)
    builder = (
        x509.CertificateBuilder()
        .subject_name(csr.subject)
        .issuer_name(issuer.subject)
        .public_key(csr.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(min(now + timedelta(seconds=seconds), issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(private.public_key()), critical=False
        )
    )
    bits = {flag: usage in chosen for usage, flag in KEY_USAGES.items()}
    if any(bits.values()):
        # An extension without any bit makes OpenSSL refuse the whole certificate (RFC 5280, 4.2.1.3).
        builder = builder.add_extension(_key_usage(bits), critical=True)
    extended = [oid for usage, oid in USAGES.items() if usage in chosen]
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    names = list(_names(csr))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(private, hashes.SHA256()).public_bytes(Encoding.PEM)


def _key_usage(bits: Mapping[str, bool]) -> x509.KeyUsage:
    return x509.KeyUsage(
        **bits, key_cert_sign=False, crl_sign=False, content_commitment=False, data_encipherment=False,
        key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
