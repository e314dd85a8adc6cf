"""The join desk: the server's side of a node joining, two extra routes of the API server."""

import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from edgekube.api.errors import BadRequest, Forbidden
from edgekube.app.membership import ClusterFacts, JoinAnswer, JoinRequest
from edgekube.app.tokens import GROUP
from edgekube.lib import pki

log = logging.getLogger(__name__)

NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
RESERVED = frozenset({"hub", "dashboard"})
"""Names the broker knows as somebody else."""
NODES = "system:nodes"


@dataclass(frozen=True, slots=True)
class JoinDesk:
    """Signs the certificates of nodes that bring a bootstrap token."""

    authority: pki.KeyPair
    facts: ClusterFacts

    def admit(self, body: bytes, groups: tuple[str, ...]) -> JoinAnswer:
        """Answer an application; raises Forbidden, BadRequest."""
        if GROUP not in groups:
            raise Forbidden(
                "joining needs a bootstrap token: `edgekube token create` on the server prints one"
            )
        try:
            wish = msgspec.json.decode(body, type=JoinRequest)
        except msgspec.DecodeError as error:
            raise BadRequest(f"join request: {error}") from error
        if NAME.fullmatch(wish.node_name) is None or wish.node_name in RESERVED:
            raise BadRequest(
                f'join request: nodeName: Invalid value: "{wish.node_name}": must be a free RFC 1123 subdomain'
            )
        subject = pki.Subject(name=wish.node_name, organizations=(NODES,))
        try:
            certificate = pki.sign_request(self.authority, wish.csr.encode(), subject, datetime.now(UTC))
        except pki.BadCertificateRequest as error:
            raise BadRequest(f"join request: csr: {error}") from error
        log.info("node %s joined", wish.node_name)
        return JoinAnswer(certificate.decode(), self.authority.certificate.decode(), self.facts)
