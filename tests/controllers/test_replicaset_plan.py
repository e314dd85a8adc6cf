"""A ReplicaSet: how many pods to make, and which to give up first."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.types import apps_v1
from edgekube.controllers.ownership import claim, controller_of
from edgekube.controllers.replicaset.plan import BURST, failed, new_pod, plan, succeeded

NOW = 1_000_000.0
GONE = "2026-01-01T00:00:00Z"


def test_missing_pods_are_made_after_the_template(make):
    rs = make.replica_set(replicas=3)
    assert plan(rs, [make.pod(owner=rs)], [], NOW).create == 2
    pod = new_pod(rs)
    assert pod.metadata.generate_name == "web-1-"
    assert controller_of(pod).uid == rs.metadata.uid
    assert pod.metadata.labels == {"app": "web"}


def test_ended_and_terminating_pods_do_not_count(make):
    rs = make.replica_set(replicas=2)
    pods = [make.pod("a", phase="Failed"), make.pod("b", deletion_timestamp=GONE), make.pod("c")]
    decided = plan(rs, pods, [], NOW)
    assert decided.create == 1
    assert decided.status.replicas == 1


def test_a_replica_set_being_deleted_makes_and_deletes_nothing(make):
    rs = make.replica_set(replicas=3, deletion_timestamp=GONE)
    assert plan(rs, [], [], NOW).create == 0
    assert plan(rs, [make.pod(str(n)) for n in range(5)], [], NOW).delete == ()


def test_a_huge_replica_set_is_filled_in_bursts(make):
    assert plan(make.replica_set(replicas=5 * BURST), [], [], NOW).create == BURST


ranked = [
    ({"name": "unassigned", "phase": "Pending"}, {"name": "assigned", "phase": "Pending", "node": "n1"}),
    ({"name": "pending", "node": "n1", "phase": "Pending"}, {"name": "running", "node": "n1"}),
    ({"name": "unready", "node": "n1"}, {"name": "ready", "node": "n1", "ready": 1.0}),
    (
        {"name": "cheap", "node": "n1", "annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}},
        {"name": "dear", "node": "n1"},
    ),
    ({"name": "fresh", "node": "n1", "ready": 9.0}, {"name": "old", "node": "n1", "ready": 1.0}),
    ({"name": "restarting", "node": "n1", "restarts": 3}, {"name": "calm", "node": "n1"}),
    ({"name": "young", "node": "n1", "created": 9.0}, {"name": "aged", "node": "n1", "created": 1.0}),
]


@pytest.mark.parametrize(("first", "second"), ranked, ids=[pair[0]["name"] for pair in ranked])
def test_deletion_order(make, first, second):
    rs = make.replica_set(replicas=1)
    pods = [make.pod(**second), make.pod(**first)]
    assert [pod.metadata.name for pod in plan(rs, pods, pods, NOW).delete] == [first["name"]]


def test_pods_on_a_crowded_node_go_first(make):
    rs = make.replica_set(replicas=2)
    pods = [make.pod("alone", node="n2"), make.pod("a", node="n1"), make.pod("b", node="n1")]
    assert plan(rs, pods, pods, NOW).delete[0].spec.node_name == "n1"


def test_a_pod_is_available_after_min_ready_seconds(make):
    rs = make.replica_set(replicas=1)
    rs = msgspec.structs.replace(rs, spec=msgspec.structs.replace(rs.spec, min_ready_seconds=10))
    decided = plan(rs, [make.pod(ready=NOW - 4)], [], NOW)
    assert (decided.status.ready_replicas, decided.status.available_replicas, decided.again) == (1, None, 6)
    decided = plan(rs, [make.pod(ready=NOW - 10)], [], NOW)
    assert (decided.status.available_replicas, decided.again) == (1, None)


def test_failure_condition_comes_and_goes():
    status = failed(apps_v1.ReplicaSetStatus(replicas=0), reason="FailedCreate", message="quota", now=NOW)
    assert status.conditions[0].reason == "FailedCreate"
    assert failed(status, reason="FailedCreate", message="quota", now=NOW + 9) == status
    assert succeeded(status).conditions == ()


def test_claim_sorts_adopts_and_releases(make):
    rs, other = make.replica_set(), make.replica_set("other")
    mine, stray = make.pod("mine", owner=rs), make.pod("stray")
    left = make.pod("left", owner=rs, labels={"app": "db"})
    foreign = make.pod("foreign", owner=other)
    going = make.pod("going", deletion_timestamp=GONE)
    claimed = claim(rs, rs.spec.selector, [mine, stray, left, foreign, going])
    assert (claimed.mine, claimed.adopt, claimed.release) == ((mine,), (stray,), (left,))


@given(wanted=st.integers(0, 30), have=st.integers(0, 30))
def test_the_plan_always_leads_to_the_wanted_number(make_any, wanted, have):
    rs = make_any.replica_set(replicas=wanted)
    decided = plan(rs, [make_any.pod(f"p{n}") for n in range(have)], [], NOW)
    assert have + decided.create - len(decided.delete) == wanted
    assert not (decided.create and decided.delete)
