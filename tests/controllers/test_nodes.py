"""Lost nodes, evictions, node addresses, stray pods: the pure parts."""

from ipaddress import ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.types import core_v1
from edgekube.control.clock import seconds, stamp
from edgekube.control.taints import NO_EXECUTE, NO_SCHEDULE, NOT_READY, UNREACHABLE
from edgekube.controllers import podgc
from edgekube.controllers.nodes.eviction import evict_at
from edgekube.controllers.nodes.health import Sign, plan, signs
from edgekube.controllers.nodes.ipam import allocate

NOW = 1_000_000.0
GONE = "2026-01-01T00:00:00Z"


def taints(decided):
    return {(taint.key, taint.effect) for taint in decided.taints or ()}


def test_a_lost_node_is_unknown_and_drives_pods_away(make):
    decided = plan(make.node("n1"), NOW, lost=True, evict=True)
    assert {c.status for c in decided.conditions} == {"Unknown"}
    ready = next(c for c in decided.conditions if c.type == "Ready")
    assert (ready.reason, ready.message) == ("NodeStatusUnknown", "Kubelet stopped posting node status.")
    assert taints(decided) == {(UNREACHABLE, NO_SCHEDULE), (UNREACHABLE, NO_EXECUTE)}
    assert all(seconds(taint.time_added) == NOW for taint in decided.taints)


def test_when_every_node_looks_dead_nobody_is_driven_away(make):
    ours = tuple(core_v1.Taint(key=UNREACHABLE, effect=effect) for effect in (NO_SCHEDULE, NO_EXECUTE))
    decided = plan(make.node("n1", taints=ours), NOW, lost=True, evict=False)
    assert taints(decided) == {(UNREACHABLE, NO_SCHEDULE)}


def test_a_node_that_is_back_loses_our_taints_and_keeps_others(make):
    other = core_v1.Taint(key="mine", effect=NO_EXECUTE)
    ours = tuple(core_v1.Taint(key=UNREACHABLE, effect=effect) for effect in (NO_SCHEDULE, NO_EXECUTE))
    decided = plan(make.node("n1", taints=(other, *ours)), NOW, lost=False, evict=True)
    assert decided.taints == (other,)
    assert decided.conditions is None


def test_a_connection_lost_a_moment_ago_drives_nobody_out_yet(make):
    node = make.node("n1", conditions=(("Ready", "Unknown"),))
    assert taints(plan(node, NOW, lost=False, evict=True)) == {(UNREACHABLE, NO_SCHEDULE)}
    ours = tuple(core_v1.Taint(key=UNREACHABLE, effect=effect) for effect in (NO_SCHEDULE, NO_EXECUTE))
    node = make.node("n1", conditions=(("Ready", "Unknown"),), taints=ours)
    assert plan(node, NOW, lost=False, evict=True).taints is None


def test_a_node_that_says_it_is_not_ready(make):
    decided = plan(make.node("n1", conditions=(("Ready", "False"),)), NOW, lost=False, evict=True)
    assert taints(decided) == {(NOT_READY, NO_SCHEDULE), (NOT_READY, NO_EXECUTE)}


@pytest.mark.parametrize(
    ("condition", "taint"),
    [
        ("MemoryPressure", "memory-pressure"),
        ("DiskPressure", "disk-pressure"),
        ("PIDPressure", "pid-pressure"),
        ("NetworkUnavailable", "network-unavailable"),
    ],
)
def test_a_pressure_keeps_new_pods_away_while_it_lasts(make, condition, taint):
    key = f"node.kubernetes.io/{taint}"
    under = make.node("n1", conditions=(("Ready", "True"), (condition, "True")))
    assert taints(plan(under, NOW, lost=False, evict=True)) == {(key, NO_SCHEDULE)}
    tainted = (core_v1.Taint(key=key, effect=NO_SCHEDULE),)
    over = make.node("n1", conditions=(("Ready", "True"), (condition, "False")), taints=tainted)
    assert plan(over, NOW, lost=False, evict=True).taints == ()
    lost = plan(
        make.node("n1", conditions=(("Ready", "Unknown"), (condition, "Unknown")), taints=tainted),
        NOW,
        lost=True,
        evict=True,
    )
    assert (key, NO_SCHEDULE) not in taints(lost)


def test_a_cordoned_node_is_tainted(make):
    node = make.node("n1")
    cordoned = msgspec.structs.replace(node, spec=msgspec.structs.replace(node.spec, unschedulable=True))
    decided = plan(cordoned, NOW, lost=False, evict=True)
    assert taints(decided) == {("node.kubernetes.io/unschedulable", NO_SCHEDULE)}
    back = msgspec.structs.replace(node, spec=core_v1.NodeSpec(taints=decided.taints))
    assert plan(back, NOW, lost=False, evict=True).taints == ()


@pytest.mark.parametrize(("ready", "lost"), [("True", False), ("False", False), ("Unknown", True)])
def test_a_second_look_changes_nothing(make, ready, lost):
    node = make.node("n1", conditions=(("Ready", ready),))
    first = plan(node, NOW, lost=lost, evict=True)
    again = make.node("n1", taints=first.taints or ())
    conditions = first.conditions or node.status.conditions
    again = msgspec.structs.replace(again, status=core_v1.NodeStatus(conditions=conditions))
    second = plan(again, NOW + 100, lost=lost, evict=True)
    assert (second.conditions, second.taints) == (None, None)


def test_signs_of_life_go_by_our_own_clock(make):
    node = make.node("n1")
    first = signs([node], {"n1": "long ago"}, {}, NOW)
    assert first == {"n1": Sign("long ago", NOW)}
    assert signs([node], {"n1": "long ago"}, first, NOW + 50) == first
    assert signs([node], {"n1": "later"}, first, NOW + 50)["n1"].seen == NOW + 50


def tolerate(seconds=None, key=UNREACHABLE):
    return core_v1.Toleration(key=key, operator="Exists", effect=NO_EXECUTE, toleration_seconds=seconds)


@pytest.mark.parametrize(
    ("tolerations", "expected"),
    [((), NOW), ((tolerate(300),), NOW + 200), ((tolerate(),), None), ((tolerate(300), tolerate(150)), NOW + 50),
     ((tolerate(300, key="other"),), NOW), ((tolerate(-5),), NOW - 100)],
)  # fmt: skip
def test_eviction_honours_tolerations(make, tolerations, expected):
    pod = make.pod(node="n1")
    pod = msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, tolerations=tolerations))
    taint = core_v1.Taint(key=UNREACHABLE, effect=NO_EXECUTE, time_added=stamp(NOW - 100))
    assert evict_at(pod, [taint], NOW) == expected


@given(st.lists(st.one_of(st.none(), st.integers(0, 40)), max_size=60))
def test_addresses_are_never_given_twice(script):
    cluster, given_away = ip_network("10.42.0.0/19"), []
    for step in script:
        if step is not None and step < len(given_away):
            given_away.pop(step)
            continue
        chosen = allocate(cluster, 24, given_away)
        if chosen is None:
            assert len(given_away) == 32
            continue
        network = ip_network(chosen)
        assert network.prefixlen == 24
        assert network.subnet_of(cluster)
        assert not any(network.overlaps(ip_network(other)) for other in given_away)
        given_away.append(chosen)


def test_addresses_given_by_hand_are_respected():
    cluster = ip_network("10.42.0.0/22")
    assert allocate(cluster, 24, ["10.42.0.0/23"]) == "10.42.2.0/24"
    assert allocate(cluster, 24, ["10.42.0.64/28"]) == "10.42.1.0/24"
    assert allocate(cluster, 24, ["10.0.0.0/8"]) is None
    assert allocate(ip_network("fd00::/48"), 64, ["fd00::/64", "10.42.0.0/24"]) == "fd00:0:0:1::/64"


def test_stray_pods_go_after_a_while(make):
    pods = [
        make.pod("stray", node="dead"),
        make.pod("fine", node="n1"),
        make.pod("unbound", deletion_timestamp=GONE),
    ]
    early = podgc.plan(pods, {"n1"}, {"dead": NOW - 10}, NOW, keep=10)
    assert (early.orphans, early.again) == ((), 30)
    assert [pod.metadata.name for pod in early.surplus] == ["unbound"]
    late = podgc.plan(pods, {"n1"}, {"dead": NOW - 40}, NOW, keep=10)
    assert [pod.metadata.name for pod in late.orphans] == ["stray"]


def test_the_oldest_ended_pods_over_the_limit_go(make):
    pods = [make.pod(f"p{n}", node="n1", phase="Succeeded", created=n) for n in (3, 1, 2)]
    decided = podgc.plan(pods, {"n1"}, {}, NOW, keep=2)
    assert [pod.metadata.name for pod in decided.surplus] == ["p1"]
