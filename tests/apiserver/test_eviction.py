"""Evictions and the budgets that hold them back."""

from datetime import UTC, datetime

import pytest

from edgekube.api.errors import Forbidden, TooManyRequests
from edgekube.apiserver.eviction import expendable, spend

NS = "/api/v1/namespaces/default"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def budget(name="b", *, selector=None, **spec):
    chosen = {"matchLabels": {"app": "p"}} if selector is None else selector
    return {"metadata": {"name": name}, "spec": {"minAvailable": 1, "selector": chosen, **spec}}


def state(**fields):
    counts = {"currentHealthy": 2, "desiredHealthy": 1, "disruptionsAllowed": 1, "expectedPods": 2}
    return {"status": counts | {"observedGeneration": 1} | fields}


@pytest.fixture
async def lab(api, pod, account):
    async def running(name, *, ready=True, **labels):
        tree = pod(name, nodeName="n")
        tree["metadata"]["labels"] = labels or {"app": "p"}
        await api.post(f"{NS}/pods", tree)
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        await api.patch(
            f"{NS}/pods/{name}/status", {"status": {"phase": "Running", "conditions": [condition]}}
        )

    api.running = running
    api.evict = lambda name, code=201, **more: api.post(
        f"{NS}/pods/{name}/eviction{more.pop('query', '')}", {"metadata": {"name": name}, **more}, code=code
    )
    return api


async def going(api, name):
    return "deletionTimestamp" in (await api.get(f"{NS}/pods/{name}"))["metadata"]


async def test_a_budget_is_spent_once(lab):
    for name in ("p1", "p2"):
        await lab.running(name)
    made = await lab.post(BUDGETS, budget())
    assert made["status"] == {
        "currentHealthy": 0,
        "desiredHealthy": 0,
        "disruptionsAllowed": 0,
        "expectedPods": 0,
    }
    refused = await lab.evict("p1", code=429)
    assert refused["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    assert refused["details"] == {
        "causes": [{
            "reason": "DisruptionBudget", "message": "The disruption budget b is still being processed by the server.",
        }],
        "retryAfterSeconds": 10,
    }  # fmt: skip
    await lab.patch(f"{BUDGETS}/b/status", state())
    await lab.evict("p1", query="?dryRun=All")
    assert not await going(lab, "p1")
    assert (await lab.evict("p1"))["status"] == "Success"
    found = await lab.get(f"{NS}/pods/p1")
    target = next(c for c in found["status"]["conditions"] if c["type"] == "DisruptionTarget")
    assert (target["status"], target["reason"]) == ("True", "EvictionByEvictionAPI")
    spent = (await lab.get(f"{BUDGETS}/b"))["status"]
    assert (spent["disruptionsAllowed"], list(spent["disruptedPods"])) == (0, ["p1"])
    assert [(c["type"], c["status"]) for c in spent["conditions"]] == [("DisruptionAllowed", "False")]
    refused = await lab.evict("p2", code=429)
    assert refused["details"]["causes"][0]["message"] == (
        "The disruption budget b needs 1 healthy pods and has 2 currently"
    )
    # What goes already is not asked about again.
    await lab.evict("p1")


async def test_pods_that_no_budget_guards(lab, pod):
    await lab.running("other", app="other")
    await lab.post(BUDGETS, budget())
    await lab.evict("other")
    assert await going(lab, "other")
    pending = pod("p", nodeName="n")
    await lab.post(f"{NS}/pods", pending)
    await lab.evict("p")
    assert await going(lab, "p")


async def test_two_budgets_are_too_many(lab):
    await lab.running("p1")
    await lab.post(BUDGETS, budget())
    await lab.post(BUDGETS, budget("c", selector={}))
    assert "more than one PodDisruptionBudget" in (await lab.evict("p1", code=500))["message"]


async def test_unhealthy_pods_as_the_policy_says(lab):
    await lab.running("p1", ready=False)
    await lab.post(BUDGETS, budget())
    await lab.patch(f"{BUDGETS}/b/status", state(currentHealthy=0, disruptionsAllowed=0))
    await lab.evict("p1", code=429)
    await lab.patch(f"{BUDGETS}/b", {"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}})
    await lab.evict("p1")
    assert await going(lab, "p1")
    assert "disruptedPods" not in (await lab.get(f"{BUDGETS}/b"))["status"]


async def test_preconditions(lab):
    await lab.running("p1")
    await lab.evict("p1", code=409, deleteOptions={"preconditions": {"uid": "another"}})
    await lab.evict("p1", code=409, deleteOptions={"preconditions": {"resourceVersion": "1"}})
    assert not await going(lab, "p1")
    found = (await lab.get(f"{NS}/pods/p1"))["metadata"]
    conditions = {"uid": found["uid"], "resourceVersion": found["resourceVersion"]}
    await lab.evict("p1", deleteOptions={"preconditions": conditions})
    assert await going(lab, "p1")


def test_a_healthy_budget_lets_unready_pods_go():
    pod = {"metadata": {"name": "p"}}
    assert expendable({"spec": {}} | state(), pod)
    assert not expendable({"spec": {}} | state(desiredHealthy=3), pod)
    assert not expendable({"spec": {}} | state(desiredHealthy=0), pod)


def test_budgets_that_lost_count():
    meta = {"metadata": {"name": "b", "generation": 1}}
    with pytest.raises(Forbidden, match="negative"):
        spend(meta | state(disruptionsAllowed=-1), "p", NOW)
    with pytest.raises(Forbidden, match="too big"):
        spend(meta | state(disruptedPods={str(n): "" for n in range(2001)}), "p", NOW)
    failed = {"type": "DisruptionAllowed", "reason": "SyncFailed", "message": "no scale"}
    with pytest.raises(TooManyRequests) as raised:
        spend(meta | state(disruptionsAllowed=0, conditions=[failed]), "p", NOW)
    assert raised.value.causes[0].message.endswith("because it failed sync: no scale")
