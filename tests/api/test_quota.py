"""Quotas and what pods ask for, as pure functions."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api import quantity, quota
from edgekube.api.podresources import of_pod, texts_of_pod
from edgekube.api.quotapods import counts

AMOUNTS = (
    st.integers(0, 1 << 50).map(str)
    | st.integers(0, 9999).map(lambda n: f"{n}m")
    | st.integers(0, 9999).map(lambda n: f"{n}Mi")
)


@given(AMOUNTS, AMOUNTS)
def test_what_is_added_can_be_taken_back(left, right):
    total = quota.plus(left, right)
    assert quantity.parse(total) == quantity.parse(left) + quantity.parse(right)
    assert quantity.parse(quota.minus(total, right)) == quantity.parse(left)


@given(st.lists(st.integers(1, 5), max_size=12), st.integers(0, 20))
def test_charging_one_after_the_other_never_exceeds(costs, hard):
    tree = {
        "metadata": {"name": "q"},
        "status": {"hard": {"requests.cpu": str(hard)}, "used": {"requests.cpu": "0"}},
    }
    paid = 0
    for cost in costs:
        pod = {"metadata": {}, "spec": {"containers": [container("c", cpu=str(cost))]}}
        verdict = quota.judge([tree], quota.evaluator_of("pods"), pod, None)
        assert bool(verdict.refusal) == (paid + cost > hard)
        for _, charge in verdict.charges:
            tree = quota.charged(tree, charge)
            paid += cost
    assert quantity.parse(tree["status"]["used"]["requests.cpu"]) == paid <= hard


def container(name, *, restart="", **requests):
    found = {"name": name, "resources": {"requests": requests}}
    return {**found, "restartPolicy": restart} if restart else found


@pytest.mark.parametrize(
    ("init", "plain", "total"),
    [
        ([], ["1", "2"], 3),
        (["5"], ["1", "2"], 5),
        ([("1",)], ["1", "2"], 4),
        ([("1",), "5"], ["1"], 6),
        (["5", ("1",)], ["1"], 5),
    ],
)
def test_init_containers_and_sidecars(init, plain, total):
    """A tuple is a sidecar: it runs beside all that comes after it."""
    spec = {
        "initContainers": [
            container(f"i{n}", cpu=one[0], restart="Always") if isinstance(one, tuple) else container(f"i{n}", cpu=one)
            for n, one in enumerate(init)
        ],
        "containers": [container(f"c{n}", cpu=one) for n, one in enumerate(plain)],
    }  # fmt: skip
    assert of_pod(spec, "requests") == {"cpu": Decimal(total)}


def test_overhead_and_pod_level_resources():
    spec = {"containers": [container("c", memory="64Mi")], "overhead": {"memory": "64Mi"}}
    assert texts_of_pod(spec, "requests") == {"memory": "128Mi"}
    spec["resources"] = {"requests": {"memory": "1Gi"}}
    assert texts_of_pod(spec, "requests") == {"memory": "1088Mi"}


@pytest.mark.parametrize(
    ("phase", "deleted", "now", "expected"),
    [
        ("Running", "", 0, True),
        ("Failed", "", 0, False),
        ("Running", "1970-01-01T00:01:40Z", 100, True),
        ("Running", "1970-01-01T00:01:40Z", 131, False),
    ],
)
def test_which_pods_count(phase, deleted, now, expected):
    metadata = {"deletionTimestamp": deleted, "deletionGracePeriodSeconds": 30} if deleted else {}
    assert counts({"metadata": metadata, "status": {"phase": phase}}, now) is expected


def test_names_and_their_resources():
    names = (
        "pods",
        "requests.example.com/gpu",
        "count/jobs.batch",
        "secrets",
        "gold.storageclass.storage.k8s.io/requests.storage",
    )
    assert quota.resources_of(names) == {"pods", "jobs.batch", "secrets", "persistentvolumeclaims"}
