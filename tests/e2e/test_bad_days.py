"""Bad days of a network of three nodes: nobody answers for names outside, two nodes have one pod CIDR."""

import json

import pytest

from e2e.harness import eventually, running_lab
from e2e.manifests import IMAGE
from e2e.places import Place
from edgekube.app.up import UpError

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

DNS = "10.96.0.10"
ELSEWHERE = "203.0.113.7"
CLUSTER = "kubernetes.default.svc.cluster.local"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with running_lab(tmp_path_factory.mktemp("bad"), name="ek-bad", nodes=3, network="routes") as made:
        yield made


def web(cluster, name, node):
    """Run a web server on a node and return it as a place."""
    tree = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 0, "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "main", "image": IMAGE, "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
                "command": ["sh", "-c", f"mkdir /w; echo {name} > /w/index.html; exec httpd -f -p 8080 -h /w"],
            }],
        },
    }  # fmt: skip
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(tree))
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s", timeout=70)
    pod = cluster.json("get", "pod", name)
    return Place(cluster.lab, node, pod["metadata"]["uid"], pod["status"]["podIP"])


def test_a_silent_upstream_does_not_hold_up_the_clusters_names(cluster):
    lab = cluster.lab
    (client,) = lab.clients
    upstream = Place(lab, client)
    tree = {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "edgekube-dns", "namespace": "kube-system"},
        "data": {"upstreamNameservers": json.dumps([lab.address(client)])},
    }  # fmt: skip
    node = Place(lab, "node1")
    with upstream.serving("serve_names", "53", ELSEWHERE):
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(tree))
        eventually(
            lambda: node.ask("resolve", DNS, "known.example.org") == [[ELSEWHERE]], "the upstream is asked"
        )
        (own,) = node.ask("resolve", DNS, CLUSTER)
        # From here on nothing comes back, as from a server without power.
        lab.link(client, "down")
        try:
            said = node.ask("overtake", DNS, "unknown.example.org", *[CLUSTER] * 20)
            assert said == {"slow": "rcode 2", "before": [own] * 20}
            # What is known from before is better than nothing, though its second is over (RFC 8767).
            assert node.ask("resolve", DNS, "known.example.org") == [[ELSEWHERE]]
            assert node.ask("resolve", DNS, "another.example.org", CLUSTER) == ["rcode 2", own]
        finally:
            lab.link(client, "up")
        eventually(
            lambda: node.ask("resolve", DNS, "unknown.example.org") == [[ELSEWHERE]], "it is asked again"
        )


def replaced(cluster, node):
    """Put another Node object in the place of one; False if its agent was quicker."""
    api, path = cluster.lab.api(), "/api/v1/nodes"
    try:
        api.json("DELETE", f"{path}/{node['metadata']['name']}")
        api.json("POST", path, node)
    except UpError:
        return False
    return True


def cidr_of(cluster, node):
    return cluster.json("get", "node", node)["spec"].get("podCIDR", "")


def unavailable(cluster, node):
    """What the node says of its network: the reason it is unavailable; "" when it is not."""
    conditions = cluster.json("get", "node", node)["status"].get("conditions", [])
    return next(
        (c["message"] for c in conditions if (c["type"], c["status"]) == ("NetworkUnavailable", "True")), ""
    )


def test_of_two_nodes_with_one_pod_cidr_the_older_keeps_it(cluster):
    """As when Node objects come from two backups: one node goes on as if nothing were, the other says what is wrong."""
    older, outside = web(cluster, "older", "node1"), Place(cluster.lab, "node2")
    kept = cidr_of(cluster, "node1")
    assert cidr_of(cluster, "node2") not in {"", kept}
    again = {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node2"},
        "spec": {"podCIDR": kept, "podCIDRs": [kept]},
    }  # fmt: skip
    # Dates have whole seconds; between equal ones the name decides, for node1 too.
    eventually(lambda: replaced(cluster, again), "node2 is another Node")
    said = eventually(lambda: unavailable(cluster, "node2"), "node2 says that its pod CIDR is taken")
    assert all(word in said for word in (kept, "node1", "node2")), said
    assert cidr_of(cluster, "node1") == cidr_of(cluster, "node2") == kept
    assert not unavailable(cluster, "node1")
    assert older.ask("get", f"http://{older.address}:8080/") == ["older"]
    for node in ("node1", "node3"):
        assert Place(cluster.lab, node).ask("get", f"http://{older.address}:8080/") == ["older"]
    cluster.kubectl("delete", "node", "node2")
    eventually(lambda: ready_with_own(cluster, kept), "node2 has a pod CIDR of its own")
    newer = web(cluster, "newer", "node2")
    for place, target, name in ((newer, older, "older"), (older, newer, "newer"), (outside, older, "older")):
        eventually(
            lambda place=place, target=target, name=name: (
                place.ask("get", f"http://{target.address}:8080/") == [name]
            ),
            f"{name} is reached",
        )


def ready_with_own(cluster, taken):
    found = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    node = next((item for item in found if item["metadata"]["name"] == "node2"), None)
    if node is None or node["spec"].get("podCIDR", taken) == taken:
        return False
    return cluster.lab.ready("node2") and not unavailable(cluster, "node2")
