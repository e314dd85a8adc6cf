"""PodDisruptionBudgets: an eviction waits until others can do without."""

import re

import pytest

from e2e.harness import eventually
from e2e.manifests import IMAGE, STAY

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def test_a_budget_against_an_eviction(space, k):
    k("create", "deployment", "web", f"--image={IMAGE}", "--replicas=2", "--", *STAY)
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
