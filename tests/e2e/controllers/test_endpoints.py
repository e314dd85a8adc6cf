"""EndpointSlices and Endpoints follow what is ready."""

import pytest

from e2e.harness import eventually
from e2e.manifests import IMAGE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

WEB = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: {IMAGE}
        command: [sh, -c, "touch /tmp/ready; trap exit TERM; sleep 3600 & wait"]
        readinessProbe: {{exec: {{command: [cat, /tmp/ready]}}, periodSeconds: 1, failureThreshold: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
"""


def addresses(cluster, space):
    """Ready addresses by EndpointSlice and by Endpoints."""
    slices = cluster.json("-n", space, "get", "endpointslices", "-l", "kubernetes.io/service-name=web")[
        "items"
    ]
    new = {
        e["addresses"][0] for s in slices for e in s.get("endpoints") or () if e["conditions"].get("ready")
    }
    found = cluster.json("-n", space, "get", "endpoints", "web")
    old = {a["ip"] for subset in found.get("subsets") or () for a in subset.get("addresses") or ()}
    return new, old


def test_a_pod_that_is_not_ready_is_left_out(cluster, space, k):
    k("apply", "-f", "-", stdin=WEB)
    k("rollout", "status", "deployment/web", "--timeout=60s")
    pods = {
        p["metadata"]["name"]: p["status"]["podIP"] for p in cluster.json("-n", space, "get", "pods")["items"]
    }
    eventually(lambda: addresses(cluster, space) == (set(pods.values()),) * 2, "both are in")
    name, address = min(pods.items())
    k("exec", name, "--", "rm", "/tmp/ready")
    eventually(lambda: addresses(cluster, space) == (set(pods.values()) - {address},) * 2, "one is out")
    k("exec", name, "--", "touch", "/tmp/ready")
    eventually(lambda: addresses(cluster, space) == (set(pods.values()),) * 2, "both are in again")
    k("delete", "svc", "web")
    eventually(lambda: k("get", "endpointslices,endpoints", "-o", "name") == "", "nothing is left")
