"""HorizontalPodAutoscalers: real load, measured on the node."""

import re

import pytest

from e2e.harness import eventually
from e2e.manifests import IMAGE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def test_an_autoscaler_under_real_load(cluster, space, k):
    k(
        "create",
        "deployment",
        "busy",
        f"--image={IMAGE}",
        "--",
        "sh",
        "-c",
        "trap exit TERM; while :; do :; done",
    )
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
