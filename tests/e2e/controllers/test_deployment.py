"""Deployments: rolling updates, pauses, rollbacks, deadlines."""

import pytest

from e2e.harness import eventually
from e2e.manifests import IMAGE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

WEB = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 3
  strategy: {{rollingUpdate: {{maxUnavailable: 1, maxSurge: 1}}}}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: c, image: "{IMAGE}", command: [sleep, "3600"]}}]
"""


def available(cluster, space):
    return cluster.json("-n", space, "get", "deployment", "web")["status"].get("availableReplicas", 0)


def test_a_rolling_update_never_lets_it_fall_short(cluster, space, k):
    k("apply", "-f", "-", stdin=WEB)
    k("rollout", "status", "deployment/web", "--timeout=60s")
    k("set", "env", "deployment/web", "V=2")
    lowest = 3

    def updated():
        nonlocal lowest
        lowest = min(lowest, available(cluster, space))
        status = cluster.json("-n", space, "get", "deployment", "web")["status"]
        return status.get("updatedReplicas") == status.get("availableReplicas") == status.get("replicas") == 3

    eventually(updated, "all are new")
    assert lowest >= 2
    assert k("get", "rs", "-o", "jsonpath={.items[*].spec.replicas}").split().count("3") == 1
    k("rollout", "undo", "deployment/web")
    k("rollout", "status", "deployment/web", "--timeout=60s")
    assert (
        "env"
        not in cluster.json("-n", space, "get", "deployment", "web")["spec"]["template"]["spec"][
            "containers"
        ][0]
    )
    assert k("rollout", "history", "deployment/web").split("\n")[2:4] == [
        "2         <none>",
        "3         <none>",
    ]


def test_paused_and_resumed(cluster, space, k):
    k("apply", "-f", "-", stdin=WEB)
    k("rollout", "pause", "deployment/web")
    k("set", "env", "deployment/web", "V=2")
    k("scale", "deployment", "web", "--replicas=1")
    eventually(lambda: available(cluster, space) == 1, "it scales while paused")
    assert len(cluster.json("-n", space, "get", "rs")["items"]) == 1
    k("rollout", "resume", "deployment/web")
    k("rollout", "status", "deployment/web", "--timeout=60s")
    assert len(cluster.json("-n", space, "get", "rs")["items"]) == 2


def test_a_deadline_that_passes_is_told(cluster, space, k):
    k("apply", "-f", "-", stdin=WEB)
    k("rollout", "status", "deployment/web", "--timeout=60s")
    k("patch", "deployment", "web", "-p", '{"spec":{"progressDeadlineSeconds":3}}')
    k("set", "image", "deployment/web", "c=localhost/no-such-image:1")
    told = k("rollout", "status", "deployment/web", "--timeout=60s", check=False)
    assert "exceeded its progress deadline" in told
    assert available(cluster, space) >= 2
