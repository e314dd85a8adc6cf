"""DaemonSets: one pod a node."""

import pytest

from e2e.harness import eventually
from e2e.manifests import IMAGE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

DAEMONS = f"""
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: ds}}
spec:
  selector: {{matchLabels: {{app: ds}}}}
  template:
    metadata: {{labels: {{app: ds}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: c, image: "{IMAGE}", command: [sleep, "3600"]}}]
"""


def test_one_a_node_kept_and_updated(cluster, space, k):
    k("apply", "-f", "-", stdin=DAEMONS)
    k("rollout", "status", "ds/ds", "--timeout=90s", timeout=100)
    (pod,) = cluster.json("-n", space, "get", "pods", "-l", "app=ds")["items"]
    assert pod["spec"]["nodeName"] == "edge1"
    k("delete", "pod", pod["metadata"]["name"], "--wait=true")
    k("rollout", "status", "ds/ds", "--timeout=60s")
    k("set", "env", "ds/ds", "A=1")
    k("rollout", "status", "ds/ds", "--timeout=60s")
    (newer,) = cluster.json(
        "-n", space, "get", "pods", "-l", "app=ds", "--field-selector=status.phase=Running"
    )["items"]
    assert newer["spec"]["containers"][0]["env"] == [{"name": "A", "value": "1"}]
    assert k("rollout", "history", "ds/ds").count("<none>") == 2


def test_it_stays_on_a_cordoned_node_and_leaves_one_not_chosen(cluster, k):
    k("apply", "-f", "-", stdin=DAEMONS)
    k("rollout", "status", "ds/ds", "--timeout=60s")
    try:
        cluster.kubectl("cordon", "edge1")
        k("delete", "pod", "-l", "app=ds", "--wait=true")
        k("rollout", "status", "ds/ds", "--timeout=60s")
    finally:
        cluster.kubectl("uncordon", "edge1")
    k("patch", "ds", "ds", "-p", '{"spec":{"template":{"spec":{"nodeSelector":{"no":"such"}}}}}')
    eventually(lambda: k("get", "pods", "-l", "app=ds", "-o", "name") == "", "the pod leaves")
