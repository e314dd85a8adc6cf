"""
Services of type LoadBalancer on a LAN: an address of a pool, reached from outside, and its owner's power cut.

Over host routes and over VXLAN, forced between neighbours.
"""

import json

import pytest

from e2e.harness import eventually, running_lab
from e2e.manifests import IMAGE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

POOL = """
apiVersion: v1
kind: ConfigMap
metadata: {name: cloud-config, namespace: kube-system}
data: {pool.default: 10.50.0.200-10.50.0.201}
"""
WEB = f"""
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: web}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: {IMAGE}
        command: [sh, -c, "mkdir /w; echo $NODE > /w/index.html; exec httpd -f -p 8080 -h /w"]
        env: [{{name: NODE, valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}}}]
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{type: LoadBalancer, selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: near}}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080}}]
"""


@pytest.fixture(scope="module", params=["routes", "vxlan"])
def cluster(tmp_path_factory, request):
    directory = tmp_path_factory.mktemp("balanced")
    with running_lab(directory, name="ek-balanced", nodes=2, network=request.param) as made:
        yield made


def service(cluster, name):
    found = cluster.json("get", "service", name)
    ingress = found["status"]["loadBalancer"].get("ingress", [])
    return [item["ip"] for item in ingress], found["metadata"].get("annotations", {}).get(
        "edgekube.io/announced-by"
    )


def asked(cluster, address):
    (client,) = cluster.lab.clients
    return cluster.lab.run(
        client, ["timeout", "3", "busybox", "wget", "-qO-", f"http://{address}/"]
    ).stdout.strip()


def test_nodes_addresses_without_a_pool_then_the_pool_then_a_power_cut(cluster):
    cluster.kubectl("apply", "-f", "-", stdin=WEB)
    cluster.kubectl("rollout", "status", "daemonset/web", "--timeout=60s", timeout=70)
    nodes = sorted(cluster.lab.address(node) for node in cluster.lab.names)
    eventually(lambda: sorted(service(cluster, "web")[0]) == nodes, "the nodes' own addresses")
    for address in nodes:
        eventually(lambda address=address: asked(cluster, address) in cluster.lab.names, f"{address} answers")

    cluster.kubectl("apply", "-f", "-", stdin=POOL)
    eventually(lambda: service(cluster, "web")[0] == ["10.50.0.200"], "an address of the pool", seconds=60)
    eventually(lambda: service(cluster, "near")[0] == ["10.50.0.201"], "another one", seconds=60)
    eventually(lambda: asked(cluster, "10.50.0.200") in cluster.lab.names, "the LAN reaches it")
    # By turns: one of the two answers comes over the way between the nodes.
    assert {asked(cluster, "10.50.0.200") for _ in range(6)} == set(cluster.lab.names)
    owner = service(cluster, "near")[1]
    eventually(
        lambda: asked(cluster, "10.50.0.201") == owner, "traffic that must stay near stays on its owner"
    )
    assert {asked(cluster, "10.50.0.201") for _ in range(4)} == {owner}

    cluster.lab.cut_power(owner)
    eventually(
        lambda: service(cluster, "near")[1] not in {owner, None}, "another node speaks for it", seconds=120
    )
    heir = service(cluster, "near")[1]
    eventually(lambda: asked(cluster, "10.50.0.201") == heir, "the LAN reaches the heir")
    eventually(lambda: asked(cluster, "10.50.0.200") == heir, "and so does the other Service")

    cluster.lab.start_node(owner)
    eventually(lambda: cluster.lab.ready(owner), "the node is back", seconds=100)
    assert service(cluster, "near")[1] == heir
    assert {asked(cluster, "10.50.0.201") for _ in range(4)} == {heir}


def test_what_is_deleted_is_given_back(cluster):
    cluster.kubectl("delete", "service", "near", "--wait=true", timeout=60)
    spec = {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}
    tree = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "next"}, "spec": spec}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(tree))
    eventually(lambda: service(cluster, "next")[0] == ["10.50.0.201"], "its address is used again")
    eventually(lambda: asked(cluster, "10.50.0.201") in cluster.lab.names, "and answers")
