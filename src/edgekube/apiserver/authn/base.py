"""Authentication: the chain that turns credentials into a user."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgekube.api.errors import Unauthorized
from edgekube.apiserver.identity import ANONYMOUS, User, authenticated

BEARER = "bearer "
PROTOCOLS = "sec-websocket-protocol"
SUBPROTOCOL = "base64url.bearer.authorization.k8s.io."


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a connection and a request bring: `certificate` is what ssl's getpeercert returns."""

    token: str = ""
    certificate: Mapping[str, Any] = field(default_factory=dict)


class Authenticator(Protocol):
    """One way to know somebody."""

    async def authenticate(self, credentials: Credentials) -> User | None:
        """Return the user; None when these credentials are not this authenticator's to judge."""
        ...


def credentials_of(headers: Mapping[str, str], certificate: Mapping[str, Any] | None) -> Credentials:
    """Collect a request's credentials (header names in lower case)."""
    header = headers.get("authorization", "")
    token = header[len(BEARER) :].strip() if header[: len(BEARER)].lower() == BEARER else ""
    if not token and PROTOCOLS in headers:
        token = _websocket_token(headers[PROTOCOLS])
    return Credentials(token=token, certificate=certificate or {})


def _websocket_token(header: str) -> str:
    """Return the token a browser sends as a subprotocol, since it cannot set headers; "" without one."""
    for name in header.replace("\n", ",").split(","):
        if (text := name.strip()).startswith(SUBPROTOCOL):
            encoded = text.removeprefix(SUBPROTOCOL)
            try:
                return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
            except ValueError as error:
                raise Unauthorized("Unauthorized") from error
    return ""


class Authentication:
    """The authenticators in order; the first that knows the caller wins."""

    def __init__(self, authenticators: Sequence[Authenticator], *, anonymous: bool = True) -> None:
        self._anonymous = anonymous
        self._authenticators = tuple(authenticators)

    async def user_of(self, credentials: Credentials) -> User:
        """Return who it is; whoever has no credentials is anonymous, if that is allowed. Raises Unauthorized."""
        for authenticator in self._authenticators:
            user = await authenticator.authenticate(credentials)
            if user is not None:
                return authenticated(user)
        if credentials.token or not self._anonymous:
            raise Unauthorized("Unauthorized")
        return ANONYMOUS
