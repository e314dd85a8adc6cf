"""RBAC: who was granted what, escalation, and the rules a person may list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.errors import Forbidden, Invalid
from edgekube.api.kinds.core_v1 import CONFIG_MAPS, NAMESPACES, POD_TEMPLATES, PODS
from edgekube.api.kinds.rbac_v1 import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, GROUP, ROLE_BINDINGS, ROLES
from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1
from edgekube.api.types.rbac_v1 import (
    AggregationRule,
    ClusterRole,
    ClusterRoleBinding,
    PolicyRule,
    Role,
    RoleBinding,
    RoleRef,
    Subject,
)
from edgekube.apiserver.authz import Access
from edgekube.apiserver.identity import User, authenticated, service_account
from edgekube.apiserver.rbac.rules import allows, uncovered
from edgekube.client.typed import Client

JOE = authenticated(User("joe"))
words = st.sampled_from(["get", "list", "create"])
rules = st.builds(
    PolicyRule,
    verbs=st.lists(st.sampled_from(["get", "list", "*"]), min_size=1, max_size=2).map(tuple),
    api_groups=st.lists(st.sampled_from(["", "apps", "*"]), min_size=1, max_size=2).map(tuple),
    resources=st.lists(st.sampled_from(["pods", "pods/log", "*/log", "*"]), min_size=1, max_size=2).map(
        tuple
    ),
    resource_names=st.lists(st.sampled_from(["a", "b"]), max_size=1).map(tuple),
)
accesses = st.builds(
    Access, verb=words, group=st.sampled_from(["", "apps"]), plural=st.just("pods"),
    subresource=st.sampled_from(["", "log"]), name=st.sampled_from(["a", "b", "c"]),
)  # fmt: skip


def meta(name, namespace=""):
    return meta_v1.ObjectMeta(name=name, namespace=namespace)


def rule(*verbs, resources=("configmaps",), groups=("",), names=()):
    return PolicyRule(verbs=verbs, api_groups=groups, resources=resources, resource_names=names)


def ref(name, kind="ClusterRole"):
    return RoleRef(api_group=GROUP, kind=kind, name=name)


@pytest.mark.parametrize(
    ("given_rule", "access", "answer"),
    [
        (rule("get"), Access(verb="get", plural="configmaps"), True),
        (rule("get"), Access(verb="list", plural="configmaps"), False),
        (rule("*"), Access(verb="delete", plural="configmaps"), True),
        (rule("get", groups=("apps",)), Access(verb="get", plural="configmaps"), False),
        (rule("get", names=("a",)), Access(verb="get", plural="configmaps", name="a"), True),
        (rule("list", names=("a",)), Access(verb="list", plural="configmaps"), False),
        (rule("get", resources=("pods",)), Access(verb="get", plural="pods", subresource="log"), False),
        (rule("get", resources=("pods/log",)), Access(verb="get", plural="pods", subresource="log"), True),
        (rule("get", resources=("*/log",)), Access(verb="get", plural="pods", subresource="log"), True),
        (rule("get", resources=("*",)), Access(verb="get", plural="pods", subresource="log"), True),
        (
            PolicyRule(verbs=("get",), non_resource_urls=("/metrics",)),
            Access(verb="get", path="/metrics"),
            True,
        ),
        (
            PolicyRule(verbs=("get",), non_resource_urls=("/apis/*",)),
            Access(verb="get", path="/apis/apps"),
            True,
        ),
        (PolicyRule(verbs=("get",), non_resource_urls=("/apis/*",)), Access(verb="get", path="/api"), False),
        (rule("get", resources=("*",)), Access(verb="get", path="/api"), False),
    ],
)
def test_what_a_rule_allows(given_rule, access, answer):
    assert allows(given_rule, access) is answer


@given(owned=st.lists(rules, max_size=3), wanted=rules, access=accesses)
def test_what_is_covered_allows_nothing_new(owned, wanted, access):
    if not uncovered(owned, [wanted]) and allows(wanted, access):
        assert any(allows(own, access) for own in owned)


@given(owned=st.lists(rules, min_size=1, max_size=3))
def test_what_one_has_is_covered(owned):
    assert uncovered(owned, owned) == []


@pytest.fixture
def joe(api_server):
    return Client(api_server.local(JOE))


async def seen(client):
    """Wait until the server's caches show all roles and bindings: grants hold from then on, as in Kubernetes."""
    for row in (ROLES, ROLE_BINDINGS, CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS):
        await client.list(row)


async def grant(client, user, role, *, namespace=""):
    subject = Subject(kind="User", name=user, api_group=GROUP)
    if namespace:
        binding = RoleBinding(
            metadata=meta(f"{user}-{role}", namespace), role_ref=ref(role), subjects=(subject,)
        )
        await client.create(ROLE_BINDINGS, binding)
    else:
        whole = ClusterRoleBinding(metadata=meta(f"{user}-{role}"), role_ref=ref(role), subjects=(subject,))
        await client.create(CLUSTER_ROLE_BINDINGS, whole)
    await seen(client)


@pytest.fixture
async def spaces(api_client):
    for name in ("a", "b"):
        await api_client.create(NAMESPACES, core_v1.Namespace(metadata=meta(name)))


async def test_a_role_binding_holds_in_its_namespace_only(api_client, joe, spaces):
    with pytest.raises(Forbidden, match='User "joe" cannot list resource "configmaps"'):
        await joe.list(CONFIG_MAPS, namespace="a")
    await grant(api_client, "joe", "view", namespace="a")
    assert (await joe.list(CONFIG_MAPS, namespace="a")).items == []
    for namespace in ("b", ""):
        with pytest.raises(Forbidden):
            await joe.list(CONFIG_MAPS, namespace=namespace)
    with pytest.raises(Forbidden):
        await joe.create(CONFIG_MAPS, core_v1.ConfigMap(metadata=meta("x", "a")))
    await api_client.delete(ROLE_BINDINGS, Key("a", "joe-view"))
    await seen(api_client)
    with pytest.raises(Forbidden):
        await joe.list(CONFIG_MAPS, namespace="a")


async def test_a_cluster_role_binding_holds_everywhere(api_client, joe, spaces):
    await grant(api_client, "joe", "edit")
    await joe.create(CONFIG_MAPS, core_v1.ConfigMap(metadata=meta("x", "b")))
    assert len((await joe.list(CONFIG_MAPS)).items) == 1
    await joe.list(PODS)


async def test_a_service_account_is_a_subject(api_server, api_client, spaces):
    account = Client(api_server.local(service_account("a", "robot", "uid", {})))
    await api_client.create(ROLES, Role(metadata=meta("reader", "b"), rules=(rule("get", "list"),)))
    subject = Subject(kind="ServiceAccount", name="robot", namespace="a")
    binding = RoleBinding(metadata=meta("robot", "b"), role_ref=ref("reader", "Role"), subjects=(subject,))
    await api_client.create(ROLE_BINDINGS, binding)
    await seen(api_client)
    await account.list(CONFIG_MAPS, namespace="b")
    with pytest.raises(Forbidden, match="system:serviceaccount:a:robot"):
        await account.list(CONFIG_MAPS, namespace="a")


async def test_aggregated_roles_take_up_what_is_labelled_for_them(api_client, joe, spaces):
    await grant(api_client, "joe", "admin", namespace="a")
    with pytest.raises(Forbidden):
        await joe.list(POD_TEMPLATES, namespace="a")
    # Labelled for view: edit takes view in, and admin takes edit in.
    labels = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    extra = ClusterRole(
        metadata=meta_v1.ObjectMeta(name="more", labels=labels),
        rules=(rule("list", resources=("podtemplates",)),),
    )
    await api_client.create(CLUSTER_ROLES, extra)
    # Labelled for view and made of view: a circle, which adds nothing and hangs nothing.
    selector = meta_v1.LabelSelector(match_labels=labels)
    circle = ClusterRole(
        metadata=meta_v1.ObjectMeta(name="circle", labels=labels),
        aggregation_rule=AggregationRule(cluster_role_selectors=(selector,)),
    )
    await api_client.create(CLUSTER_ROLES, circle)
    await seen(api_client)
    await joe.list(POD_TEMPLATES, namespace="a")
    with pytest.raises(Forbidden):
        await joe.list(POD_TEMPLATES, namespace="b")


async def test_nobody_gives_what_they_do_not_have(api_client, joe, spaces):
    await grant(api_client, "joe", "admin", namespace="a")
    await joe.create(ROLES, Role(metadata=meta("fine", "a"), rules=(rule("get", resources=("pods",)),)))
    with pytest.raises(
        Forbidden,
        match=r'attempting to grant RBAC permissions not currently held:\n\{APIGroups:\[""\], Resources:\["nodes"\]',
    ):
        await joe.create(ROLES, Role(metadata=meta("high", "a"), rules=(rule("get", resources=("nodes",)),)))
    subject = Subject(kind="User", name="joe", api_group=GROUP)
    climb = RoleBinding(metadata=meta("climb", "a"), role_ref=ref("cluster-admin"), subjects=(subject,))
    with pytest.raises(Forbidden, match="not currently held"):
        await joe.create(ROLE_BINDINGS, climb)
    with pytest.raises(Forbidden):
        await joe.create(CLUSTER_ROLES, ClusterRole(metadata=meta("x")))


async def test_what_a_binding_refers_to_stays(api_client, spaces):
    await grant(api_client, "joe", "view", namespace="a")
    with pytest.raises(Invalid, match="cannot change roleRef"):
        await api_client.patch(ROLE_BINDINGS, Key("a", "joe-view"), {"roleRef": {"name": "edit"}})


@pytest.mark.parametrize(
    ("role", "field"),
    [
        (PolicyRule(verbs=(), api_groups=("",), resources=("pods",)), "rules[0].verbs"),
        (PolicyRule(verbs=("get",), resources=("pods",)), "rules[0].apiGroups"),
        (PolicyRule(verbs=("get",), api_groups=("",)), "rules[0].resources"),
        (PolicyRule(verbs=("get",), non_resource_urls=("/x",)), "rules[0].nonResourceURLs"),
    ],
)
async def test_bad_rules_are_named(api_client, spaces, role, field):
    with pytest.raises(Invalid) as caught:
        await api_client.create(ROLES, Role(metadata=meta("bad", "a"), rules=(role,)))
    assert field in {cause.field for cause in caught.value.causes}
