"""Bearer tokens that are not JWTs: static ones from the configuration, and bootstrap tokens."""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from datetime import datetime

from edgekube.api.kinds.core_v1 import SECRETS
from edgekube.api.resource import Key
from edgekube.apiserver.admission.base import Objects
from edgekube.apiserver.authn.base import Credentials
from edgekube.apiserver.identity import User
from edgekube.apiserver.registry.meta import parse
from edgekube.apiserver.request import Tree

BOOTSTRAP = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
BOOTSTRAP_TYPE = "bootstrap.kubernetes.io/token"
BOOTSTRAPPERS = "system:bootstrappers"


class StaticTokens:
    """Tokens given at start; compared by digest, so that timing tells nothing."""

    def __init__(self, users: Mapping[str, User]) -> None:
        self._users = {_digest(token): user for token, user in users.items()}

    async def authenticate(self, credentials: Credentials) -> User | None:
        """Return the token's user."""
        return self._users.get(_digest(credentials.token)) if credentials.token else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class BootstrapTokens:
    """`<id>.<secret>` kept in Secrets of kube-system (Kubernetes docs, "Bootstrap Tokens")."""

    def __init__(self, objects: Objects, now: Callable[[], datetime]) -> None:
        self._objects = objects
        self._now = now

    async def authenticate(self, credentials: Credentials) -> User | None:
        """Return `system:bootstrap:<id>` for a token that is known, enabled and not expired."""
        match = BOOTSTRAP.fullmatch(credentials.token)
        if match is None:
            return None
        name, secret = match.groups()
        found = await self._objects.find(SECRETS, Key("kube-system", f"bootstrap-token-{name}"))
        if found is None or found.get("type") != BOOTSTRAP_TYPE or "deletionTimestamp" in found["metadata"]:
            return None
        data = _decoded(found)
        if not hmac.compare_digest(data.get("token-secret", "").encode(), secret.encode()):
            return None
        if data.get("usage-bootstrap-authentication") != "true" or self._expired(data.get("expiration", "")):
            return None
        extra = tuple(group for group in data.get("auth-extra-groups", "").split(",") if group)
        return User(f"system:bootstrap:{name}", (BOOTSTRAPPERS, *extra))

    def _expired(self, expiration: str) -> bool:
        if not expiration:
            return False
        try:
            return parse(expiration) <= self._now()
        except (ValueError, TypeError):
            return True


def _decoded(secret: Tree) -> dict[str, str]:
    return {
        name: base64.b64decode(value).decode(errors="replace")
        for name, value in (secret.get("data") or {}).items()
    }
