"""What nodes say, as it arrives in the API."""

import asyncio

import msgspec
import pytest

from edgekube.api.errors import NotFound
from edgekube.api.kinds import coordination_v1 as coordination
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1
from edgekube.control.mirror import NodeEvent
from edgekube.hub.nodereports import away, metadata_patch, node_status_patch
from edgekube.hub.podreports import status_patch
from edgekube.transport.base import Disconnected, Message
from edgekube.transport.topics import Topics
from edgekube.transport.wire import Kind
from hub.conftest import until

TOPICS = Topics("c")
POD_A = Key("default", "a")
RUNNING = core_v1.PodStatus(
    phase="Running", pod_ip="10.0.0.1", conditions=(core_v1.PodCondition(type="Ready", status="True"),)
)


def node_object(**labels):
    ready = core_v1.NodeCondition(
        type="Ready", status="True", reason="KubeletReady", last_transition_time="2026-01-01T00:00:00Z",
        last_heartbeat_time="2026-01-01T00:00:00Z",
    )  # fmt: skip
    return core_v1.Node(
        metadata=meta_v1.ObjectMeta(name="n1", labels={"kubernetes.io/hostname": "n1", **labels}),
        status=core_v1.NodeStatus(
            capacity={"cpu": "4"}, conditions=(ready,),
            addresses=(core_v1.NodeAddress(type="InternalIP", address="10.1.0.1"),),
        ),
    )  # fmt: skip


async def node_of(world):
    try:
        return await world.client.get(core.NODES, Key("", "n1"))
    except NotFound:
        return None


def ready_of(node):
    return next(((c.status, c.reason) for c in node.status.conditions if c.type == "Ready"), None)


async def is_ready(world, *expected):
    node = await node_of(world)
    return node is not None and ready_of(node) == expected


async def test_status_is_written_once_and_confirmed(world, api_carrier):
    pod = await world.pod("a")
    async with world.hub_running(), world.node_running() as link:
        await until(lambda: len(link.mirror.pods))
        api_carrier.writes.clear()
        link.pod_status(POD_A, pod.metadata.uid, RUNNING)
        await until(lambda: link.unconfirmed == 0)
        assert (await world.get("a")).status.pod_ip == "10.0.0.1"
        link.pod_status(POD_A, pod.metadata.uid, RUNNING)
        assert link.unconfirmed == 0
        assert [w for w in api_carrier.writes if w[1] == "pods"] == [("patch", "pods", "a", "status")]


async def test_status_said_while_the_master_is_away_arrives_later_and_only_the_newest(world):
    pod = await world.pod("a")
    async with world.node_running() as link:
        async with world.hub_running():
            await until(lambda: len(link.mirror.pods))
        world.said.clear()
        world.broker.stop()
        for number in range(50):
            link.pod_status(
                POD_A, pod.metadata.uid, msgspec.structs.replace(RUNNING, pod_ip=f"10.0.0.{number}")
            )
        world.broker.start()
        async with world.hub_running("hub-2"):
            await until(lambda: link.unconfirmed == 0)
        assert (await world.get("a")).status.pod_ip == "10.0.0.49"
        assert world.kinds(TOPICS.up("n1")).count(Kind.POD_STATUS) <= 3


async def test_a_node_cannot_write_another_nodes_pod(world):
    pod = await world.pod("a", node="n2")
    async with world.hub_running(), world.node_running() as link:
        await until(link.mirror.pods.synced.is_set)
        link.pod_status(POD_A, pod.metadata.uid, RUNNING)
        link.pod_gone(POD_A, pod.metadata.uid)
        await until(lambda: link.unconfirmed == 0)
        assert (await world.get("a")).status.phase == "Pending"


async def test_an_ended_pod_is_deleted(world):
    pod = await world.pod("a")
    async with world.hub_running(), world.node_running() as link:
        await until(lambda: len(link.mirror.pods))
        await world.client.delete(core.PODS, POD_A)
        await until(lambda: link.mirror.pods.get(POD_A).metadata.deletion_timestamp)
        assert await world.get("a")
        link.pod_gone(POD_A, pod.metadata.uid)
        await until(lambda: not len(link.mirror.pods))
        with pytest.raises(NotFound):
            await world.get("a")


async def test_a_namesake_of_a_former_pod_is_left_alone(world):
    old = await world.pod("a")
    await world.client.delete(core.PODS, POD_A, grace=0)
    await world.pod("a")
    async with world.hub_running(), world.node_running() as link:
        await until(lambda: len(link.mirror.pods))
        link.pod_status(POD_A, old.metadata.uid, RUNNING)
        link.pod_gone(POD_A, old.metadata.uid)
        await until(lambda: link.unconfirmed == 0)
        assert (await world.get("a")).status.phase == "Pending"


async def test_a_node_registers_updates_and_loses_labels(world):
    async with world.hub_running(), world.node_running() as link:
        link.node_status(node_object(**{"edgekube.io/gpu": "v3d"}))
        await until(lambda: is_ready(world, "True", "KubeletReady"))
        await world.client.patch(core.NODES, Key("", "n1"), {"metadata": {"labels": {"mine": "1"}}})
        await until(lambda: link.unconfirmed == 0)
        link.node_status(node_object(**{"edgekube.io/camera": "true"}))
        await until(lambda: link.unconfirmed == 0)
        labels = (await node_of(world)).metadata.labels
        assert labels == {"kubernetes.io/hostname": "n1", "edgekube.io/camera": "true", "mine": "1"}
        await until(lambda: link.mirror.nodes.get(Key("", "n1")))


async def test_a_vanished_node_is_unknown_at_once_and_ready_when_it_is_back(world):
    async with world.hub_running():
        async with world.node_running() as link:
            link.node_status(node_object())
            await until(lambda: is_ready(world, "True", "KubeletReady"))
            world.broker.refused.add("n1")
            world.broker.disconnect("n1")
            await until(lambda: is_ready(world, "Unknown", "NodeStatusUnknown"))
            assert not world.hub.present("n1")
            world.broker.refused.clear()
            await until(lambda: is_ready(world, "True", "KubeletReady"))
        await until(lambda: is_ready(world, "False", "KubeletStopped"))


async def test_a_short_interruption_does_not_touch_the_node(world, api_carrier):
    async with world.hub_running(), world.node_running() as link:
        link.node_status(node_object())
        await until(lambda: is_ready(world, "True", "KubeletReady"))
        await until(lambda: link.unconfirmed == 0)
        api_carrier.writes.clear()
        world.broker.disconnect("n1")
        await asyncio.sleep(1.3)
        assert [w for w in api_carrier.writes if w[1] == "nodes"] == []


async def test_the_lease_is_renewed_while_the_node_is_there(world, monkeypatch):
    monkeypatch.setattr("edgekube.hub.hub.RENEW", 0.02)

    async def renewed():
        try:
            return (await world.client.get(coordination.LEASES, Key("kube-node-lease", "n1"))).spec.renew_time
        except NotFound:
            return ""

    async with world.hub_running():
        async with world.node_running() as link:
            link.node_status(node_object())
            first = await until(renewed)

            async def moved():
                return await renewed() > first

            await until(moved)
        await until(lambda: not world.hub.present("n1"))
        last = await renewed()
        await asyncio.sleep(0.2)
        assert await renewed() == last


async def test_events_are_counted(world):
    async with world.hub_running(), world.node_running() as link:
        pod = await world.pod("a")
        event = NodeEvent(
            "v1/pods", POD_A, pod.metadata.uid, "Warning", "BackOff", "restarting", "spec.containers{x}"
        )
        link.event(event)
        await until(lambda: link.unconfirmed == 0)
        found = await world.client.list(core.EVENTS, namespace="default")
        (made,) = (e for e in found.items if e.reason == "BackOff")
        assert (made.count, made.involved_object.kind, made.source.host) == (1, "Pod", "n1")


async def test_stats_are_kept_in_memory(world):
    async with world.hub_running() as hub, world.node_running() as link:
        link.stats(b"{}")
        await until(lambda: hub.stats.get("n1") == b"{}")


async def test_tokens_only_for_pods_of_the_node(world):
    async with world.hub_running(), world.node_running() as link:
        await until(link.mirror.pods.synced.is_set)
        foreign = await world.pod("a", node="n2")
        with pytest.raises(Disconnected, match="runs on node n1"):
            await link.service_account_token(Key("default", "default"), "", 3600, foreign)


async def test_garbage_is_counted_and_dropped(world):
    async with world.hub_running() as hub, world.node_running() as link:
        await until(link.mirror.pods.synced.is_set)
        for payload in (b"", b"\xc1", b"\x95\x01\xa1x\x01\xfb\xc4\x01\xc1"):
            await link.transport.publish(Message(TOPICS.up("n1"), payload))
            await link.transport.publish(Message(TOPICS.down("n1"), payload))
        await until(lambda: hub.uplink.malformed == 3)
        await until(lambda: link.switch.malformed == 3)
        await world.pod("a")
        await until(lambda: len(link.mirror.pods) == 1)


def test_the_status_patch_leaves_what_is_not_the_nodes():
    scheduled = {"type": "PodScheduled", "status": "True"}
    gate = {"type": "example.com/gate", "status": "True"}
    old_ready, ready = {"type": "Ready", "status": "False"}, {"type": "Ready", "status": "True"}
    current = {
        "phase": "Pending",
        "qosClass": "BestEffort",
        "conditions": [scheduled, gate, old_ready],
        "message": "m",
    }
    report = {"phase": "Running", "conditions": [ready, scheduled]}
    assert status_patch(current, report) == {
        "phase": "Running", "conditions": [ready, scheduled, gate], "message": None,
    }  # fmt: skip
    after = {"phase": "Running", "qosClass": "BestEffort", "conditions": [gate, scheduled, ready]}
    assert status_patch(after, report) == {}


def test_a_node_that_was_unknown_turns_ready_now():
    current = {
        "conditions": [{"type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-02-01T00:00:00Z"}]
    }
    report = {
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    }
    patch = node_status_patch(current, report, "2026-03-01T00:00:00Z")
    assert patch["conditions"][0]["lastTransitionTime"] == "2026-03-01T00:00:00Z"
    removed = node_status_patch({"capacity": {"a": "1", "b": "1"}}, {"capacity": {"a": "1"}}, "")
    assert removed == {"capacity": {"a": "1", "b": None}}


def test_conditions_of_a_node_that_is_away():
    told = away(
        [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "True"}], ("Unknown", "R", "m"), "t"
    )
    assert [(c["type"], c["status"]) for c in told] == [("Ready", "Unknown"), ("Other", "True")]
    assert away(told, ("Unknown", "R", "m"), "t2") is None


def test_unchanged_metadata_is_no_patch():
    report = node_object(a="b").metadata
    owned = {"edgekube.io/agent-labels": "a,kubernetes.io/hostname"}
    assert metadata_patch(msgspec.structs.replace(report, annotations=owned), report) == {}
