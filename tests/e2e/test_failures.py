"""kill -9 of every part while somebody writes: nothing acknowledged is lost, no container restarts."""

import os
import signal
import threading
import time

import pytest

from e2e.harness import eventually, start
from e2e.manifests import WEB
from edgekube.app.up import UpError, down

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PARTS = ("edgekube.cli.main server", "edgekube.cli.main agent", "mosquitto -c")


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    """A cluster of its own, since it is mistreated."""
    running = start(tmp_path_factory.mktemp("victim"), name="ek-victim", port=16445)
    yield running
    down(running.options, print)


class Writer(threading.Thread):
    """Creates ConfigMaps one after another and notes those the server acknowledged."""

    def __init__(self, cluster) -> None:
        super().__init__()
        self.cluster, self.acknowledged, self.refused = cluster, [], 0
        self.ending = threading.Event()

    def run(self) -> None:
        number = 0
        api = self.cluster.api
        while not self.ending.is_set() and number < 20_000:
            name = f"note-{number}"
            number += 1
            body = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name},
                "data": {"n": str(number)},
            }
            try:
                api.json("POST", "/api/v1/namespaces/default/configmaps", body)
            except UpError:
                self.refused += 1
            else:
                self.acknowledged.append(name)
            time.sleep(0.005)


def containers_of(cluster):
    """Return {container id: start time} of all running containers, as the API shows them."""
    found = {}
    for pod in cluster.json("get", "pods")["items"]:
        for status in pod["status"].get("containerStatuses", ()):
            found[status["containerID"]] = (status["restartCount"], status["state"]["running"]["startedAt"])
    return found


def test_kill_each_part_while_writing(victim):
    victim.kubectl("apply", "-f", "-", stdin=WEB)
    victim.kubectl("rollout", "status", "deployment/web", "--timeout=90s", timeout=100)
    before = containers_of(victim)
    assert len(before) == 2
    writer = Writer(victim)
    writer.start()
    try:
        for part in PARTS:
            wanted = len(writer.acknowledged) + 20
            eventually(lambda count=wanted: len(writer.acknowledged) > count, "the writer gets through")
            pid = victim.pid_of(part)
            assert pid, f"{part} is not running\n{victim.logs()}"
            os.kill(pid, signal.SIGKILL)
            eventually(
                lambda old=pid, name=part: victim.pid_of(name) not in {0, old}, f"{part} is started again"
            )
            eventually(
                lambda: victim.api.ready() and victim.api.node_ready("edge1"), "the node is Ready again"
            )
    finally:
        writer.ending.set()
        writer.join()
    stored = {item["metadata"]["name"] for item in victim.json("get", "configmaps")["items"]}
    assert set(writer.acknowledged) - stored == set()
    assert len(writer.acknowledged) > 60
    # Everything works as before: a change reaches the node and comes back, in the same containers.
    victim.kubectl("scale", "deployment/web", "--replicas=3")
    victim.kubectl(
        "wait", "--for=jsonpath={.status.readyReplicas}=3", "deployment/web", "--timeout=90s", timeout=100
    )
    after = containers_of(victim)
    assert {name: after.get(name) for name in before} == before


def test_pods_run_on_while_the_master_is_away(victim):
    server = victim.pid_of("edgekube.cli.main server")
    os.kill(server, signal.SIGSTOP)
    try:
        shown = victim.inside(
            "podman", "--url", "unix:///run/edgekube-node/podman.sock", "ps", "-q"
        ).stdout.split()
        assert len(shown) == 3
    finally:
        os.kill(server, signal.SIGCONT)
    eventually(lambda: victim.api.ready() and victim.api.node_ready("edge1"), "the node is Ready again")


def test_power_cut(victim):
    from edgekube.app import sandbox, up  # noqa: PLC0415 - this test only

    names = {item["metadata"]["name"] for item in victim.json("get", "configmaps")["items"]}
    sandbox.cut_power(victim.options.run_dir, victim.options.name)
    up.up(victim.options, print)
    assert {item["metadata"]["name"] for item in victim.json("get", "configmaps")["items"]} >= names
    victim.kubectl(
        "wait", "--for=jsonpath={.status.readyReplicas}=3", "deployment/web", "--timeout=120s", timeout=130
    )
    eventually(lambda: len(containers_of_running(victim)) == 3, "all three containers run again")


def containers_of_running(cluster):
    items = cluster.json("get", "pods", "-l", "app=web")["items"]
    return [
        status["containerID"]
        for pod in items
        for status in pod["status"].get("containerStatuses", ())
        if "running" in status["state"]
    ]
