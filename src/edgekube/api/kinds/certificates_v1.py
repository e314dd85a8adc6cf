"""Rows of the certificates.k8s.io group."""

from edgekube.api.resource import Resource, Scope
from edgekube.api.types import certificates_v1 as t

CERTIFICATE_SIGNING_REQUESTS = Resource(
    "certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests",
    t.CertificateSigningRequest, scope=Scope.CLUSTER, short_names=("csr",), subresources=("status", "approval"),
)  # fmt: skip

RESOURCES = (CERTIFICATE_SIGNING_REQUESTS,)
