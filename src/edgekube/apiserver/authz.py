"""
Authorization: who may do what.

A chain of authorizers; the first with an opinion wins, and nobody's opinion is a no.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgekube.api.errors import Forbidden
from edgekube.apiserver.identity import AUTHENTICATED, MASTERS, User


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One thing somebody wants to do: to a resource, or, when `plural` is "", to a path."""

    verb: str
    group: str = ""
    plural: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    fields: str = ""
    """The field selector of a list, watch or deletecollection."""

    def selected(self, label: str) -> str:
        """Return the one value that a field must have to be selected; "" when it may have others."""
        for term in self.fields.split(","):
            name, equals, value = term.partition("=")
            if equals and name.strip() == label:
                return value.removeprefix("=").strip()
        return ""

    def __str__(self) -> str:
        if not self.plural:
            return f'{self.verb} path "{self.path}"'
        resource = f"{self.plural}/{self.subresource}" if self.subresource else self.plural
        where = f'in the namespace "{self.namespace}"' if self.namespace else "at the cluster scope"
        return f'{self.verb} resource "{resource}" in API group "{self.group}" {where}'


class Authorizer(Protocol):
    """One source of rights."""

    def allows(self, user: User, access: Access) -> bool | None:
        """Return yes, no, or None: no opinion."""
        ...


PUBLIC_PATHS = ("/healthz", "/livez", "/readyz", "/version")
DISCOVERY_PATHS = (*PUBLIC_PATHS, "/api", "/apis", "/openapi")
SELF_REVIEWS: Mapping[str, frozenset[str]] = {
    "authentication.k8s.io": frozenset({"selfsubjectreviews"}),
    "authorization.k8s.io": frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews"}),
}


def _under(path: str, roots: Sequence[str]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)


def _public(_user: User, access: Access) -> bool:
    return access.verb == "get" and not access.plural and _under(access.path, PUBLIC_PATHS)


def _discovery(user: User, access: Access) -> bool:
    known = AUTHENTICATED in user.groups
    return known and access.verb == "get" and not access.plural and _under(access.path, DISCOVERY_PATHS)


def _about_oneself(user: User, access: Access) -> bool:
    known = AUTHENTICATED in user.groups
    return known and access.verb == "create" and access.plural in SELF_REVIEWS.get(access.group, ())


def _master(user: User, _access: Access) -> bool:
    return MASTERS in user.groups


RULES: tuple[Callable[[User, Access], bool], ...] = (_master, _public, _discovery, _about_oneself)


class BuiltIn:
    """Rights nobody needs to be given, as a table; `trusted` are the control plane's own users."""

    def __init__(self, trusted: frozenset[str] = frozenset()) -> None:
        self._trusted = trusted

    def allows(self, user: User, access: Access) -> bool | None:
        """Return yes or None."""
        if user.name in self._trusted or any(rule(user, access) for rule in RULES):
            return True
        return None


class Authorization:
    """The authorizers in order."""

    def __init__(self, authorizers: Sequence[Authorizer]) -> None:
        self._authorizers = tuple(authorizers)

    def allows(self, user: User, access: Access) -> bool:
        """Whether `user` may."""
        for authorizer in self._authorizers:
            opinion = authorizer.allows(user, access)
            if opinion is not None:
                return opinion
        return False

    def require(self, user: User, access: Access) -> None:
        """Raise Forbidden unless `user` may."""
        if not self.allows(user, access):
            raise forbidden(user, access)


def forbidden(user: User, access: Access) -> Forbidden:
    """Return the refusal as Kubernetes words it."""
    resource = f"{access.plural}.{access.group}" if access.group else access.plural
    subject = f'{resource} "{access.name}" is forbidden' if access.name else f"{resource} is forbidden"
    why = f'User "{user.name}" cannot {access}'
    return Forbidden(
        f"{subject if access.plural else 'forbidden'}: {why}",
        group=access.group, kind=access.plural, name=access.name,
    )  # fmt: skip
