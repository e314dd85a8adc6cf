"""Acting as somebody else (Kubernetes docs, "User impersonation"): every part of who it is needs its own right."""

from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from edgekube.api.errors import InternalError
from edgekube.apiserver.authz import Access, Authorization
from edgekube.apiserver.identity import (
    ANONYMOUS,
    AUTHENTICATED,
    SERVICE_ACCOUNT_PREFIX,
    SERVICE_ACCOUNTS,
    UNAUTHENTICATED,
    User,
)

USER, GROUP, UID, EXTRA = "impersonate-user", "impersonate-group", "impersonate-uid", "impersonate-extra-"
REVIEWS = "authentication.k8s.io"
VERB = "impersonate"


def impersonating(headers: Mapping[str, str]) -> bool:
    """Tell whether a request asks to be somebody else; header names are in lower case."""
    return any(name.startswith("impersonate-") for name in headers)


def impersonated(user: User, headers: Mapping[str, str], authorization: Authorization) -> User:
    """
    Return whom `user` wants to be; of repeated headers `headers` has lines.

    Raises Forbidden for what `user` may not be, and InternalError, as Kubernetes does, when
    groups, a uid or extras come without a user.
    """
    name, uid = headers.get(USER, ""), headers.get(UID, "")
    groups = tuple(part for part in headers.get(GROUP, "").split("\n") if part)
    extra = {
        unquote(header.removeprefix(EXTRA)): tuple(value.split("\n"))
        for header, value in headers.items()
        if header.startswith(EXTRA)
    }
    if not name:
        if groups or uid or extra:
            raise InternalError("requested impersonation without impersonating a user")
        return user
    wished = User(name, groups, uid, extra)
    for access in _needed(wished):
        authorization.require(user, access)
    return User(name, _groups(wished), uid, extra)


def _account(name: str) -> tuple[str, str]:
    """Return namespace and name if a user's name is a ServiceAccount's, else two empty strings."""
    namespace, colon, account = name.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
    return (namespace, account) if name.startswith(SERVICE_ACCOUNT_PREFIX) and colon else ("", "")


def _needed(wished: User) -> Iterator[Access]:
    namespace, account = _account(wished.name)
    if account:
        yield Access(verb=VERB, plural="serviceaccounts", namespace=namespace, name=account)
    else:
        yield Access(verb=VERB, plural="users", name=wished.name)
    for group in wished.groups:
        yield Access(verb=VERB, plural="groups", name=group)
    if wished.uid:
        yield Access(verb=VERB, group=REVIEWS, plural="uids", name=wished.uid)
    for key, values in wished.extra.items():
        for value in values:
            yield Access(verb=VERB, group=REVIEWS, plural="userextras", subresource=key, name=value)


def _groups(wished: User) -> tuple[str, ...]:
    """Return the groups that whoever it is has, with those that come by themselves."""
    namespace, account = _account(wished.name)
    groups = wished.groups
    if account and not groups:
        groups = (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{namespace}")
    if {AUTHENTICATED, UNAUTHENTICATED} & set(groups):
        return groups
    return (*groups, UNAUTHENTICATED if wished.name == ANONYMOUS.name else AUTHENTICATED)
