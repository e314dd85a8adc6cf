"""StatefulSets: names, order and data."""

import re

import pytest

from e2e.harness import eventually
from e2e.manifests import IMAGE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

DATABASE = f"""
apiVersion: v1
kind: Service
metadata: {{name: db}}
spec: {{clusterIP: None, selector: {{app: db}}, ports: [{{port: 80}}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: db}}
spec:
  serviceName: db
  replicas: 2
  selector: {{matchLabels: {{app: db}}}}
  template:
    metadata: {{labels: {{app: db}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: {IMAGE}
        command: [sh, -c, "hostname >> /data/who; exec sleep 3600"]
        volumeMounts: [{{name: data, mountPath: /data}}]
  volumeClaimTemplates:
  - metadata: {{name: data}}
    spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 10Mi}}}}}}
"""


def test_a_stateful_set_keeps_names_and_data(cluster, space, k):
    k("apply", "-f", "-", stdin=DATABASE)
    k("rollout", "status", "sts/db", "--timeout=90s", timeout=100)
    assert re.search(r"data-db-0 +Bound +pvc-\S+ +10Mi +RWO +local-path", k("get", "pvc"))
    k("delete", "pod", "db-1", "--wait=true")
    k("wait", "--for=condition=Ready", "pod/db-1", "--timeout=60s")
    assert k("exec", "db-1", "--", "cat", "/data/who").split() == ["db-1", "db-1"]
    assert k("exec", "db-0", "--", "cat", "/data/who").split() == ["db-0"]
    k("delete", "sts", "db")
    k("delete", "pvc", "data-db-0", "data-db-1", "--wait=true")

    def removed():
        left = cluster.kubectl("get", "pv", "-o", "name")
        return space not in cluster.kubectl("get", "pv") and "pvc-" not in left

    eventually(removed, "volumes are gone")
    storage = cluster.options.data_dir / "agent" / "storage"
    assert not [path for path in storage.iterdir() if f"_{space}_" in path.name]


def test_order_partition_and_scaling_down(cluster, space, k):
    k("apply", "-f", "-", stdin=DATABASE.replace("10Mi", "1Mi"))
    k("rollout", "status", "sts/db", "--timeout=90s", timeout=100)
    born = [
        pod["metadata"]["creationTimestamp"]
        for pod in sorted(
            cluster.json("-n", space, "get", "pods")["items"], key=lambda pod: pod["metadata"]["name"]
        )
    ]
    assert born == sorted(born)
    patch = '{"spec":{"updateStrategy":{"rollingUpdate":{"partition":1}},"template":{"metadata":{"labels":{"v":"2"}}}}}'
    k("patch", "sts", "db", "-p", patch)
    eventually(
        lambda: k("get", "pods", "-l", "v=2", "-o", "name").split() == ["pod/db-1"], "only db-1 is new"
    )
    k("rollout", "status", "sts/db", "--timeout=60s")
    assert k("get", "pods", "-l", "v=2", "-o", "name").split() == ["pod/db-1"]
    k("scale", "sts", "db", "--replicas=1")
    eventually(lambda: k("get", "pods", "-o", "name").split() == ["pod/db-0"], "the last goes first")
    assert len(cluster.json("-n", space, "get", "pvc")["items"]) == 2
    k("delete", "sts", "db")
    k("delete", "pvc", "--all", "--wait=true")
