"""Deleting: at once, gracefully, and with finalizers."""

import copy
from datetime import UTC, datetime, timedelta

import pytest

from edgekube.api.errors import Invalid
from edgekube.api.kinds.apps_v1 import DEPLOYMENTS
from edgekube.api.kinds.core_v1 import PODS
from edgekube.apiserver.registry.deletion import DeleteOptions, options_from, plan

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NS = "/api/v1/namespaces/default"


def bound_pod(**meta):
    return {"metadata": {"name": "p", **meta}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}}


def test_an_object_without_ties_goes_at_once():
    assert plan(DEPLOYMENTS, {"metadata": {"name": "d"}}, DeleteOptions(), NOW).remove


@pytest.mark.parametrize(
    ("propagation", "finalizers"), [("Foreground", ["foregroundDeletion"]), ("Orphan", ["orphan"])]
)
def test_propagation_is_a_finalizer(propagation, finalizers):
    obj = {"metadata": {"name": "d", "generation": 2}}
    before = copy.deepcopy(obj)
    verdict = plan(DEPLOYMENTS, obj, DeleteOptions(propagation=propagation), NOW)
    assert not verdict.remove
    meta = verdict.marked["metadata"]
    assert meta["finalizers"] == finalizers
    assert meta["deletionTimestamp"] == "2026-01-01T00:00:00Z"
    assert meta["deletionGracePeriodSeconds"] == 0
    assert meta["generation"] == 3
    assert obj == before


def test_background_takes_the_other_finalizers_away():
    obj = {"metadata": {"name": "d", "finalizers": ["foregroundDeletion"], "deletionTimestamp": "x"}}
    assert plan(DEPLOYMENTS, obj, DeleteOptions(propagation="Background"), NOW).remove


def test_a_bound_pod_gets_its_grace_and_later_less():
    marked = plan(PODS, bound_pod(), DeleteOptions(), NOW).marked
    assert marked["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:30Z"
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    later = NOW + timedelta(seconds=2)
    assert plan(PODS, marked, DeleteOptions(), later).marked is None
    assert plan(PODS, marked, DeleteOptions(grace=60), later).marked is None
    sooner = plan(PODS, marked, DeleteOptions(grace=5), later).marked
    assert sooner["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:05Z"
    assert plan(PODS, sooner, DeleteOptions(grace=0), later).remove


def test_a_pod_no_kubelet_runs_goes_at_once():
    waiting = bound_pod()
    del waiting["spec"]["nodeName"]
    assert plan(PODS, waiting, DeleteOptions(), NOW).remove
    ended = bound_pod() | {"status": {"phase": "Succeeded"}}
    assert plan(PODS, ended, DeleteOptions(), NOW).remove


def test_finalizers_hold_a_pod_even_without_grace():
    verdict = plan(PODS, bound_pod(finalizers=["x"]), DeleteOptions(grace=0), NOW)
    assert not verdict.remove
    assert verdict.marked["metadata"]["deletionGracePeriodSeconds"] == 0


def test_options_from_body_and_query():
    assert options_from({}, {"gracePeriodSeconds": "3", "propagationPolicy": "Orphan"}) == DeleteOptions(
        grace=3, propagation="Orphan"
    )
    assert options_from({"gracePeriodSeconds": 1}, {"gracePeriodSeconds": "3"}).grace == 1
    assert options_from({"orphanDependents": True}, {}).propagation == "Orphan"
    with pytest.raises(Invalid):
        options_from({"propagationPolicy": "Sideways"}, {})


async def test_delete_answers_a_status_or_the_object(api, config_map, pod, account):
    made = await api.post(f"{NS}/configmaps", config_map("a"))
    status = await api.delete(f"{NS}/configmaps/a")
    assert status["status"] == "Success"
    assert status["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    await api.delete(f"{NS}/configmaps/a", code=404)
    await api.post(f"{NS}/pods", pod("p"))
    assert (await api.delete(f"{NS}/pods/p"))["kind"] == "Pod"
    await api.get(f"{NS}/pods/p", code=404)


async def test_preconditions(api, config_map):
    made = await api.post(f"{NS}/configmaps", config_map("a"))
    status = await api.delete(f"{NS}/configmaps/a", {"preconditions": {"uid": "other"}}, code=409)
    assert "UID in precondition: other" in status["message"]
    await api.delete(f"{NS}/configmaps/a", {"preconditions": {"resourceVersion": "1"}}, code=409)
    await api.delete(f"{NS}/configmaps/a", {"preconditions": {"uid": made["metadata"]["uid"]}})


async def test_the_last_finalizer_lets_go(api, config_map):
    body = config_map("a")
    body["metadata"]["finalizers"] = ["x.example/y"]
    await api.post(f"{NS}/configmaps", body)
    marked = await api.delete(f"{NS}/configmaps/a")
    assert marked["metadata"]["deletionTimestamp"]
    await api.get(f"{NS}/configmaps/a")
    await api.patch(f"{NS}/configmaps/a", {"metadata": {"finalizers": None}})
    await api.get(f"{NS}/configmaps/a", code=404)


async def test_a_running_pod_waits_for_its_kubelet(api, pod, account):
    await api.post(f"{NS}/pods", pod("p", nodeName="n"))
    marked = await api.delete(f"{NS}/pods/p")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    await api.patch(f"{NS}/pods/p/status", {"status": {"phase": "Running"}})
    await api.get(f"{NS}/pods/p")
    await api.delete(f"{NS}/pods/p", {"gracePeriodSeconds": 0})
    await api.get(f"{NS}/pods/p", code=404)


async def test_namespaces_end_by_finalize(api, config_map):
    await api.post("/api/v1/namespaces", {"metadata": {"name": "x"}})
    marked = await api.delete("/api/v1/namespaces/x")
    assert marked["status"]["phase"] == "Terminating"
    assert marked["spec"]["finalizers"] == ["kubernetes"]
    status = await api.post("/api/v1/namespaces/x/configmaps", config_map("a"), code=403)
    assert "because it is being terminated" in status["message"]
    assert status["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    marked["spec"] = {}
    kept = await api.put("/api/v1/namespaces/x", marked)
    assert kept["spec"]["finalizers"] == ["kubernetes"]
    kept["spec"] = {}
    await api.put("/api/v1/namespaces/x/finalize", kept)
    await api.get("/api/v1/namespaces/x", code=404)


async def test_some_namespaces_stay(api):
    status = await api.delete("/api/v1/namespaces/kube-system", code=403)
    assert status["message"] == 'namespaces "kube-system" is forbidden: this namespace may not be deleted'


async def test_a_collection_goes_by_selector(api, config_map):
    for name in ("a", "b", "c"):
        body = config_map(name)
        body["metadata"]["labels"] = {"keep": "yes" if name == "c" else "no"}
        await api.post(f"{NS}/configmaps", body)
    gone = await api.delete(f"{NS}/configmaps?labelSelector=keep=no")
    assert [item["metadata"]["name"] for item in gone["items"]] == ["a", "b"]
    left = await api.get(f"{NS}/configmaps")
    assert [item["metadata"]["name"] for item in left["items"]] == ["c"]
