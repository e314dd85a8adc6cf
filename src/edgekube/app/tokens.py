"""
Join tokens: `edge1::<CA hash>::<id>.<secret>`.

The hash is the SHA-256 of the cluster CA's DER form, so a joining node knows it talks to the
right master before it has any certificate. `<id>.<secret>` is a Kubernetes bootstrap token, kept as
a Secret `bootstrap-token-<id>` in kube-system (Kubernetes docs, "Authenticating with Bootstrap Tokens").
"""

import re
import secrets
from dataclasses import dataclass

from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1
from edgekube.lib.errors import EdgekubeError

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
PATTERN = re.compile(r"edge1::([0-9a-f]{64})::([a-z0-9]{6})\.([a-z0-9]{16})")
SECRET_TYPE = "bootstrap.kubernetes.io/token"  # noqa: S105 - the type's name
GROUP = "system:bootstrappers"


class BadToken(EdgekubeError):
    """The text is no join token."""


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A join token's parts."""

    authority: str
    id: str
    secret: str

    def __str__(self) -> str:
        return f"edge1::{self.authority}::{self.bearer}"

    @property
    def bearer(self) -> str:
        """What goes into the Authorization header."""
        return f"{self.id}.{self.secret}"

    @property
    def key(self) -> Key:
        """The Secret's key."""
        return Key("kube-system", f"bootstrap-token-{self.id}")

    @classmethod
    def parse(cls, text: str) -> "JoinToken":
        """Read a token; raises BadToken."""
        match = PATTERN.fullmatch(text.strip())
        if match is None:
            raise BadToken("a join token looks like edge1::<64 hex digits>::<6 characters>.<16 characters>")
        return cls(*match.groups())

    @classmethod
    def new(cls, authority: str) -> "JoinToken":
        """Make a token with fresh secrets for the CA of that hash."""
        return cls(authority, *("".join(secrets.choice(ALPHABET) for _ in range(size)) for size in (6, 16)))


def secret_of(token: JoinToken, *, description: str, expiration: str = "") -> core_v1.Secret:
    """Return the Secret that makes the server honour `token` until `expiration` (RFC 3339; "": for ever)."""
    data = {
        "token-id": token.id,
        "token-secret": token.secret,
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "false",
        "description": description,
        "expiration": expiration,
    }
    return core_v1.Secret(
        metadata=meta_v1.ObjectMeta(namespace=token.key.namespace, name=token.key.name),
        type=SECRET_TYPE,
        string_data={name: value for name, value in data.items() if value},
    )
