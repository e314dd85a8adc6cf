"""Aggregated ClusterRoles show the rules they stand for."""

from edgekube.api.kinds import rbac_v1 as rbac
from edgekube.api.resource import Key
from edgekube.api.types import meta_v1, rbac_v1

LABEL = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}


async def test_a_role_of_roles(world):
    rule = rbac_v1.PolicyRule(api_groups=("example.com",), resources=("widgets",), verbs=("get", "list"))
    meta = meta_v1.ObjectMeta(name="widgets-view", labels=LABEL)
    await world.client.create(rbac.CLUSTER_ROLES, rbac_v1.ClusterRole(metadata=meta, rules=(rule,)))

    async def seen(wanted):
        view = await world.client.get(rbac.CLUSTER_ROLES, Key("", "view"))
        return (rule in view.rules) == wanted

    await world.eventually(lambda: seen(True))
    await world.client.delete(rbac.CLUSTER_ROLES, Key("", "widgets-view"))
    await world.eventually(lambda: seen(False))
