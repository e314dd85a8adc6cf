"""Two nodes on one LAN: joining over the network, pods that reach each other, a power cut, a partition."""

import json

import pytest

from e2e.harness import eventually, running_lab
from edgekube.app import demo

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with running_lab(tmp_path_factory.mktemp("lab"), name="ek-lab", nodes=2) as made:
        yield made.lab


def pods_of(lab):
    items = lab.api().json("GET", "/api/v1/namespaces/default/pods?labelSelector=app%3Ddemo")["items"]
    return {pod["spec"].get("nodeName"): pod for pod in items if "deletionTimestamp" not in pod["metadata"]}


def ready(pod):
    return any(
        (c["type"], c["status"]) == ("Ready", "True") for c in pod.get("status", {}).get("conditions", ())
    )


def spread():
    """The demo, with one replica a node."""
    tree = demo.deployment()
    term = {"labelSelector": {"matchLabels": {"app": "demo"}}, "topologyKey": "kubernetes.io/hostname"}
    tree["spec"]["template"]["spec"]["affinity"] = {
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    }
    return tree


def test_pods_on_two_nodes_reach_each_other(lab):
    api = lab.api()
    api.json("POST", "/apis/apps/v1/namespaces/default/deployments", spread())
    api.json("POST", "/api/v1/namespaces/default/services", demo.service())
    eventually(
        lambda: len(pods_of(lab)) == 2 and all(map(ready, pods_of(lab).values())),
        "a pod is Ready on each node",
    )
    address = api.json("GET", "/api/v1/namespaces/default/services/demo")["spec"]["clusterIP"]
    code = (
        "import json, urllib.request as u;"
        f"print(json.dumps([u.urlopen('http://{address}/', timeout=5).read().decode().split()[-1] for _ in range(10)]))"
    )
    for node in lab.names:
        out = eventually(
            lambda name=node: lab.run(name, ["python3", "-c", code]).stdout, f"the Service answers on {node}"
        )
        assert sorted(json.loads(out)) == ["node1"] * 5 + ["node2"] * 5


def test_a_partitioned_node_keeps_its_pods_and_comes_back(lab):
    before = {
        node: pod["status"]["containerStatuses"][0]["containerID"] for node, pod in pods_of(lab).items()
    }
    lab.link("node1", "down")
    eventually(lambda: not lab.api().node_ready("node1"), "the master notices", seconds=100)
    lab.link("node1", "up")
    eventually(lambda: lab.api().node_ready("node1"), "the node is back", seconds=100)
    after = {node: pod["status"]["containerStatuses"][0]["containerID"] for node, pod in pods_of(lab).items()}
    assert after == before


def test_a_slow_and_lossy_cable_is_good_enough(lab):
    """A pod is replaced on the far node, and nobody calls the node unreachable."""
    lab.latency("node1", 60)
    lab.loss("node1", 5)
    try:
        before = pods_of(lab)["node1"]["metadata"]
        lab.api().call("DELETE", f"/api/v1/namespaces/default/pods/{before['name']}")
        eventually(
            lambda: (
                "node1" in pods_of(lab)
                and pods_of(lab)["node1"]["metadata"]["uid"] != before["uid"]
                and ready(pods_of(lab)["node1"])
            ),
            "another pod runs",
            seconds=100,
        )
        assert lab.api().node_ready("node1")
    finally:
        lab.latency("node1", 0)
        lab.loss("node1", 0)


def test_a_power_cut_node_starts_its_pods_again(lab):
    lab.cut_power("node2")
    lab.start_node("node2")
    eventually(lambda: lab.api().node_ready("node2"), "the node is back", seconds=100)
    eventually(
        lambda: "node2" in pods_of(lab) and ready(pods_of(lab)["node2"]), "its pod runs again", seconds=100
    )


def test_a_node_boots_without_the_master_and_runs_its_pods(lab):
    """Power returns, the network does not: the pods run from what the node's disk knows."""
    eventually(
        lambda: "node2" in pods_of(lab) and ready(pods_of(lab)["node2"]),
        "the pod on node2 is ready",
        seconds=100,
    )
    lab.cut_power("node2")
    lab.start_node("node2", plugged=False)
    ask = ["podman", "--url", "unix:///run/edgekube-node/podman.sock", "ps", "-q", "--no-trunc"]

    def containers():
        return lab.run("node2", ask).stdout.split()

    running = eventually(containers, "its container runs again")
    assert len(running) == 1
    lab.plug("node2")
    eventually(lambda: lab.api().node_ready("node2"), "the node is back", seconds=100)
    eventually(
        lambda: (
            ready(pods_of(lab)["node2"])
            and pods_of(lab)["node2"]["status"]["containerStatuses"][0]["containerID"]
            == f"podman://{running[0]}"
        ),
        "the master knows the very same container",
        seconds=100,
    )
    assert containers() == running
