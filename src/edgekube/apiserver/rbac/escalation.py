"""Nobody may give rights they do not have (Kubernetes docs, "Privilege escalation prevention and bootstrapping")."""

import msgspec

from edgekube.api.kinds.rbac_v1 import GROUP
from edgekube.api.types.rbac_v1 import PolicyRule, RoleRef
from edgekube.apiserver.admission.base import Attributes
from edgekube.apiserver.authz import Access, Authorization
from edgekube.apiserver.rbac.authorizer import Rbac
from edgekube.apiserver.rbac.rules import describe, uncovered

ROLE_KINDS = frozenset({f"roles.{GROUP}", f"clusterroles.{GROUP}"})
BINDING_KINDS = frozenset({f"rolebindings.{GROUP}", f"clusterrolebindings.{GROUP}"})
VERBS = {True: "escalate", False: "bind"}
"""The verb on the role that allows it all the same: by whether a role itself is written."""


class EscalationCheck:
    """An admission plug-in over roles and bindings."""

    verbs = frozenset({"create", "update"})
    resources = ROLE_KINDS | BINDING_KINDS

    def __init__(self, rbac: Rbac, authorization: Authorization) -> None:
        self._rbac = rbac
        self._authorization = authorization

    async def admit(self, attributes: Attributes) -> None:
        """Compare what is given with what the giver has."""
        target, obj, user = attributes.target, attributes.obj, attributes.user
        is_role = target.row.group_resource in ROLE_KINDS
        ref = RoleRef(api_group=GROUP, kind="", name="")
        if is_role:
            wanted = msgspec.convert(obj.get("rules") or (), tuple[PolicyRule, ...])
            plural, name = target.row.plural, obj["metadata"].get("name", "")
        else:
            ref = msgspec.convert(obj["roleRef"], RoleRef)
            wanted = self._rbac.role(ref, target.namespace)
            plural, name = f"{ref.kind.lower()}s", ref.name
        asked = Access(verb=VERBS[is_role], group=GROUP, plural=plural, namespace=target.namespace, name=name)
        everything = Access(verb="*", group="*", plural="*")
        if any(self._authorization.allows(user, access) for access in (everything, asked)):
            return
        missing = uncovered(self._rbac.rules(user, target.namespace), wanted)
        if missing:
            listed = "\n".join(map(describe, missing))
            raise attributes.forbid(
                f'user "{user.name}" (groups={list(user.groups)}) is attempting to grant RBAC permissions not currently held:\n{listed}'
            )
