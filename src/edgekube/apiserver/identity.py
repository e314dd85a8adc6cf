"""Who asks: the outcome of authentication (authentication.k8s.io/v1 UserInfo)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
SERVICE_ACCOUNTS = "system:serviceaccounts"
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class User:
    """A name and what comes with it."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def tree(self) -> dict[str, Any]:
        """Return the JSON form."""
        values = {
            "username": self.name,
            "uid": self.uid,
            "groups": list(self.groups),
            "extra": {name: list(items) for name, items in self.extra.items()},
        }
        return {name: value for name, value in values.items() if value}


ANONYMOUS = User("system:anonymous", (UNAUTHENTICATED,))


def authenticated(user: User) -> User:
    """Return `user` with the group every known user is in."""
    if AUTHENTICATED in user.groups:
        return user
    return User(user.name, (*user.groups, AUTHENTICATED), user.uid, user.extra)


def service_account(namespace: str, name: str, uid: str, extra: Mapping[str, Sequence[str]]) -> User:
    """Return the user that a ServiceAccount is."""
    groups = (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{namespace}", AUTHENTICATED)
    return User(f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}", groups, uid, extra)
