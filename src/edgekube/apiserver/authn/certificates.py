"""X.509: a certificate of the cluster's CA names its holder (CN) and groups (O)."""

from edgekube.apiserver.authn.base import Credentials
from edgekube.apiserver.identity import User


class Certificates:
    """TLS has verified the chain already; this reads the subject."""

    async def authenticate(self, credentials: Credentials) -> User | None:
        """Return the subject as a user."""
        name, groups = "", []
        for rdn in credentials.certificate.get("subject", ()):
            for attribute, value in rdn:
                if attribute == "commonName":
                    name = value
                elif attribute == "organizationName":
                    groups.append(value)
        return User(name, tuple(groups)) if name else None
