"""The RBAC authorizer: bindings by subject, read from the watch caches and kept until one of them changes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from edgekube.api.kinds.rbac_v1 import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, RESOURCES, ROLE_BINDINGS, ROLES
from edgekube.api.resource import AnyResource
from edgekube.api.selectors import label_matcher
from edgekube.api.types.rbac_v1 import (
    ClusterRole,
    ClusterRoleBinding,
    PolicyRule,
    Role,
    RoleBinding,
    RoleRef,
    Subject,
)
from edgekube.apiserver.authz import Access
from edgekube.apiserver.caches import Caches
from edgekube.apiserver.identity import SERVICE_ACCOUNT_PREFIX, User
from edgekube.apiserver.rbac.rules import allows

Rules = tuple[PolicyRule, ...]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Grant:
    """Rules for a subject in one namespace, or everywhere ("")."""

    namespace: str
    rules: Rules


@dataclass(slots=True)
class Grants:
    """Who was granted what: keys are `("User", name)` and `("Group", name)`."""

    by_subject: dict[tuple[str, str], list[Grant]] = field(default_factory=dict)

    def of(self, user: User, namespace: str) -> Iterator[PolicyRule]:
        """Yield the rules that hold for `user` in `namespace` ("": only those that hold everywhere)."""
        for subject in (("User", user.name), *(("Group", group) for group in user.groups)):
            for grant in self.by_subject.get(subject, ()):
                if grant.namespace in {"", namespace}:
                    yield from grant.rules


class Rbac:
    """An Authorizer, and what it is asked besides."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches
        self._seen: tuple[int, ...] = ()
        self._grants = Grants()

    def allows(self, user: User, access: Access) -> bool | None:
        """Return yes, or None: RBAC has no refusals."""
        return (
            True if any(allows(rule, access) for rule in self._current().of(user, access.namespace)) else None
        )

    def rules(self, user: User, namespace: str) -> list[PolicyRule]:
        """Return every rule that holds for `user` in `namespace`."""
        return list(self._current().of(user, namespace))

    def role(self, ref: RoleRef, namespace: str) -> Rules:
        """Return the rules of the role that a binding in `namespace` refers to."""
        return self._roles().get((ref.kind, namespace if ref.kind == "Role" else "", ref.name), ())

    def _current(self) -> Grants:
        seen = tuple(self._caches.of(row).revision for row in RESOURCES)
        if seen != self._seen:
            self._grants, self._seen = self._build(), seen
        return self._grants

    def _build(self) -> Grants:
        roles, grants = self._roles(), Grants()
        bindings: list[ClusterRoleBinding | RoleBinding] = [
            *self._objects(CLUSTER_ROLE_BINDINGS, ClusterRoleBinding),
            *self._objects(ROLE_BINDINGS, RoleBinding),
        ]
        for binding in bindings:
            namespace, ref = binding.metadata.namespace, binding.role_ref
            rules = roles.get((ref.kind, namespace if ref.kind == "Role" else "", ref.name))
            for subject in binding.subjects if rules else ():
                grants.by_subject.setdefault(_subject(subject, namespace), []).append(
                    Grant(namespace, rules or ())
                )
        return grants

    def _roles(self) -> dict[tuple[str, str, str], Rules]:
        cluster = list(self._objects(CLUSTER_ROLES, ClusterRole))
        found = {("ClusterRole", "", role.metadata.name): _aggregated(role, cluster) for role in cluster}
        for role in self._objects(ROLES, Role):
            found["Role", role.metadata.namespace, role.metadata.name] = role.rules
        return found

    def _objects(self, row: AnyResource, kind: type[T]) -> Iterator[T]:
        for entry in self._caches.of(row).page().entries:
            yield msgspec.json.decode(entry.raw, type=kind)


def _aggregated(
    role: ClusterRole, others: Sequence[ClusterRole], above: frozenset[str] = frozenset()
) -> Rules:
    """Return a role's rules; of an aggregated one, those of all roles its selectors choose, however deep."""
    if role.aggregation_rule is None:
        return role.rules
    above |= {role.metadata.name}
    matchers = [label_matcher(selector) for selector in role.aggregation_rule.cluster_role_selectors]
    chosen = (
        other
        for other in others
        if other.metadata.name not in above
        and any(matcher.matches(other.metadata.labels) for matcher in matchers)
    )
    return tuple(rule for other in chosen for rule in _aggregated(other, others, above))


def _subject(subject: Subject, namespace: str) -> tuple[str, str]:
    if subject.kind == "ServiceAccount":
        return "User", f"{SERVICE_ACCOUNT_PREFIX}{subject.namespace or namespace}:{subject.name}"
    return subject.kind, subject.name
