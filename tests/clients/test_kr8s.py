"""kr8s, as it is on PyPI."""

import asyncio
from contextlib import aclosing

import pytest

kr8s = pytest.importorskip("kr8s")
from kr8s.asyncio import objects  # noqa: E402 - after the question whether it is here

# It warns of every version of Kubernetes that is younger than itself.
pytestmark = pytest.mark.filterwarnings("ignore:Kubernetes version .* is not supported:UserWarning")

DEPLOYMENT = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "replicas": 1, "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "localhost/x:1"}]},
        },
    },
}  # fmt: skip


@pytest.fixture
async def api(cluster):
    found = await kr8s.asyncio.api(kubeconfig=str(cluster.config))
    yield found
    if found._session is not None:
        await found._session.aclose()


async def config_map(api, name, **data):
    metadata = {"name": name, "namespace": "default", "labels": {"of": "test"}}
    return await objects.ConfigMap({"metadata": metadata, "data": data}, api=api)


async def names(found):
    return [item.name async for item in found]


async def test_crud(api):
    a = await config_map(api, "a", x="1")
    await a.create()
    assert await a.exists()
    await a.patch({"data": {"y": "2"}})
    assert dict(a.data) == {"x": "1", "y": "2"}
    await a.patch([{"op": "remove", "path": "/data/x"}], type="json")
    await a.refresh()
    assert dict(a.data) == {"y": "2"}
    await a.label({"more": "yes"})
    await a.annotate({"note": "n"})
    assert a.labels["more"] == "yes"
    await (await config_map(api, "b")).create()
    assert await names(api.get("configmaps", namespace="default", label_selector={"of": "test"})) == [
        "a",
        "b",
    ]
    assert await names(api.get("configmaps", namespace="default", field_selector="metadata.name=b")) == ["b"]
    await a.delete()
    assert not await a.exists()
    with pytest.raises(kr8s.NotFoundError):
        await a.refresh()


async def test_watch(api):
    item = await config_map(api, "w")
    await item.create()
    seen = []
    # Left by `break` the watch would keep its socket until the garbage collector comes by.
    async with asyncio.timeout(20), aclosing(api.watch("configmaps", namespace="default")) as watch:
        async for event, found in watch:
            seen.append((event, found.name))
            if event == "ADDED":
                await item.patch({"data": {"a": "b"}})
            elif event == "MODIFIED":
                await item.delete()
            else:
                break
    assert seen == [("ADDED", "w"), ("MODIFIED", "w"), ("DELETED", "w")]


async def test_workloads(world, api):
    web = await objects.Deployment(DEPLOYMENT, api=api)
    await web.create()
    await web.wait("condition=Available", timeout=20)
    await web.scale(2)

    async def scaled():
        return len(await web.pods()) == 2

    await world.eventually(scaled)
    await web.delete(propagation_policy="Foreground")

    async def gone():
        return not await names(api.get("pods", namespace="default"))

    await world.eventually(gone)


async def test_kinds_it_never_heard_of(api):
    found = objects.new_class(
        "NetworkPolicy", version="networking.k8s.io/v1", plural="networkpolicies", asyncio=True
    )
    policy = await found(
        {"metadata": {"name": "p", "namespace": "default"}, "spec": {"podSelector": {}}}, api=api
    )
    await policy.create()
    assert await names(api.get(found, namespace="default")) == ["p"]
    kinds = {row["kind"] for row in await api.api_resources()}
    assert {"Deployment", "Pod", "CronJob", "Ingress"} <= kinds
    assert (await api.version())["major"] == "1"
