"""Aggregated ClusterRoles: their rules are those of the roles they choose (clusterroleaggregation in Kubernetes)."""

from collections.abc import Iterable

import msgspec

from edgekube.api.kinds import rbac_v1 as rbac
from edgekube.api.resource import Key, key_of
from edgekube.api.types import rbac_v1
from edgekube.control.reconcile import Controller
from edgekube.control.selectors import matches
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context

Role = rbac_v1.ClusterRole


def aggregated(role: Role, roles: Iterable[Role]) -> tuple[rbac_v1.PolicyRule, ...]:
    """Return the rules of all roles that any of the selectors chooses, by name, each rule once."""
    rule = role.aggregation_rule
    selectors = rule.cluster_role_selectors if rule else ()
    found: list[rbac_v1.PolicyRule] = []
    for other in sorted(roles, key=lambda r: r.metadata.name):
        if other.metadata.name == role.metadata.name:
            continue
        if any(matches(selector, other.metadata.labels) for selector in selectors):
            found += [one for one in other.rules if one not in found]
    return tuple(found)


class ClusterRoles:
    """Write the rules into roles that aggregate."""

    def __init__(self, context: Context) -> None:
        self.roles = context.informers.of(rbac.CLUSTER_ROLES)
        self._writer = Writer(context.client, self.roles)

    async def reconcile(self, key: Key) -> float | None:
        """Bring one role up to date."""
        role = self.roles.get(key)
        if role is None or role.aggregation_rule is None or role.metadata.deletion_timestamp:
            return None
        rules = aggregated(role, self.roles)
        if rules != role.rules:
            await self._writer.update(msgspec.structs.replace(role, rules=rules))
        return None

    def keys(self, _role: Role) -> list[Key]:
        """Return every role that aggregates: there are few."""
        return [key_of(role) for role in self.roles if role.aggregation_rule is not None]


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = ClusterRoles(context)
    controller = Controller("clusterrole-aggregation", logic)
    controller.watch(logic.roles, logic.keys)
    return controller
