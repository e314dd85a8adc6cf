"""Charts installed by helm on real podman: their workloads become ready and do their work."""

import json
import platform
import shutil
from pathlib import Path

import pytest

from e2e.harness import eventually
from edgekube.app import demo
from edgekube.runtime.archive import write_archive

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
CHARTS = Path(__file__).parents[1] / "clients" / "charts"
SERVE = """
case $HOSTNAME in
*-migrate*|*-test*|*-ping*|*-backup*|*-farewell*) echo done; exit 0;;
esac
mkdir -p /www /data
echo "${greeting:-ready} $PASSWORD" > /www/index.html
hostname >> /data/who
trap "exit 0" TERM
httpd -f -p 8080 -h /www &
wait
"""


@pytest.fixture(scope="module", autouse=True)
def images(cluster):
    """The images the charts name, each ending at once where a hook or a test runs it."""
    folder = cluster.options.data_dir / "agent" / "images"
    for name in ("localhost/shop:1", "localhost/shop:2", "localhost/db:1", "localhost/sensors:1"):
        write_archive(
            folder / f"{name.rsplit('/', 1)[1].replace(':', '-')}.tar",
            name,
            binary=Path(shutil.which("busybox") or "/bin/busybox"),
            applets=demo.APPLETS.split(),
            files={"etc/image": name.encode()},
            command=("sh", "-c", SERVE),
            architecture=demo.ARCHITECTURES.get(platform.machine(), platform.machine()),
        )


@pytest.fixture
def run(cluster, space, helm, tmp_path):
    """Run helm in the test's namespace."""
    places = {
        name: str(tmp_path / name) for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")
    }

    def go(*words):
        command = [
            "env",
            *(f"{name}={path}" for name, path in places.items()),
            str(helm),
            "--namespace",
            space,
        ]
        done = cluster.run([*command, *map(str, words)], timeout=150)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}{cluster.logs()}"
        return done.stdout

    return go


@pytest.fixture
def says(cluster, k):
    """Wait until the shop's Service answers with a word."""

    def wait(word):
        address = k("get", "svc", "shop", "-o", "jsonpath={.spec.clusterIP}")
        ask = ("busybox", "wget", "-qO-", f"http://{address}/")
        eventually(lambda: word in cluster.inside(*ask).stdout, f"the shop says {word}", seconds=20)

    return wait


def test_a_shop_chart(run, k, says):
    run("install", "shop", CHARTS / "shop", "--wait", "--wait-for-jobs", "--timeout=90s")
    says("hello")
    assert k("logs", "job/shop-migrate").strip() == "done"
    eventually(
        lambda: k("get", "pdb", "shop", "-o", "jsonpath={.status.disruptionsAllowed}") == "1", "budget"
    )
    eventually(
        lambda: "cpu" in k("get", "hpa", "shop", "-o", "jsonpath={.status.currentMetrics}"), "hpa reads usage"
    )
    run("upgrade", "shop", CHARTS / "shop", "--wait", "--timeout=90s", "--set", "greeting=bye,tag=2")
    says("bye")
    assert k("exec", "deploy/shop", "--", "cat", "/etc/image") == "localhost/shop:2"
    assert "Succeeded" in run("test", "shop", "--logs")
    run("rollback", "shop", "1", "--wait", "--timeout=90s")
    says("hello")
    run("uninstall", "shop", "--wait")
    eventually(lambda: "deploy" not in k("get", "deploy,rs", "-o", "name"), "its workloads are gone")


def test_a_database_chart(cluster, space, run, k):
    run("install", "db", CHARTS / "database", "--wait", "--timeout=90s", "--set", "storage=10Mi")
    assert [claim["status"]["phase"] for claim in cluster.json("-n", space, "get", "pvc")["items"]] == [
        "Bound"
    ] * 2
    password = k("exec", "db-0", "--", "sh", "-c", "echo $PASSWORD").strip()
    assert len(password) == 20
    assert k("exec", "db-1", "--", "cat", "/data/who").strip() == "db-1"
    run("upgrade", "db", CHARTS / "database", "--wait", "--timeout=90s", "--set", "storage=10Mi,replicas=1")
    eventually(
        lambda: json.loads(k("get", "sts", "db", "-o", "json"))["status"]["replicas"] == 1, "one is left"
    )
    assert k("exec", "db-0", "--", "sh", "-c", "echo $PASSWORD").strip() == password
    run("uninstall", "db", "--wait", "--timeout=90s")
    k("delete", "pvc", "--all", "--wait=true")


def test_an_operator_chart(cluster, run, k, bearing):
    try:
        run("install", "s", CHARTS / "sensors", "--wait", "--timeout=90s")
        k("rollout", "status", "deploy/s-operator", "--timeout=60s")
        token = k(
            "exec", "deploy/s-operator", "--", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token"
        )
        seen = bearing(token, "get", "sensors", "-o", "name")
        assert seen.strip() == "sensor.example.com/s"
        run("uninstall", "s", "--wait", "--timeout=90s")
    finally:
        cluster.kubectl("delete", "crd", "sensors.example.com", "--ignore-not-found", "--wait=true")
