"""Preemption: the important take the room of others."""

import pytest

from e2e.manifests import IMAGE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


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
