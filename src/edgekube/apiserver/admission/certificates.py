"""Who asks for certificates, who may approve them and who may sign them (Kubernetes docs, "Certificates and CSRs")."""

import base64

from edgekube.api.errors import Forbidden
from edgekube.apiserver.admission.base import Attributes
from edgekube.apiserver.authz import Access, Authorization
from edgekube.apiserver.identity import MASTERS, User
from edgekube.apiserver.request import Tree

GROUP = "certificates.k8s.io"
REQUESTS = frozenset({f"certificatesigningrequests.{GROUP}"})
CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"
IDENTITY = {"username": "username", "uid": "uid", "groups": "groups", "extra": "extra"}
"""Fields of spec by the fields of UserInfo that the server itself writes into them."""


class CertificateRequests:
    """
    Plug-ins CertificateApproval, CertificateSigning and CertificateSubjectRestriction in one.

    It also writes into a new request who made it: signers rely on that, so no client may say it.
    """

    verbs = frozenset({"create", "update"})
    resources = REQUESTS

    def __init__(self, authorization: Authorization) -> None:
        self._authorization = authorization

    async def admit(self, attributes: Attributes) -> None:
        """Refuse what the writer has no right to; raises Forbidden."""
        if attributes.verb == "create":
            _identify(attributes.obj.setdefault("spec", {}), attributes.user)
            _check_subject(attributes)
            return
        old, signer = attributes.old or {}, attributes.obj["spec"].get("signerName", "")
        part = attributes.target.subresource
        if part == "approval" and not self._may(attributes.user, "approve", signer):
            raise attributes.forbid(f'user not permitted to approve requests with signerName "{signer}"')
        if (
            part == "status"
            and _signs(attributes.obj, old)
            and not self._may(attributes.user, "sign", signer)
        ):
            raise attributes.forbid(f'user not permitted to sign requests with signerName "{signer}"')

    def _may(self, user: User, verb: str, signer: str) -> bool:
        """Whether `user` has the right on the signer, or on all of its domain."""
        names = (signer, f"{signer.partition('/')[0]}/*")
        return any(
            self._authorization.allows(user, Access(verb=verb, group=GROUP, plural="signers", name=name))
            for name in names
        )


def _identify(spec: Tree, user: User) -> None:
    info = user.tree()
    for theirs, ours in IDENTITY.items():
        spec.pop(ours, None)
        if theirs in info:
            spec[ours] = info[theirs]


def _signs(new: Tree, old: Tree) -> bool:
    """Whether a write to status is what only a signer does: a certificate, or the word that it failed."""
    after, before = new.get("status") or {}, old.get("status") or {}
    return after.get("certificate") != before.get("certificate") or _failed(after) != _failed(before)


def _failed(status: Tree) -> bool:
    return any(condition.get("type") == "Failed" for condition in status.get("conditions") or ())


def _check_subject(attributes: Attributes) -> None:
    """Refuse client certificates that would make their holder a master."""
    spec = attributes.obj["spec"]
    if spec.get("signerName") == CLIENT_SIGNER and MASTERS in _organizations(spec.get("request") or ""):
        raise _masters(attributes)


def _masters(attributes: Attributes) -> Forbidden:
    return attributes.forbid(f"use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed")


def _organizations(request: str) -> set[str]:
    """Return the groups a request's subject names; none for a request that cannot be read, which is invalid anyway."""
    from cryptography import x509  # noqa: PLC0415 - large, and rarely needed
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    try:
        csr = x509.load_pem_x509_csr(base64.b64decode(request))
    except ValueError:
        return set()
    return {str(each.value) for each in csr.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)}
