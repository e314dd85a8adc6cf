"""Service addresses: given once, taken back, kept over updates."""

import pytest

from e2e.harness import eventually
from e2e.manifests import IMAGE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def test_addresses_and_node_ports_are_given_once(cluster, space, k):
    for number in range(5):
        k("create", "service", "nodeport", f"s{number}", "--tcp=80:8080")
    items = cluster.json("get", "services", "-A")["items"]
    addresses = [s["spec"]["clusterIP"] for s in items if s["spec"].get("clusterIP", "None") != "None"]
    ports = [p["nodePort"] for s in items for p in s["spec"]["ports"] if "nodePort" in p]
    assert len(set(addresses)) == len(addresses)
    assert len(set(ports)) == len(ports) >= 5
    taken = cluster.json("-n", space, "get", "svc", "s0")["spec"]
    refused = k(
        "create", "service", "clusterip", "t", "--tcp=80", f"--clusterip={taken['clusterIP']}", check=False
    )
    assert "provided IP is already allocated" in refused
    k("delete", "svc", "s0")
    k("create", "service", "clusterip", "t", "--tcp=80", f"--clusterip={taken['clusterIP']}")
    k("patch", "svc", "t", "-p", '{"spec":{"type":"NodePort"}}')
    assert cluster.json("-n", space, "get", "svc", "t")["spec"]["clusterIP"] == taken["clusterIP"]


def test_a_node_port_answers_on_the_node(cluster, space, k):
    k(
        "run",
        "web",
        f"--image={IMAGE}",
        "--expose",
        "--port=8080",
        "--",
        "sh",
        "-c",
        "mkdir /w; echo hi > /w/index.html; trap exit TERM; httpd -f -p 8080 -h /w & wait",
    )
    k("patch", "svc", "web", "-p", '{"spec":{"type":"NodePort"}}')
    port = cluster.json("-n", space, "get", "svc", "web")["spec"]["ports"][0]["nodePort"]
    eventually(
        lambda: cluster.inside("busybox", "wget", "-qO-", f"http://10.50.0.2:{port}/").stdout == "hi\n",
        "it answers",
    )
