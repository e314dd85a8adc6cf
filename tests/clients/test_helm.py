"""helm: three charts installed, upgraded, rolled back, tested and uninstalled, each as its users would."""

import asyncio
import json
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(240)
CHARTS = Path(__file__).parent / "charts"


@pytest.fixture
def run(world, helm):
    """Run helm against the cluster."""
    places = {
        name: str(world.folder / name.lower())
        for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")
    }
    env = {**os.environ, **places, "KUBECONFIG": str(world.config), "HOME": str(world.folder)}

    async def go(*arguments, code=0):
        return await world.run(helm, *arguments, code=code, seconds=100, env=env)

    return go


async def field(world, what, path):
    return await world.kubectl("get", *what.split(), "-o", f"jsonpath={path}")


async def history(run, name):
    rows = json.loads(await run("history", name, "-o", "json"))
    return [(row["revision"], row["status"]) for row in rows]


@pytest.mark.parametrize("apply", ["--server-side=true", "--server-side=false"])
async def test_a_shop(world, run, apply):
    chart = CHARTS / "shop"
    told = await run("install", "shop", chart, "--wait", "--timeout=60s", apply)
    assert "STATUS: deployed" in told
    assert "shop says hello, guarded\non Kubernetes 1" in told
    assert await field(world, "job shop-migrate", "{.status.succeeded}") == "1"
    assert await field(world, "cm shop-installed", "{.data.revision}") == "1"
    assert await field(world, "deploy shop", "{.status.readyReplicas}") == "2"
    for kind in ("ingress", "hpa", "pdb", "role", "rolebinding", "sa", "svc"):
        assert (
            await field(world, f"{kind} shop", "{.metadata.labels.app\\.kubernetes\\.io/managed-by}")
            == "Helm"
        )

    first = await field(world, "job shop-migrate", "{.metadata.uid}")
    changes = ("--set", "greeting=bye,replicas=3,tag=2")
    assert 'Release "shop" has been upgraded' in await run(
        "upgrade", "shop", chart, "--wait", *changes, apply
    )
    assert (
        await field(world, "deploy shop", "{.status.readyReplicas} {.spec.template.spec.containers[0].image}")
        == "3 localhost/shop:2"
    )
    assert await field(world, "hpa shop", "{.spec.minReplicas}") == "3"
    assert await field(world, "cm shop", "{.data.greeting}") == "bye"
    assert await field(world, "job shop-migrate", "{.metadata.uid}") != first

    told = await run("test", "shop")
    assert "TEST SUITE:     shop-test" in told
    assert "Phase:          Succeeded" in told
    assert "Rollback was a success" in await run("rollback", "shop", "1", "--wait")
    assert (
        await field(world, "deploy shop", "{.status.readyReplicas} {.spec.template.spec.containers[0].image}")
        == "2 localhost/shop:1"
    )
    assert await history(run, "shop") == [(1, "superseded"), (2, "superseded"), (3, "deployed")]
    assert json.loads(await run("list", "-o", "json"))[0]["revision"] == "3"
    assert "greeting: hello" in await run("get", "manifest", "shop")
    assert json.loads(await run("get", "values", "shop", "-o", "json", "--all"))["replicas"] == 2

    assert 'release "shop" uninstalled' in await run("uninstall", "shop", "--wait")
    left = await world.kubectl("get", "deploy,svc,ingress,hpa,pdb,role,rolebinding,pods", "-o", "name")
    # Hooks are not the release's own: they stay until their policy removes them.
    assert {name for name in left.split() if "migrate" not in name and "test" not in name} == {
        "service/kubernetes"
    }
    assert await run("list", "-q") == ""


async def test_a_database(world, run):
    chart = CHARTS / "database"
    await run("upgrade", "--install", "db", chart, "--wait", "--timeout=60s")
    assert await field(world, "sts db", "{.status.readyReplicas}") == "2"
    assert await field(world, "pods", "{.items[*].metadata.name}") == "db-0 db-1"
    secret = await field(world, "secret db-password", "{.data.password}")
    assert "Succeeded" in await run("test", "db")
    assert "not found" in await world.kubectl("get", "pod", "db-ping", code=1)

    await run("upgrade", "db", chart, "--wait", "--set", "replicas=3", "--atomic")
    assert await field(world, "sts db", "{.status.readyReplicas}") == "3"
    assert await field(world, "secret db-password", "{.data.password}") == secret
    refused = await run("upgrade", "db", chart, "--set", "image=", code=1)
    assert "image: Required value" in refused
    assert [status for _, status in await history(run, "db")] == ["superseded", "deployed", "failed"]
    await run("rollback", "db", "1", "--wait")
    assert await field(world, "sts db", "{.status.replicas}") == "2"

    kept = await run("uninstall", "db", "--wait")
    assert "[Secret] db-password" in kept
    assert await field(world, "secret db-password", "{.data.password}") == secret
    assert "No resources found" in await world.kubectl("get", "sts,cronjobs,jobs")


async def test_an_operator(world, run):
    chart = CHARTS / "sensors"
    await run("install", "s", chart, "--wait", "--timeout=60s", "--namespace=lab", "--create-namespace")
    assert await field(world, "sn s -n lab", "{.spec}") == '{"interval":10,"unit":"celsius"}'
    account = "--as=system:serviceaccount:lab:s-operator"
    assert await world.kubectl("auth", "can-i", "watch", "sensors.example.com", "-A", account) == "yes\n"
    assert "no" in await world.kubectl(
        "auth", "can-i", "delete", "sensors.example.com", "-A", account, code=1
    )
    inside = ("--namespace=lab",)
    await run("upgrade", "s", chart, "--set", "interval=20", *inside)
    assert await field(world, "sn s -n lab", "{.spec.interval}") == "20"
    assert "more often than every 1000 s" in await run(
        "upgrade", "s", chart, "--set", "interval=2000", *inside, code=1
    )
    assert "Succeeded" in await run("test", "s", *inside)
    await run("rollback", "s", "1", *inside)
    assert await field(world, "sn s -n lab", "{.spec.interval}") == "10"
    await run("uninstall", "s", "--wait", *inside)
    assert "No resources found" in await world.kubectl("get", "sensors", "-A")
    # helm never removes a definition: its resources would go with it.
    assert (
        await world.kubectl("get", "crd", "-o", "name")
        == "customresourcedefinition.apiextensions.k8s.io/sensors.example.com\n"
    )


async def test_a_template_shown_without_being_installed(world, run):
    shown, linted = await asyncio.gather(
        run("install", "shop", CHARTS / "shop", "--dry-run=server"), run("lint", CHARTS / "shop")
    )
    assert "kind: PodDisruptionBudget" in shown
    assert "0 chart(s) failed" in linted
    assert "No resources found" in await world.kubectl("get", "deploy")
