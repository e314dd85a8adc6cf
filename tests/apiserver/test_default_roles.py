"""The roles and bindings of a new cluster."""

import pytest

from edgekube.apiserver.identity import User
from edgekube.apiserver.rbac import defaults
from edgekube.apiserver.rbac.notation import rules

RBAC = "/apis/rbac.authorization.k8s.io/v1"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


def test_a_line_is_a_rule():
    one, path = rules("READ core+apps pods,deployments/scale x,y\nget /metrics,/healthz/*")
    assert (one.verbs, one.api_groups) == (("get", "list", "watch"), ("", "apps"))
    assert (one.resources, one.resource_names) == (("pods", "deployments/scale"), ("x", "y"))
    assert (path.verbs, path.non_resource_urls) == (("get",), ("/metrics", "/healthz/*"))


def test_every_binding_has_its_role():
    names = {role.metadata.name for role in defaults.cluster_roles()}
    assert {binding.role_ref.name for binding in defaults.cluster_role_bindings()} <= names
    named = {(role.metadata.namespace, role.metadata.name) for role in defaults.roles()}
    bound = {(each.metadata.namespace, each.role_ref.name) for each in defaults.role_bindings()}
    assert bound == named
    assert len(names) == len(defaults.cluster_roles())


async def test_they_are_there_from_the_start(api):
    found = {each["metadata"]["name"] for each in (await api.get(f"{RBAC}/clusterroles"))["items"]}
    assert {"admin", "edit", "view", "system:node", "system:kube-scheduler", "system:monitoring"} <= found
    assert {"system:controller:deployment-controller", "system:auth-delegator", "system:coredns"} <= found
    await api.get(f"{RBAC}/namespaces/kube-system/roles/extension-apiserver-authentication-reader")
    await api.get(f"{RBAC}/namespaces/kube-public/rolebindings/system:controller:bootstrap-signer")


CASES = [
    ("view", "list apps statefulsets", True), ("view", "get core secrets", False), ("view", "create core pods", False),
    ("edit", "get core secrets", True), ("edit", "create batch cronjobs", True), ("edit", "watch core events", True),
    ("edit", "create rbac.authorization.k8s.io roles", False), ("edit", "delete networking.k8s.io ingresses", True),
    ("admin", "create rbac.authorization.k8s.io roles", True), ("admin", "create apps deployments", True),
    ("admin", "update core resourcequotas", False), ("admin", "patch policy poddisruptionbudgets", True),
    ("edit", "create core serviceaccounts/token", True), ("view", "get core pods/log", True),
]  # fmt: skip


@pytest.mark.parametrize(("role", "wish", "allowed"), CASES)
async def test_what_people_may(api, role, wish, allowed):
    ref = {"kind": "ClusterRole", "name": role, "apiGroup": "rbac.authorization.k8s.io"}
    subject = {"kind": "User", "name": "ann", "apiGroup": "rbac.authorization.k8s.io"}
    path = f"{RBAC}/namespaces/default/rolebindings"
    await api.post(path, {"metadata": {"name": "ann"}, "roleRef": ref, "subjects": [subject]})
    await api.get(path)
    assert await may(api, "ann", (), wish) is allowed


async def may(api, user, groups, wish):
    verb, group, resource = wish.split()
    plural, _, part = resource.partition("/")
    asked = {"verb": verb, "group": "" if group == "core" else group, "resource": plural}
    attributes = {**asked, "subresource": part, "namespace": "default"}
    review = {"spec": {"user": user, "groups": list(groups), "resourceAttributes": attributes}}
    return (await api.post(REVIEWS, review))["status"]["allowed"]


async def test_accounts_and_groups_of_the_system_have_theirs(api):
    account = "system:serviceaccount:kube-system:deployment-controller"
    assert await may(api, account, (), "create apps replicasets")
    assert not await may(api, account, (), "create core secrets")
    monitor = User("prometheus", ("system:monitoring", "system:authenticated"))
    assert (await api.send("GET", "/metrics", user=monitor)).code == 200
    joe = User("joe", ("system:authenticated",))
    assert (await api.send("GET", "/metrics", user=joe)).code == 403
