"""What the signers of a cluster demand of a request (Kubernetes docs, "Kubernetes signers"). Pure."""

from collections.abc import Callable, Mapping
from typing import Protocol

from edgekube.api.types.certificates_v1 import CertificateSigningRequest, CertificateSigningRequestStatus

API_CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
NODES, NODE = "system:nodes", "system:node:"
SHORTEST, LONGEST = 600.0, 365 * 86400.0
"""Seconds a certificate may be valid."""


class Asked(Protocol):
    """What a request's PKCS#10 part says."""

    @property
    def name(self) -> str:
        """The common name."""
        ...

    @property
    def organizations(self) -> tuple[str, ...]:
        """The groups."""
        ...

    @property
    def dns(self) -> tuple[str, ...]:
        """DNS names."""
        ...

    @property
    def addresses(self) -> tuple[str, ...]:
        """IP addresses."""
        ...

    @property
    def emails(self) -> tuple[str, ...]:
        """Mail addresses."""
        ...

    @property
    def uris(self) -> tuple[str, ...]:
        """URIs."""
        ...


def _api_client(_asked: Asked, usages: frozenset[str]) -> str:
    return _usages(usages, "client auth", exact=False)


def _kubelet_client(asked: Asked, usages: frozenset[str]) -> str:
    if asked.dns or asked.addresses or asked.emails or asked.uris:
        return "subject alternative names are not allowed"
    return _node(asked) or _usages(usages, "client auth", exact=True)


def _kubelet_serving(asked: Asked, usages: frozenset[str]) -> str:
    if asked.emails or asked.uris:
        return "email and URI subject alternative names are not allowed"
    if not (asked.dns or asked.addresses):
        return "DNS or IP subjectAltName is required"
    return _node(asked) or _usages(usages, "server auth", exact=True)


def _node(asked: Asked) -> str:
    if asked.organizations != (NODES,):
        return f"subject organization is not {NODES}"
    return "" if asked.name.startswith(NODE) else f"subject common name does not begin with {NODE}"


def _usages(usages: frozenset[str], main: str, *, exact: bool) -> str:
    """A key may be for signatures and key encipherment besides; a kubelet's must be for signatures."""
    needed = {main, "digital signature"} if exact else {main}
    if not needed <= usages or usages - {main, "digital signature", "key encipherment"}:
        return f"usages did not match {main}"
    return ""


RULES: Mapping[str, Callable[[Asked, frozenset[str]], str]] = {
    API_CLIENT: _api_client,
    KUBELET_CLIENT: _kubelet_client,
    KUBELET_SERVING: _kubelet_serving,
}
"""By signer: what is wrong with a request, "" when nothing is."""


def recognized(request: CertificateSigningRequest, asked: Asked) -> list[tuple[str, str]]:
    """Return the rights (subresource and what they are called) that make a request approve itself, if the asker has one."""
    if request.spec.signer_name != KUBELET_CLIENT or _kubelet_client(asked, frozenset(request.spec.usages)):
        return []
    found = [("nodeclient", "kubelet client certificate")]
    if request.spec.username == asked.name:
        found.insert(0, ("selfnodeclient", "self kubelet client certificate"))
    return found


def state(status: CertificateSigningRequestStatus) -> str:
    """Return how far a request is: Denied, Failed, Issued, Approved or Pending."""
    types = {condition.type for condition in status.conditions}
    for name in ("Denied", "Failed"):
        if name in types:
            return name
    if status.certificate:
        return "Issued"
    return "Approved" if "Approved" in types else "Pending"


def lifetime(request: CertificateSigningRequest) -> float:
    """Return for how many seconds the certificate is made."""
    wished = request.spec.expiration_seconds
    return LONGEST if wished is None else min(max(float(wished), SHORTEST), LONGEST)


KEPT = {"Pending": 86400.0, "Denied": 3600.0, "Failed": 3600.0, "Issued": 3600.0, "Approved": 3600.0}
"""Seconds after which a request is of no use any more, by state (cleaner.go in Kubernetes)."""


def since(request: CertificateSigningRequest) -> str:
    """Return the time a request's state began (RFC 3339)."""
    wanted = "Approved" if state(request.status) == "Issued" else state(request.status)
    for condition in request.status.conditions:
        if condition.type == wanted:
            return condition.last_update_time or request.metadata.creation_timestamp
    return request.metadata.creation_timestamp
