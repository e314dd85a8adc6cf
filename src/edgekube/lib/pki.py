"""
The cluster's own certificates: ECDSA P-256, X.509 v3 (RFC 5280).

`cryptography` costs 19 MB, so only processes that sign (the server) or ask to be signed (a join,
which is a short-lived process of its own) import this module.
"""

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgekube.lib.errors import EdgekubeError
from edgekube.lib.files import write_atomic

BACKDATE = timedelta(days=1)
"""Certificates begin a day early, so that a board whose clock is somewhat behind accepts them."""
CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=365)


class BadCertificateRequest(EdgekubeError):
    """The bytes are no certificate request, or it does not prove possession of its key."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A PEM certificate and its PEM private key."""

    certificate: bytes
    key: bytes

    def save(self, certificate: Path, key: Path) -> None:
        """Write both; the key is readable by the owner only."""
        write_atomic(key, self.key, mode=0o600)
        write_atomic(certificate, self.certificate, mode=0o644)

    @classmethod
    def load(cls, certificate: Path, key: Path) -> "KeyPair":
        """Read both; raises FileNotFoundError."""
        return cls(certificate.read_bytes(), key.read_bytes())


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Who a certificate is for: `organizations` are Kubernetes groups; `hosts` are names or addresses."""

    name: str
    organizations: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


def new_key() -> bytes:
    """Return a new P-256 private key, PEM PKCS#8."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_key(key: bytes) -> bytes:
    """Return the PEM public key of a PEM private key."""
    return (
        _private(key)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def new_authority(name: str, now: datetime) -> KeyPair:
    """Return a self-signed CA."""
    key = new_key()
    private = _private(key)
    subject = _name(Subject(name=name))
    certificate = (
        _builder(subject, subject, private.public_key(), now, CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(private, hashes.SHA256())
    )
    return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), key)


def issue(authority: KeyPair, subject: Subject, now: datetime) -> KeyPair:
    """Return a new key with a certificate for `subject`, good for serving and as a client."""
    key = new_key()
    return KeyPair(_sign(authority, subject, _private(key).public_key(), now), key)


def request(key: bytes, subject: Subject) -> bytes:
    """Return a PEM certificate request (PKCS#10) by the holder of `key`."""
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_name(subject))
        .sign(_private(key), hashes.SHA256())
    )
    return csr.public_bytes(serialization.Encoding.PEM)


def sign_request(authority: KeyPair, csr: bytes, subject: Subject, now: datetime) -> bytes:
    """Return a PEM certificate for the key in `csr`, naming `subject` (never what the request claims)."""
    try:
        parsed = x509.load_pem_x509_csr(csr)
    except ValueError as error:
        raise BadCertificateRequest("not a PEM certificate request") from error
    public = parsed.public_key()
    if not parsed.is_signature_valid or not isinstance(public, ec.EllipticCurvePublicKey):
        raise BadCertificateRequest("a certificate request must be signed by its own ECDSA key")
    return _sign(authority, subject, public, now)


def is_issued_by(certificate: bytes, authority: bytes) -> bool:
    """Tell whether the CA certificate `authority` signed `certificate`."""
    try:
        x509.load_pem_x509_certificate(certificate).verify_directly_issued_by(
            x509.load_pem_x509_certificate(authority)
        )
    except (ValueError, InvalidSignature):
        return False
    return True


def hosts_of(certificate: bytes) -> frozenset[str]:
    """Return the names and addresses a certificate is valid for."""
    parsed = x509.load_pem_x509_certificate(certificate)
    try:
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    return frozenset((*names.get_values_for_type(x509.DNSName), *addresses))


def not_after(certificate: bytes) -> datetime:
    """Return when a certificate ends (UTC)."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def fingerprint(certificate: bytes) -> str:
    """Return the SHA-256 of the DER form, hex: what a join token carries."""
    der = x509.load_pem_x509_certificate(certificate).public_bytes(serialization.Encoding.DER)
    return hashlib.sha256(der).hexdigest()


def _sign(authority: KeyPair, subject: Subject, public: ec.EllipticCurvePublicKey, now: datetime) -> bytes:
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    builder = (
        _builder(_name(subject), issuer.subject, public, now, LEAF_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(_private(authority.key).public_key()),
            critical=False,
        )
    )
    if subject.hosts:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(_alternatives(subject.hosts)), critical=False
        )
    return builder.sign(_private(authority.key), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + lifetime)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=authority, crl_sign=authority, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _alternatives(hosts: Iterable[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _name(subject: Subject) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in subject.organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, subject.name)])


def _private(key: bytes) -> ec.EllipticCurvePrivateKey:
    private = serialization.load_pem_private_key(key, password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return private
