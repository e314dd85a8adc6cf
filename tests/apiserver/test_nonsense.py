"""Nonsense is refused, never an internal error."""

import pytest

NS = "/api/v1/namespaces/default"
APPS = "/apis/apps/v1/namespaces/default"
BODIES = [
    1, "x", [], [1], {"metadata": 1}, {"metadata": []}, {"metadata": {"name": 1}}, {"metadata": {"labels": 1}},
    {"metadata": {"finalizers": [1]}}, {"metadata": None}, {"spec": []}, {"spec": 1}, {"spec": None}, {"status": 1},
    {"spec": {"containers": 1}}, {"spec": {"containers": [None]}}, {"spec": {"ports": [{}]}}, {"kind": 1},
    {"apiVersion": []}, {"target": 1}, {"deleteOptions": 1}, {"gracePeriodSeconds": []}, {"preconditions": 1},
    {"data": {"x": None}}, {"metadata": {"resourceVersion": 1}}, {"metadata": {"resourceVersion": "x"}},
    {"metadata": {"generateName": "x-", "ownerReferences": [1]}}, {"spec": {"clusterIP": 1}},
    {"spec": {"clusterIP": "x"}}, {"spec": {"ports": None, "type": "NodePort"}}, {"spec": {"template": 1}},
    {"spec": {"selector": {"matchExpressions": [{}]}}}, {"spec": {"replicas": "many"}},
]  # fmt: skip
OBJECTS = [
    f"{NS}/pods/p", f"{NS}/pods/p/status", f"{NS}/pods/p/ephemeralcontainers", f"{NS}/configmaps/c",
    f"{NS}/services/s", f"{APPS}/deployments/d", f"{APPS}/deployments/d/scale", "/api/v1/namespaces/default",
    "/api/v1/namespaces/default/finalize", "/api/v1/namespaces/default/status",
]  # fmt: skip
PLACES = [
    f"{NS}/pods", f"{NS}/configmaps", f"{NS}/services", f"{NS}/secrets", f"{NS}/events", f"{APPS}/deployments",
    f"{APPS}/replicasets", "/api/v1/nodes", "/api/v1/namespaces", f"{NS}/pods/p/binding", f"{NS}/pods/p/eviction",
    f"{NS}/serviceaccounts/default/token", f"{NS}/bindings", f"{NS}/endpoints", f"{NS}/persistentvolumeclaims",
    "/api/v1/persistentvolumes", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
    "/apis/coordination.k8s.io/v1/namespaces/default/leases",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "/apis/authentication.k8s.io/v1/tokenreviews",
]  # fmt: skip


@pytest.fixture
async def filled(api, account, pod, config_map, deployment):
    await api.post(f"{NS}/pods", pod("p"))
    await api.post(f"{NS}/configmaps", config_map("c"))
    await api.post(f"{APPS}/deployments", deployment("d"))
    await api.post(f"{NS}/services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
    return api


@pytest.mark.parametrize("path", PLACES)
async def test_creates(filled, path):
    for body in BODIES:
        response = await filled.send("POST", path, body)
        assert response.code < 500, (body, response.body)


@pytest.mark.parametrize("path", OBJECTS)
async def test_changes(filled, path):
    for body in BODIES:
        response = await filled.send("PUT", path, body)
        assert response.code < 500, (body, response.body)
        for kind in ("merge-patch+json", "strategic-merge-patch+json", "json-patch+json"):
            response = await filled.send("PATCH", path, body, content_type=f"application/{kind}")
            assert response.code < 500, (kind, body, response.body)


async def test_deletes(filled):
    for body in BODIES:
        response = await filled.send("DELETE", f"{NS}/configmaps/none", body)
        assert response.code in {400, 404, 422}, (body, response.body)


@pytest.mark.parametrize(
    "query",
    [
        "limit=x", "limit=-1", "continue=x", "resourceVersion=-1", "timeoutSeconds=x&watch=1", "labelSelector=(",
        "fieldSelector=x", "gracePeriodSeconds=x", "watch=maybe", "resourceVersionMatch=x", "dryRun=x",
    ],
)  # fmt: skip
async def test_queries(filled, query):
    response = await filled.send("GET", f"{NS}/configmaps?{query}")
    assert response.code < 500, response.body
    if response.events is not None:
        await response.events.aclose()
