"""What nodes hear of network policies: what they have to enforce, and no more."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekube.api.kinds import core_v1 as core
from edgekube.api.kinds import networking_v1 as networking
from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1, networking_v1
from edgekube.control.policies import SLICES, PeerQuery, queries, selects
from edgekube.control.reader import Copy
from edgekube.hub.policies import PolicyFacts
from edgekube.hub.view import Versions
from edgekube.transport.topics import Topics
from edgekube.transport.wire import Kind
from hub.conftest import until

TOPICS = Topics("c")
POLICY = "networking.k8s.io/v1/networkpolicies/default/"
APP = PeerQuery(namespace="default", pods=meta_v1.LabelSelector(match_labels={"app": "app"})).name


async def policy(world, name, **spec):
    obj = networking_v1.NetworkPolicy(
        metadata=meta_v1.ObjectMeta(name=name, namespace="default"),
        spec=msgspec.convert(spec, networking_v1.NetworkPolicySpec),
    )
    return await world.client.create(networking.NETWORK_POLICIES, obj)


async def pod(world, name, *, node="n1", address="", spec=None, **labels):
    made = await world.pod(name, node=node, labels=labels, spec=spec)
    if address:
        await address_of(world, name, address)
    return made


async def address_of(world, name, address, phase="Running"):
    status = {"podIP": address, "podIPs": [{"ip": address}], "phase": phase}
    await world.client.patch(core.PODS, Key("default", name), {"status": status}, subresource="status")


def selector(**labels):
    return {"matchLabels": labels}


FROM_APP = {
    "podSelector": selector(role="web"),
    "ingress": [{"from": [{"podSelector": selector(app="app")}]}],
}


def answers(link):
    """Addresses by query and node."""
    found = {}
    for piece in link.mirror.peer_slices:
        for node, ports in piece.peers.items():
            found.setdefault(piece.query, {})[node] = ports
    return found


@pytest.fixture
async def spaces(world):
    made = core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="other", labels={"team": "other"}))
    await world.client.create(core.NAMESPACES, made)
    return world


async def settle(world, *nodes):
    await until(lambda: world.settled(*nodes))
    world.said.clear()


class TestWhatNodesGet:
    async def test_only_nodes_with_a_selected_pod_hear_of_a_policy(self, world):
        await pod(world, "a", role="web")
        await pod(world, "b", node="n2", address="10.244.2.2", app="app")
        async with world.hub_running(), world.node_running() as one, world.node_running("n2") as two:
            await until(lambda: len(one.mirror.pods) and len(two.mirror.pods))
            await settle(world, "n1", "n2")
            await policy(world, "web", **FROM_APP)
            await until(lambda: answers(one) == {APP: {"n2": {0: ("10.244.2.2",)}}})
            assert one.mirror.policies.get(Key("default", "web")).spec.policy_types == ("Ingress",)
            await until(lambda: Kind.ACK in world.kinds(TOPICS.up("n1")))
            assert not len(two.mirror.policies)
            assert world.objects(TOPICS.down("n2")) == world.objects(TOPICS.all_down) == []
            # Its own pods' namespaces come along.
            await world.client.delete(networking.NETWORK_POLICIES, Key("default", "web"))
            await until(lambda: not len(one.mirror.policies))
            await until(lambda: not len(one.mirror.peer_slices))

    async def test_a_peers_change_is_one_small_message_to_those_who_ask(self, world):
        await pod(world, "a", role="web")
        await pod(world, "b", node="n2", address="10.244.2.2", app="app")
        await pod(world, "c", node="n2", address="10.244.2.3")
        await policy(world, "web", **FROM_APP)
        async with (
            world.hub_running(), world.node_running() as one, world.node_running("n2"), world.node_running("n3"),
        ):  # fmt: skip
            await until(lambda: answers(one))
            await settle(world, "n1", "n2", "n3")
            labels = {"metadata": {"labels": {"app": "app"}}}
            await world.client.patch(core.PODS, Key("default", "c"), labels)
            await until(lambda: answers(one) == {APP: {"n2": {0: ("10.244.2.2", "10.244.2.3")}}})
            sent = world.objects(TOPICS.down("n1"))
            assert len(sent) == 1
            assert len(sent[0]) == 1
            assert world.objects(TOPICS.down("n3")) == world.objects(TOPICS.all_down) == []
            world.said.clear()
            # What does not matter to anybody says nothing to anybody.
            await world.client.patch(
                core.PODS, Key("default", "c"), {"status": {"message": "hm"}}, subresource="status"
            )
            await address_of(world, "b", "10.244.2.2", "Succeeded")
            await until(lambda: answers(one) == {APP: {"n2": {0: ("10.244.2.3",)}}})
            assert len(world.objects(TOPICS.down("n1"))) == 1

    async def test_a_pod_that_comes_and_goes_brings_and_takes_its_policies(self, world):
        await policy(world, "web", **FROM_APP)
        async with world.hub_running(), world.node_running() as link:
            await until(link.mirror.pods.synced.is_set)
            assert not len(link.mirror.policies)
            await pod(world, "a", role="web")
            await until(lambda: len(link.mirror.policies))
            sent = [name for batch in world.objects(TOPICS.down("n1")) for name in batch]
            # Before the pod itself: it never starts without it.
            assert sent.index(f"{POLICY}web") < sent.index("v1/pods/default/a")
            await world.client.patch(core.PODS, Key("default", "a"), {"metadata": {"labels": {"role": "db"}}})
            await until(lambda: not len(link.mirror.policies))
            await world.client.patch(
                core.PODS, Key("default", "a"), {"metadata": {"labels": {"role": "web"}}}
            )
            await until(lambda: len(link.mirror.policies))
            await world.client.delete(core.PODS, Key("default", "a"), grace=0)
            await until(lambda: not len(link.mirror.policies))

    async def test_namespace_labels_decide_and_may_change(self, spaces):
        world = spaces
        meta = meta_v1.ObjectMeta(name="default", namespace="other")
        await world.client.create(core.SERVICE_ACCOUNTS, core_v1.ServiceAccount(metadata=meta))
        far = core_v1.Pod(
            metadata=meta_v1.ObjectMeta(name="far", namespace="other"),
            spec=core_v1.PodSpec(
                node_name="n2", containers=(core_v1.Container(name="main", image="localhost/x"),)
            ),
        )
        await world.client.create(core.PODS, far)
        status = {"podIP": "10.244.2.9", "podIPs": [{"ip": "10.244.2.9"}]}
        await world.client.patch(core.PODS, Key("other", "far"), {"status": status}, subresource="status")
        await pod(world, "a", role="web")
        peers = [{"namespaceSelector": selector(team="one")}]
        await policy(world, "web", podSelector=selector(role="web"), ingress=[{"from": peers}])
        async with world.hub_running(), world.node_running() as link:
            await until(lambda: len(link.mirror.policies))
            assert answers(link) == {}
            for team, expected in (("one", True), ("two", False)):
                patch = {"metadata": {"labels": {"team": team}}}
                await world.client.patch(core.NAMESPACES, Key("", "other"), patch)
                await until(lambda expected=expected: bool(answers(link)) == expected)
            # Of its own pods' namespaces it knows the labels itself.
            assert [space.metadata.name for space in link.mirror.namespaces] == ["default"]

    async def test_all_pods_are_no_list(self, world):
        await pod(world, "a", role="web")
        await pod(world, "b", node="n2", address="10.244.2.2")
        await policy(world, "open", podSelector={}, ingress=[{"from": [{"namespaceSelector": {}}]}])
        async with world.hub_running(), world.node_running() as link:
            await until(lambda: len(link.mirror.policies))
            assert answers(link) == {}

    async def test_named_ports_of_peers_are_told(self, world):
        ports = [
            {"name": "http", "containerPort": 8080},
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
        ]
        containers = {"containers": [{"name": "main", "image": "localhost/x", "ports": ports}]}
        await pod(world, "a", role="web")
        await pod(world, "b", node="n2", address="10.244.2.2", spec=containers, app="app")
        await pod(world, "c", node="n2", address="10.244.2.3", app="app")
        rule = {"to": [{"podSelector": selector(app="app")}], "ports": [{"port": "http"}]}
        await policy(world, "web", podSelector=selector(role="web"), policyTypes=["Egress"], egress=[rule])
        async with world.hub_running(), world.node_running() as link:
            await until(lambda: answers(link))
            assert list(answers(link).values()) == [{"n2": {8080: ("10.244.2.2",)}}]

    async def test_a_node_that_comes_back_gets_only_what_it_lacks(self, world):
        await pod(world, "a", role="web")
        await pod(world, "b", node="n2", address="10.244.2.2", app="app")
        await policy(world, "web", **FROM_APP)
        async with world.hub_running(), world.node_running() as link:
            await until(lambda: answers(link))
            await settle(world, "n1")
            world.broker.disconnect("n1")
            await until(lambda: Kind.SNAPSHOT_END in world.kinds(TOPICS.down("n1")))
            assert world.objects(TOPICS.down("n1")) == []

    async def test_host_network_pods_are_neither_selected_nor_peers(self, world):
        await pod(world, "a", role="web", spec={"hostNetwork": True})
        await pod(world, "b", role="web", node="n3")
        await pod(world, "c", node="n2", address="10.50.0.2", spec={"hostNetwork": True}, app="app")
        await policy(world, "web", **FROM_APP)
        async with world.hub_running(), world.node_running() as one, world.node_running("n3") as three:
            await until(lambda: len(three.mirror.policies))
            assert answers(three) == {}
            assert not len(one.mirror.policies)


# --- Whatever happens in whatever order, the facts are what one would find by looking at everything

LABELS = st.dictionaries(st.sampled_from("ab"), st.sampled_from("12"), max_size=2)
SELECTOR = st.just({}) | st.fixed_dictionaries({"matchLabels": LABELS})
PEER = st.fixed_dictionaries({"podSelector": SELECTOR}) | st.fixed_dictionaries(
    {"namespaceSelector": SELECTOR}, optional={"podSelector": SELECTOR}
)
NAMES, SPACES, NODES = st.sampled_from("pqr"), st.sampled_from("xy"), st.sampled_from(["", "n1", "n2"])
ADDRESSES = st.sampled_from(["", "10.0.0.1", "10.0.0.2"])
STEP = st.one_of(
    st.tuples(st.just("pod"), SPACES, NAMES, st.none() | st.tuples(LABELS, NODES, ADDRESSES, st.booleans())),
    st.tuples(
        st.just("policy"), SPACES, NAMES, st.none() | st.tuples(SELECTOR, st.lists(PEER, min_size=1, max_size=2), st.booleans())
    ),
    st.tuples(st.just("namespace"), SPACES, st.just(""), st.none() | LABELS),
)  # fmt: skip


class Copies:
    """Informers without an API."""

    def __init__(self):
        self.copies = {}

    def of(self, resource):
        return self.copies.setdefault(resource.plural, Copy())


def made(kind, namespace, name, value):
    if kind == "namespace":
        return core_v1.Namespace(metadata=meta_v1.ObjectMeta(name=namespace, labels=value))
    meta = meta_v1.ObjectMeta(namespace=namespace, name=name, uid=name)
    if kind == "policy":
        selected, peers, named = value
        rule = {"to": peers, "ports": [{"port": "http"}]} if named else {"to": peers}
        tree = {"podSelector": selected, "policyTypes": ["Egress"], "egress": [rule]}
        return networking_v1.NetworkPolicy(
            metadata=meta, spec=msgspec.convert(tree, networking_v1.NetworkPolicySpec)
        )
    labels, node, address, has_port = value
    ports = (core_v1.ContainerPort(name="http", container_port=80),) if has_port else ()
    return core_v1.Pod(
        metadata=msgspec.structs.replace(meta, labels=labels),
        spec=core_v1.PodSpec(node_name=node, containers=(core_v1.Container(name="main", ports=ports),)),
        status=core_v1.PodStatus(pod_ip=address),
    )


def expected(copies, node):
    """Return what a node has to know, from scratch: policies, and addresses by query, node and port."""
    pods = list(copies.of(core.PODS))
    own = [item for item in pods if item.spec.node_name == node]
    policies = [p for p in copies.of(networking.NETWORK_POLICIES) if any(selects(p, item) for item in own)]
    found = {}
    for name, query in {k: v for p in policies for k, v in queries(p).items()}.items():
        for item in pods:
            space = copies.of(core.NAMESPACES).get(Key("", item.metadata.namespace))
            labels = space.metadata.labels if space else {}
            if item.status.pod_ip and query.matches(item.metadata.namespace, item.metadata.labels, labels):
                for number in query.ports(item):
                    found.setdefault((name, item.spec.node_name, number), []).append(item.status.pod_ip)
    return {p.metadata.name + p.metadata.namespace for p in policies}, {
        k: sorted(v) for k, v in found.items()
    }


@settings(max_examples=200, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=25))
def test_facts_are_the_same_in_whatever_order_they_come(steps):
    copies, looks = Copies(), set()
    facts = PolicyFacts(copies, Versions(), looks.add)
    facts.slices.subscribe(lambda old, new: looks.update(facts.users(new or old)))
    kinds = {"pod": core.PODS, "policy": networking.NETWORK_POLICIES, "namespace": core.NAMESPACES}
    before = {}
    for kind, namespace, name, value in steps:
        copy = copies.of(kinds[kind])
        looks.clear()
        old = copy.get(Key(namespace, name))
        if value is None:
            copy.drop(Key("", namespace) if kind == "namespace" else Key(namespace, name))
        else:
            copy.set(made(kind, namespace, name, value))
        for node in ("n1", "n2"):
            own = tuple(item for item in copies.of(core.PODS) if item.spec.node_name == node)
            refs = set(facts.wish(node, own))
            policies = {ref.name + ref.namespace for ref in refs if ref.path.endswith("networkpolicies")}
            found = {}
            for ref in refs:
                if ref.path == SLICES:
                    piece = facts.slices.get(Key("", ref.name))
                    for where, ports in piece.peers.items():
                        for number, addresses in ports.items():
                            found.setdefault((piece.query, where, number), []).extend(addresses)
            now = (policies, {key: sorted(held) for key, held in found.items()})
            assert now == expected(copies, node)
            # What happens to a node's own pods makes it look anyway.
            own_pod = kind == "pod" and node in {old and old.spec.node_name, value and value[1]}
            if now != before.get(node, (set(), {})) and not own_pod:
                assert node in looks
            before[node] = now
