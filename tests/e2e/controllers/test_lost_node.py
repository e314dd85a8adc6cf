"""A node loses its power: what may run twice moves, what must not waits until the node is back."""

import pytest

from e2e.harness import eventually, running_lab
from e2e.manifests import IMAGE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def template(app, node=""):
    selector = f"nodeSelector: {{kubernetes.io/hostname: {node}}}" if node else ""
    return f"""
    metadata: {{labels: {{app: {app}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      {selector}
      tolerations:
      - {{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 3}}
      - {{key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 3}}
      containers: [{{name: c, image: "{IMAGE}", command: [sh, -c, "hostname >> /data/who; exec sleep 3600"], volumeMounts: [{{name: data, mountPath: /data}}]}}]
"""


def manifests(victim):
    return f"""
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: db}}
spec:
  serviceName: db
  replicas: 1
  selector: {{matchLabels: {{app: db}}}}
  template: {template("db", victim)}
  volumeClaimTemplates:
  - metadata: {{name: data}}
    spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template: {template("web")}
      volumes: [{{name: data, emptyDir: {{}}}}]
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with running_lab(tmp_path_factory.mktemp("lost"), name="ek-lost", nodes=2, lans=1) as made:
        yield made


def pods(cluster, app):
    items = cluster.json("get", "pods", "-l", f"app={app}")["items"]
    return {pod["metadata"]["name"]: pod for pod in items}


def ready(pod):
    conditions = pod["status"].get("conditions", ())
    return "deletionTimestamp" not in pod["metadata"] and ("Ready", "True") in [
        (c["type"], c["status"]) for c in conditions
    ]


def test_a_power_cut(cluster):
    victim, other = cluster.lab.names
    cluster.kubectl("apply", "-f", "-", stdin=manifests(victim))
    cluster.kubectl("rollout", "status", "sts/db", "--timeout=60s", timeout=70)
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s", timeout=70)
    first = pods(cluster, "db")["db-0"]["metadata"]["uid"]

    cluster.lab.cut_power(victim)
    eventually(
        lambda: "NotReady" in cluster.kubectl("get", "node", victim), "the node is missed", seconds=100
    )

    def moved():
        running = [pod for pod in pods(cluster, "web").values() if ready(pod)]
        return len(running) == 2 and {pod["spec"]["nodeName"] for pod in running} == {other}

    eventually(moved, "the Deployment's pods run elsewhere", seconds=60)
    waiting = pods(cluster, "db")["db-0"]
    assert waiting["metadata"]["uid"] == first, (
        "nobody knows whether it still runs: there must be no second one"
    )
    assert "deletionTimestamp" in waiting["metadata"]

    cluster.lab.start_node(victim)

    def back():
        pod = pods(cluster, "db").get("db-0")
        return pod is not None and pod["metadata"]["uid"] != first and ready(pod)

    eventually(back, "the StatefulSet's pod is replaced on its node", seconds=100)
    assert cluster.kubectl("exec", "db-0", "--", "cat", "/data/who").split() == ["db-0", "db-0"]
    eventually(lambda: len(pods(cluster, "web")) == 2, "the lost pods of the Deployment are cleared away")
