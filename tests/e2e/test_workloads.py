"""Every workload kind on real podman: what their controllers promise, seen with kubectl."""

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


@pytest.fixture
def k(cluster, space):
    return lambda *words, **more: cluster.kubectl("-n", space, *words, **more)


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


def test_jobs_by_hand_and_by_the_clock(cluster, space, k):
    k("create", "job", "once", f"--image={IMAGE}", "--", "sh", "-c", "echo done")
    k("wait", "--for=condition=complete", "job/once", "--timeout=60s")
    assert k("logs", "job/once").strip() == "done"
    k("create", "job", "bad", f"--image={IMAGE}", "--", "sh", "-c", "exit 3")
    k("patch", "job", "bad", "-p", '{"spec":{"backoffLimit":0}}')
    k("wait", "--for=condition=failed", "job/bad", "--timeout=60s")
    assert "BackoffLimitExceeded" in k("get", "job", "bad", "-o", "yaml")
    k("create", "cronjob", "tick", f"--image={IMAGE}", "--schedule=* * * * *", "--", "true")
    # As if the machine had been without power for a night: one run is owed, and only one.
    k(
        "patch",
        "cronjob",
        "tick",
        "--subresource=status",
        "--type=merge",
        "-p",
        '{"status":{"lastScheduleTime":"2020-01-01T00:00:00Z"}}',
    )

    def made():
        return k("get", "jobs", "-o", "name").count("job.batch/tick-")

    eventually(lambda: made() >= 1, "the missed run starts")
    assert made() <= 2
    k("delete", "cronjob", "tick")
    eventually(lambda: made() == 0, "its jobs go with it")


def test_a_daemon_set_and_a_budget_against_a_drain(cluster, space, k):
    k("apply", "-f", "-", stdin=DAEMONS)
    k("rollout", "status", "ds/ds", "--timeout=90s", timeout=100)
    k("create", "deployment", "web", f"--image={IMAGE}", "--replicas=2", "--", "sleep", "3600")
    k("rollout", "status", "deployment/web", "--timeout=90s", timeout=100)
    k("create", "pdb", "web", "--selector=app=web", "--min-available=2")
    eventually(lambda: re.search(r"web +2 +N/A +0", k("get", "pdb")), "the budget is counted")
    pod = k("get", "pods", "-l", "app=web", "-o", "name").split()[0].removeprefix("pod/")
    body = (
        f'{{"apiVersion":"policy/v1","kind":"Eviction","metadata":{{"name":"{pod}","namespace":"{space}"}}}}'
    )
    path = f"/api/v1/namespaces/{space}/pods/{pod}/eviction"
    out = k("create", "--raw", path, "-f", "-", stdin=body, check=False)
    assert "Cannot evict pod as it would violate the pod's disruption budget" in out
    k("patch", "pdb", "web", "-p", '{"spec":{"minAvailable":1}}')
    eventually(lambda: re.search(r"web +1 +N/A +1", k("get", "pdb")), "one may go now")
    k("create", "--raw", path, "-f", "-", stdin=body)
    eventually(lambda: pod not in k("get", "pods", "-o", "name"), "the pod is evicted")


def test_the_important_take_the_room_of_others(cluster, space, k):
    node = cluster.json("get", "node", "edge1")
    cpus = node["status"]["allocatable"]["cpu"]
    half = f"{int(float(cpus.rstrip('m')) * (1 if cpus.endswith('m') else 1000) * 0.6)}m"
    for name, value in (("low", 1), ("high", 1000)):
        cluster.kubectl("create", "priorityclass", f"{space}-{name}", f"--value={value}")

    def pod(name, importance):
        return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  priorityClassName: {space}-{importance}
  terminationGracePeriodSeconds: 1
  containers: [{{name: c, image: "{IMAGE}", command: [sleep, "3600"], resources: {{requests: {{cpu: {half}}}}}}}]
"""

    try:
        k("apply", "-f", "-", stdin=pod("first", "low"))
        k("wait", "--for=condition=Ready", "pod/first", "--timeout=60s")
        k("apply", "-f", "-", stdin=pod("second", "high"))
        k("wait", "--for=condition=Ready", "pod/second", "--timeout=60s")
        assert "first" not in k("get", "pods", "-o", "name")
        assert "Preempted" in k("get", "events")
    finally:
        cluster.kubectl("delete", "priorityclass", f"{space}-low", f"{space}-high")


def test_an_autoscaler_under_real_load(cluster, space, k):
    k("create", "deployment", "busy", f"--image={IMAGE}", "--", "sh", "-c", "while :; do :; done")
    k("set", "resources", "deployment", "busy", "--requests=cpu=50m", "--limits=cpu=150m")
    k("rollout", "status", "deployment/busy", "--timeout=90s", timeout=100)
    k("autoscale", "deployment", "busy", "--min=1", "--max=2", "--cpu=50%")
    eventually(
        lambda: cluster.json("-n", space, "get", "deployment", "busy")["spec"]["replicas"] == 2,
        "it grows", seconds=120,
    )  # fmt: skip
    assert "SuccessfulRescale" in k("get", "events")
    eventually(
        lambda: re.search(r"busy-\S+ +\d+m", k("top", "pod", "-l", "app=busy", check=False)), "kubectl top"
    )
