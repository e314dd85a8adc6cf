"""Default roles at a new start: what is missing comes back, what was added stays."""

import msgspec
import pytest

from edgekube.api.types.rbac_v1 import PolicyRule, Subject
from edgekube.apiserver.bootstrap import BootstrapConfig, bootstrap
from edgekube.apiserver.identity import User
from edgekube.apiserver.rbac import reconcile
from edgekube.apiserver.rbac.defaults import AUTO_UPDATE, cluster_role_bindings, cluster_roles
from edgekube.apiserver.rbac.rules import uncovered
from edgekube.client.typed import Client

ADMIN = User("admin", ("system:masters", "system:authenticated"))
OWN = PolicyRule(verbs=("get",), api_groups=("example.com",), resources=("things",))
replace = msgspec.structs.replace


def frozen(found):
    meta = replace(found.metadata, annotations={AUTO_UPDATE: "false"})
    return replace(found, metadata=meta)


@pytest.mark.parametrize(
    "wished", [role for role in cluster_roles() if role.rules], ids=lambda role: role.metadata.name
)
def test_roles_regain_their_rules(wished):
    found = replace(wished, rules=(OWN,))
    again = reconcile.role(found, wished)
    assert OWN in again.rules
    assert not uncovered(again.rules, wished.rules)
    assert reconcile.role(again, wished) is None
    assert reconcile.role(frozen(found), wished) is None


def test_bindings_regain_their_subjects():
    wished, own = cluster_role_bindings()[0], Subject(kind="User", name="ann")
    found = replace(wished, subjects=(own,))
    assert reconcile.binding(found, wished).subjects == (own, *wished.subjects)
    assert reconcile.binding(wished, wished) is None
    assert reconcile.binding(frozen(found), wished) is None


async def test_a_new_start_writes_it(api):
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:discovery"
    role = await api.get(path)
    await api.put(path, {**role, "rules": []})
    await bootstrap(Client(api.server.local(ADMIN)), BootstrapConfig(address="192.0.2.1"))
    assert (await api.get(path))["rules"], "its rules are back"
