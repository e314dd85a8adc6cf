"""What a certificate request asks for (RFC 2986), read with `cryptography`; import it only where that is needed."""

import base64
import binascii
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID


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
