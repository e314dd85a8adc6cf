"""ResourceQuota through the API: charging, refusing, refunding, and never too much."""

import asyncio

import pytest

NS = "/api/v1/namespaces/default"
PODS = f"{NS}/pods"


async def limited(api, name="q", used=None, **hard):
    """Make a quota whose status a controller has filled."""
    hard = {key.replace("__", "."): amount for key, amount in hard.items()}
    await restricted(api, name, {"hard": hard}, used or dict.fromkeys(hard, "0"))


async def restricted(api, name, spec, used):
    made = await api.post(f"{NS}/resourcequotas", {"metadata": {"name": name}, "spec": spec})
    made["status"] = {"hard": spec["hard"], "used": used}
    await api.put(f"{NS}/resourcequotas/{name}/status", made)


async def used(api, name="q"):
    return (await api.get(f"{NS}/resourcequotas/{name}"))["status"]["used"]


def containers(**resources):
    return [{"name": "c", "image": "localhost/x:1", "resources": resources}]


async def test_a_hundred_writers_never_exceed(api, account, pod):
    await limited(api, pods="17")
    responses = await asyncio.gather(*(api.send("POST", PODS, pod(f"p{n}")) for n in range(100)))
    codes = [response.code for response in responses]
    assert codes.count(201) == 17
    assert codes.count(403) == 83
    assert len((await api.get(PODS))["items"]) == 17
    assert (await used(api))["pods"] == "17"


async def test_the_words_when_it_is_exceeded(api, account, pod):
    await limited(api, pods="2", used={"pods": "2"})
    status = await api.post(PODS, pod("p"), code=403)
    assert status["message"] == (
        'pods "p" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2'
    )


async def test_what_must_be_specified(api, account, pod):
    await limited(api, limits__cpu="2", requests__memory="1Gi")
    status = await api.post(PODS, pod("p"), code=403)
    assert status["message"] == (
        'pods "p" is forbidden: failed quota: q: must specify limits.cpu for: c; requests.memory for: c'
    )


async def test_compute_is_charged_in_its_own_form(api, account, pod):
    await limited(api, requests__cpu="1", limits__memory="2Gi")
    resources = {"requests": {"cpu": "300m"}, "limits": {"memory": "512Mi"}}
    await api.post(PODS, pod("a", containers=containers(**resources)))
    await api.post(PODS, pod("b", containers=containers(**resources)))
    assert await used(api) == {"requests.cpu": "600m", "limits.memory": "1Gi"}
    big = {"requests": {"cpu": "500m"}, "limits": {"memory": "2Gi"}}
    status = await api.post(PODS, pod("c", containers=containers(**big)), code=403)
    assert status["message"].endswith(
        "exceeded quota: q, requested: limits.memory=2Gi,requests.cpu=500m, used: limits.memory=1Gi,requests.cpu=600m, "
        "limited: limits.memory=2Gi,requests.cpu=1"
    )


async def test_a_write_that_fails_is_given_back(api, account, pod):
    await limited(api, pods="2")
    await api.post(PODS, pod("a"))
    for _ in range(3):
        await api.post(PODS, pod("a"), code=409)
    await api.post(f"{PODS}?dryRun=All", pod("x"))
    await api.post(PODS, pod("b"))
    assert await used(api) == {"pods": "2"}
    await api.post(PODS, pod("c"), code=403)


async def test_two_quotas_are_charged_together_or_not_at_all(api, account, pod):
    await limited(api, "wide", pods="10")
    await limited(api, "narrow", pods="1")
    await api.post(PODS, pod("a"))
    status = await api.post(PODS, pod("b"), code=403)
    assert "exceeded quota: narrow" in status["message"]
    assert await used(api, "wide") == {"pods": "1"}


async def test_without_status_it_limits_nothing_yet(api, account, pod):
    body = {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}}
    await api.post(f"{NS}/resourcequotas", body)
    await api.post(PODS, pod("a"))


@pytest.mark.parametrize(
    ("spec", "counted"),
    [
        ({"scopes": ["BestEffort"]}, True),
        ({"scopes": ["NotBestEffort"]}, False),
        ({"scopes": ["Terminating"]}, False),
        ({"scopes": ["NotTerminating"]}, True),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}]}}, False),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "DoesNotExist"}]}}, True),
    ],
)  # fmt: skip
async def test_scopes(api, account, pod, spec, counted):
    await restricted(api, "q", {"hard": {"pods": "5"}, **spec}, {"pods": "0"})
    await api.post(PODS, pod("a"))
    assert await used(api) == {"pods": str(int(counted))}


async def test_services_and_anything_by_number(api, config_map):
    await limited(
        api,
        services="5",
        services__nodeports="2",
        **{"count/configmaps": "1", "services__loadbalancers": "1"},
    )
    ports = [{"name": "a", "port": 1}, {"name": "b", "port": 2}]
    service = {"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": ports}}
    await api.post(f"{NS}/services", service)
    found = await used(api)
    assert (found["services"], found["services.nodeports"]) == ("1", "2")
    balanced = {"metadata": {"name": "t"}, "spec": {"type": "LoadBalancer", "ports": ports}}
    status = await api.post(f"{NS}/services", balanced, code=403)
    assert "requested: services.nodeports=2, used: services.nodeports=2" in status["message"]
    await api.post(f"{NS}/configmaps", config_map("a"))
    status = await api.post(f"{NS}/configmaps", config_map("b"), code=403)
    assert status["message"] == (
        'configmaps "b" is forbidden: exceeded quota: q, requested: count/configmaps=1, '
        "used: count/configmaps=1, limited: count/configmaps=1"
    )


async def test_a_service_that_grows_pays_the_difference(api):
    await limited(api, services__nodeports="1", services="9")
    service = {"metadata": {"name": "s"}, "spec": {"type": "ClusterIP", "ports": [{"port": 1}]}}
    await api.post(f"{NS}/services", service)
    await api.patch(f"{NS}/services/s", {"spec": {"type": "NodePort"}})
    assert await used(api) == {"services.nodeports": "1", "services": "1"}
    more = {"spec": {"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]}}
    assert "exceeded quota" in (await api.patch(f"{NS}/services/s", more, code=403))["message"]


async def test_claims_by_class(api):
    gold = "gold.storageclass.storage.k8s.io/requests.storage"
    await limited(api, requests__storage="10Gi", **{gold.replace(".", "__"): "2Gi"})

    def claim(name, size, storage_class):
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
        return {"metadata": {"name": name}, "spec": {**spec, "storageClassName": storage_class}}

    path = f"{NS}/persistentvolumeclaims"
    await api.post(path, claim("a", "4Gi", "tin"))
    await api.post(path, claim("b", "1Gi", "gold"))
    assert await used(api) == {"requests.storage": "5Gi", gold: "1Gi"}
    status = await api.post(path, claim("c", "2Gi", "gold"), code=403)
    assert f"requested: {gold}=2Gi, used: {gold}=1Gi, limited: {gold}=2Gi" in status["message"]


async def test_a_resized_pod_pays_the_difference(api, account, pod):
    await limited(api, requests__cpu="1")
    small = containers(requests={"cpu": "300m"})
    await api.post(PODS, pod("a", containers=small))

    def wish(cpu):
        return {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}}

    more = {"kind": "strategic-merge-patch+json"}
    await api.patch(f"{PODS}/a/resize", wish("500m"), **more)
    assert await used(api) == {"requests.cpu": "500m"}
    status = await api.patch(f"{PODS}/a/resize", wish("2"), code=403, **more)
    assert "exceeded quota: q, requested: requests.cpu=1500m, used: requests.cpu=500m" in status["message"]
