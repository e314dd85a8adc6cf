"""What nodes get: no more than their pods need, no more often than it changes."""

import asyncio

from msgspec.structs import replace

from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1
from edgekube.transport.topics import Topics
from edgekube.transport.wire import Kind
from hub.conftest import until

TOPICS = Topics("c")
POD_A = Key("default", "a")
WITH_REFS = {
    "containers": [{
        "name": "main", "image": "localhost/x",
        "env": [
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "by-env", "key": "k"}}},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "secret-env", "key": "k"}}},
        ],
        "envFrom": [{"configMapRef": {"name": "whole"}}, {"secretRef": {"name": "secret-whole"}}],
    }],
    "imagePullSecrets": [{"name": "pull"}],
    "volumes": [
        {"name": "c", "configMap": {"name": "volume"}},
        {"name": "s", "secret": {"secretName": "secret-volume"}},
        {"name": "p", "projected": {"sources": [
            {"configMap": {"name": "projected"}}, {"secret": {"name": "secret-projected"}},
        ]}},
    ],
}  # fmt: skip


async def test_a_node_gets_its_pods_and_what_they_refer_to_and_nothing_else(world):
    config_maps = {"by-env", "whole", "volume", "projected"}
    secrets = {"secret-env", "secret-whole", "pull", "secret-volume", "secret-projected"}
    for name in config_maps | {"unrelated"}:
        await world.config_map(name, k="v")
    for name in secrets | {"unrelated"}:
        await world.secret(name, k="v")
    await world.pod("a", spec=WITH_REFS)
    await world.pod("b", node="n2")
    async with world.hub_running(), world.node_running() as link:
        await until(link.mirror.pods.synced.is_set)
        assert {p.metadata.name for p in link.mirror.pods} == {"a"}
        assert {c.metadata.name for c in link.mirror.config_maps} == config_maps
        assert {s.metadata.name for s in link.mirror.secrets} == secrets
        await world.client.delete(core.PODS, POD_A, grace=0)
        await until(lambda: not len(link.mirror.pods))
        assert len(link.mirror.config_maps) == len(link.mirror.secrets) == 0


async def test_one_change_is_one_message_to_one_node(world):
    await world.pod("a")
    await world.pod("b", node="n2")
    async with world.hub_running(), world.node_running() as one, world.node_running("n2") as two:
        await until(lambda: len(one.mirror.pods) and len(two.mirror.pods))
        await until(lambda: world.settled("n1", "n2"))
        world.said.clear()
        await world.client.patch(core.PODS, POD_A, {"metadata": {"labels": {"x": "1"}}})
        await until(lambda: one.mirror.pods.get(POD_A).metadata.labels == {"x": "1"})
        await until(lambda: Kind.ACK in world.kinds(TOPICS.up("n1")))
        assert world.objects(TOPICS.down("n1")) == [["v1/pods/default/a"]]
        assert world.objects(TOPICS.down("n2")) == world.objects(TOPICS.all_down) == []
        assert [kind for _, kind, _ in world.said] == [Kind.OBJECTS, Kind.ACK]


async def test_a_changed_config_map_goes_to_the_nodes_that_use_it_once(world):
    await world.config_map("shared", k="1")
    spec = {"volumes": [{"name": "c", "configMap": {"name": "shared"}}]}
    for name, node in (("a", "n1"), ("a2", "n1"), ("b", "n2"), ("c", "n3")):
        await world.pod(name, node=node, spec=spec if node != "n3" else None)
    async with (
        world.hub_running(),
        world.node_running() as one,
        world.node_running("n2") as two,
        world.node_running("n3") as three,
    ):
        links = (one, two, three)
        await until(lambda: all(link.mirror.pods.synced.is_set() for link in links))
        world.said.clear()
        key = Key("default", "shared")
        await world.client.patch(core.CONFIG_MAPS, key, {"data": {"k": "2"}})
        await until(lambda: all(link.mirror.config_maps.get(key).data == {"k": "2"} for link in (one, two)))
        for node in ("n1", "n2"):
            assert world.objects(TOPICS.down(node)) == [["v1/configmaps/default/shared"]]
        assert world.objects(TOPICS.down("n3")) == []
        assert len(three.mirror.config_maps) == 0


async def test_services_go_to_all_nodes_in_one_message(world):
    async with world.hub_running(), world.node_running() as one, world.node_running("n2") as two:
        await until(lambda: all(link.mirror.services.synced.is_set() for link in (one, two)))
        world.said.clear()
        port = core_v1.ServicePort(port=80)
        service = core_v1.Service(
            metadata=meta_v1.ObjectMeta(name="web", namespace="default"),
            spec=core_v1.ServiceSpec(ports=(port,)),
        )
        await world.client.create(core.SERVICES, service)
        key = Key("default", "web")
        await until(lambda: one.mirror.services.get(key) and two.mirror.services.get(key))
        assert world.objects(TOPICS.all_down) == [["v1/services/default/web"]]
        assert world.objects(TOPICS.down("n1")) == world.objects(TOPICS.down("n2")) == []
        meta = meta_v1.ObjectMeta(name="other", namespace="default")
        await world.client.create(core.SERVICES, replace(service, metadata=meta))
        await until(lambda: two.mirror.services.get(Key("default", "other")))
        patch = {"spec": {"ports": [{"port": 81}]}}
        await world.client.patch(core.SERVICES, key, patch)
        for link in (one, two):
            await until(lambda link=link: link.mirror.services.get(key).spec.ports[0].port == 81)
        # Each change told alone, whatever else there is.
        assert world.objects(TOPICS.all_down)[1:] == [
            ["v1/services/default/other"],
            ["v1/services/default/web"],
        ]
        await world.client.delete(core.SERVICES, key)
        await until(lambda: not (one.mirror.services.get(key) or two.mirror.services.get(key)))


async def test_a_resync_with_nothing_changed_sends_no_objects(world):
    await world.config_map("whole", k="v")
    await world.pod("a", spec=WITH_REFS)
    async with world.hub_running(), world.node_running() as link:
        await until(link.mirror.pods.synced.is_set)
        await until(lambda: Kind.ACK in world.kinds(TOPICS.up("n1")))
        world.said.clear()
        world.broker.disconnect("n1")
        await until(lambda: Kind.SNAPSHOT_END in world.kinds(TOPICS.down("n1")))
        assert world.objects(TOPICS.down("n1")) == []


async def test_after_a_pause_only_the_difference_is_sent(world):
    for name in ("a", "b", "c"):
        await world.pod(name)
    async with world.hub_running():
        async with world.node_running() as link:
            await until(link.mirror.pods.synced.is_set)
            # All of it acknowledged: so all of it is on the node's disk, the mark that it is complete too.
            await until(lambda: world.settled("n1"))
        await world.client.delete(core.PODS, Key("default", "b"), grace=0)
        await world.client.patch(core.PODS, Key("default", "c"), {"metadata": {"labels": {"x": "1"}}})
        world.said.clear()
        async with world.node_running() as link:
            assert link.mirror.pods.synced.is_set()
            assert {p.metadata.name for p in link.mirror.pods} == {"a", "b", "c"}
            await until(lambda: {p.metadata.name for p in link.mirror.pods} == {"a", "c"})
            assert world.objects(TOPICS.down("n1")) == [["v1/pods/default/c"]]


async def test_a_new_hub_makes_nodes_resync(world):
    await world.pod("a")
    async with world.node_running() as link:
        async with world.hub_running():
            await until(link.mirror.pods.synced.is_set)
        await world.pod("b")
        world.said.clear()
        async with world.hub_running("hub-2"):
            await until(lambda: len(link.mirror.pods) == 2)
            assert world.objects(TOPICS.down("n1")) == [["v1/pods/default/b"]]


async def test_a_broker_restart_heals(world):
    async with world.hub_running(), world.node_running() as link:
        await until(link.mirror.pods.synced.is_set)
        world.broker.stop()
        await world.pod("a")
        await asyncio.sleep(0.05)
        world.broker.start()
        await until(lambda: len(link.mirror.pods) == 1)


async def test_a_lost_message_is_noticed_by_the_next_and_made_good(world):
    async with world.hub_running(), world.node_running() as link:
        await until(link.mirror.pods.synced.is_set)
        world.broker.loses = lambda _message: True
        await world.pod("a")
        await until(lambda: world.hub.sessions.get("n1").known)
        world.broker.loses = lambda _message: False
        assert len(link.mirror.pods) == 0
        await world.pod("b")
        await until(lambda: len(link.mirror.pods) == 2)
        assert Kind.RESYNC in world.kinds(TOPICS.up("n1"))


async def test_a_lost_last_message_is_noticed_by_its_missing_acknowledgement(world, monkeypatch):
    monkeypatch.setattr("edgekube.hub.hub.RENEW", 0.05)
    monkeypatch.setattr("edgekube.hub.hub.UNACKED", 0.1)
    async with world.hub_running(), world.node_running() as link:
        await until(link.mirror.pods.synced.is_set)
        await until(lambda: world.hub.sessions.get("n1").acked)
        world.broker.loses = lambda _message: True
        await world.pod("a")
        await until(lambda: world.hub.sessions.get("n1").known)
        world.broker.loses = lambda _message: False
        await until(lambda: len(link.mirror.pods) == 1)


async def test_what_a_node_reports_of_a_pod_is_not_sent_back(world):
    pod = await world.pod("a")
    async with world.hub_running(), world.node_running() as link:
        await until(lambda: world.settled("n1"))
        world.said.clear()
        link.pod_status(POD_A, pod.metadata.uid, core_v1.PodStatus(phase="Running", pod_ip="10.0.0.1"))
        await until(lambda: link.unconfirmed == 0)
        assert (await world.get("a")).status.phase == "Running"
        assert sorted(kind for _, kind, _ in world.said) == [Kind.POD_STATUS, Kind.DONE]


async def test_every_node_gets_the_dns_config(world):
    key = Key("kube-system", "edgekube-dns")
    made = core_v1.ConfigMap(
        metadata=meta_v1.ObjectMeta(namespace=key.namespace, name=key.name), data={"stubDomains": "{}"}
    )
    async with world.hub_running(), world.node_running() as one, world.node_running("n2") as two:
        links = (one, two)
        await until(lambda: all(link.mirror.pods.synced.is_set() for link in links))
        await world.client.create(core.CONFIG_MAPS, made)
        await until(lambda: all(link.mirror.config_maps.get(key) for link in links))
        await world.client.delete(core.CONFIG_MAPS, key)
        await until(lambda: not any(link.mirror.config_maps.get(key) for link in links))
