"""Bringing default roles and bindings up to date at start; what administrators added stays. Pure."""

from typing import TypeVar

import msgspec

from edgekube.api.types.rbac_v1 import ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject
from edgekube.apiserver.rbac.defaults import AUTO_UPDATE
from edgekube.apiserver.rbac.rules import uncovered

R = TypeVar("R", ClusterRole, Role)
B = TypeVar("B", ClusterRoleBinding, RoleBinding)


def role(found: R, wished: R) -> R | None:
    """Return `found` with the permissions of `wished` it lacks; None: it is to stay as it is."""
    missing: tuple[PolicyRule, ...] = (
        () if _left_alone(found) else tuple(uncovered(found.rules, wished.rules))
    )
    return msgspec.structs.replace(found, rules=(*found.rules, *missing)) if missing else None


def binding(found: B, wished: B) -> B | None:
    """Return `found` with the subjects of `wished` it lacks; None: it is to stay as it is."""
    if _left_alone(found) or found.role_ref != wished.role_ref:
        return None
    missing: tuple[Subject, ...] = tuple(
        subject for subject in wished.subjects if subject not in found.subjects
    )
    return msgspec.structs.replace(found, subjects=(*found.subjects, *missing)) if missing else None


def _left_alone(found: ClusterRole | ClusterRoleBinding | Role | RoleBinding) -> bool:
    return found.metadata.annotations.get(AUTO_UPDATE) == "false"
