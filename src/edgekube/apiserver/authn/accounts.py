"""ServiceAccount tokens: made by TokenRequest, bound to an account and often to a pod (KEP-1205)."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from edgekube.api.kinds.core_v1 import NODES, PODS, SECRETS, SERVICE_ACCOUNTS
from edgekube.api.resource import AnyResource, Key
from edgekube.apiserver.admission.base import Objects
from edgekube.apiserver.authn import jwt
from edgekube.apiserver.authn.base import Credentials
from edgekube.apiserver.identity import User, service_account

PRIVATE = "kubernetes.io"
BOUND: Mapping[str, AnyResource] = {"pod": PODS, "secret": SECRETS, "node": NODES}
"""Objects besides the account whose end is the token's end, by their claim."""
TOLD = frozenset({"pod", "node"})
"""Bound objects that the user's extra names."""
REMEMBERED = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenConfig:
    """`key` is a PEM P-256 private key."""

    key: bytes
    issuer: str
    audiences: tuple[str, ...]


class ServiceAccountTokens:
    """Makes tokens and knows them again; verified signatures are remembered by digest."""

    def __init__(self, config: TokenConfig, objects: Objects, now: Callable[[], datetime]) -> None:
        self.config = config
        self._objects = objects
        self._now = now
        self._signer = jwt.Signer(config.key)
        self._verified: dict[bytes, dict[str, Any]] = {}

    def issue(
        self, namespace: str, account: Mapping[str, str], *, seconds: int, audiences: Sequence[str] = (),
        bound: Mapping[str, Mapping[str, str]] | None = None,
    ) -> str:  # fmt: skip
        """Return a token of `account` (name, uid), valid for `seconds`; `bound` is e.g. {"pod": {name, uid}}."""
        now = int(self._now().timestamp())
        claims = {
            "aud": list(audiences or self.config.audiences),
            "exp": now + seconds,
            "iat": now,
            "iss": self.config.issuer,
            PRIVATE: {"namespace": namespace, "serviceaccount": dict(account), **(bound or {})},
            "nbf": now,
            "sub": f"system:serviceaccount:{namespace}:{account['name']}",
        }
        return self._signer.sign(claims)

    def expiry(self, seconds: int) -> datetime:
        """Return when a token issued now, for so long, ends."""
        return self._now() + timedelta(seconds=seconds)

    async def authenticate(self, credentials: Credentials) -> User | None:
        """Return the account as a user."""
        if not jwt.looks_like(credentials.token):
            return None
        return await self.user_of(credentials.token, self.config.audiences)

    async def user_of(self, token: str, audiences: Sequence[str]) -> User | None:
        """Return the account if the token is ours, is for one of `audiences`, and is valid now."""
        claims = self._claims(token)
        if claims is None or not _current(claims, self.config.issuer, audiences, self._now().timestamp()):
            return None
        private = claims[PRIVATE]
        namespace, account = private["namespace"], private["serviceaccount"]
        if not await self._lives(SERVICE_ACCOUNTS, namespace, account):
            return None
        extra: dict[str, Sequence[str]] = {}
        for kind, row in BOUND.items():
            if (reference := private.get(kind)) is None:
                continue
            if not await self._lives(row, namespace if row.namespaced else "", reference):
                return None
            if kind not in TOLD:
                continue
            extra[f"authentication.kubernetes.io/{kind}-name"] = (reference["name"],)
            extra[f"authentication.kubernetes.io/{kind}-uid"] = (reference["uid"],)
        return service_account(namespace, account["name"], account["uid"], extra)

    def audiences(self, token: str, wanted: Sequence[str]) -> list[str]:
        """Return those of `wanted` that a token of ours is for."""
        claims = self._claims(token) or {}
        return [audience for audience in wanted if audience in claims.get("aud", ())]

    def public_keys(self) -> list[dict[str, str]]:
        """Return the keys that verify our tokens, as JSON Web Keys."""
        return [self._signer.public()]

    async def _lives(self, row: AnyResource, namespace: str, reference: Mapping[str, str]) -> bool:
        found = await self._objects.find(row, Key(namespace, reference["name"]))
        return found is not None and found["metadata"]["uid"] == reference["uid"]

    def _claims(self, token: str) -> dict[str, Any] | None:
        digest = hashlib.sha256(token.encode()).digest()
        claims = self._verified.get(digest)
        if claims is None:
            try:
                claims = self._signer.verify(token)
            except jwt.BadToken:
                return None
            if len(self._verified) >= REMEMBERED:
                self._verified.clear()
            self._verified[digest] = claims
        return claims


def _current(claims: Mapping[str, Any], issuer: str, audiences: Sequence[str], now: float) -> bool:
    return (
        claims.get("iss") == issuer
        and bool(set(claims.get("aud", ())) & set(audiences))
        and claims.get("nbf", 0) <= now < claims.get("exp", 0)
        and PRIVATE in claims
    )
