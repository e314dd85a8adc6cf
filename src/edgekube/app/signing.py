"""How the cluster's CA signs what the certificates API approved."""

from collections.abc import Sequence
from datetime import UTC, datetime

from edgekube.controllers.context import Sign
from edgekube.lib import pki, x509


def signer(authority: pki.KeyPair) -> Sign:
    """Return what signs with `authority`."""

    def sign(request: str, usages: Sequence[str], seconds: float) -> bytes:
        return x509.sign_request(
            authority.certificate,
            authority.key,
            request,
            usages=usages,
            now=datetime.now(UTC),
            seconds=seconds,
        )

    return sign
