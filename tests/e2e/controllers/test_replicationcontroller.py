"""ReplicationControllers: adoption, replacement, orphans."""

import pytest

from e2e.harness import eventually
from e2e.manifests import IMAGE, STAY

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SET = f"""
apiVersion: v1
kind: ReplicationController
metadata: {{name: set}}
spec:
  replicas: 2
  selector: {{app: set}}
  template:
    metadata: {{labels: {{app: set}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{{name: c, image: "{IMAGE}", command: [sleep, "3600"]}}]
"""
KIND = "ReplicationController"


def pods(cluster, space):
    items = cluster.json("-n", space, "get", "pods", "-l", "app=set")["items"]
    return {pod["metadata"]["name"] for pod in items if "deletionTimestamp" not in pod["metadata"]}


def test_it_adopts_what_fits_and_lets_go_what_does_not(cluster, space, k):
    k("run", "orphan", f"--image={IMAGE}", "--labels=app=set", "--", *STAY)
    k("apply", "-f", "-", stdin=SET)
    eventually(lambda: len(pods(cluster, space)) == 2, "two pods in all")
    (owner,) = cluster.json("-n", space, "get", "pod", "orphan")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == (KIND, "set", True)
    k("label", "pod", "orphan", "app=other", "--overwrite")
    eventually(lambda: len(pods(cluster, space)) == 2, "another takes its place")
    assert "ownerReferences" not in cluster.json("-n", space, "get", "pod", "orphan")["metadata"]


def test_scaled_replaced_and_left_behind(cluster, space, k):
    k("apply", "-f", "-", stdin=SET)
    k("wait", "--for=jsonpath={.status.readyReplicas}=2", f"{KIND}/set", "--timeout=60s")
    first = pods(cluster, space)
    k("delete", "pod", min(first), "--wait=true")
    eventually(
        lambda: len(pods(cluster, space)) == 2 and pods(cluster, space) != first, "the lost pod is replaced"
    )
    k("scale", f"{KIND}/set", "--replicas=1")
    eventually(lambda: len(pods(cluster, space)) == 1, "one is enough")
    k("delete", f"{KIND}/set", "--cascade=orphan")
    (left,) = pods(cluster, space)
    eventually(
        lambda: "ownerReferences" not in cluster.json("-n", space, "get", "pod", left)["metadata"],
        "it is free",
    )
