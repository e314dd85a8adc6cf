"""Namespaces: gone with all that is in them."""

import pytest

from e2e.harness import eventually
from e2e.manifests import IMAGE, STAY

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def test_everything_goes_with_it(cluster, space, k):
    name = f"{space}-x"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl(
        "-n", name, "create", "deployment", "web", f"--image={IMAGE}", "--replicas=2", "--", *STAY
    )
    cluster.kubectl("-n", name, "create", "configmap", "held")
    cluster.kubectl(
        "-n", name, "patch", "configmap", "held", "-p", '{"metadata":{"finalizers":["example.com/hold"]}}'
    )
    cluster.kubectl("-n", name, "rollout", "status", "deployment/web", "--timeout=60s")
    cluster.kubectl("delete", "namespace", name, "--wait=false")

    def conditions():
        status = cluster.json("get", "namespace", name)["status"]
        return {c["type"]: c["message"] for c in status.get("conditions", ()) if c["status"] == "True"}

    eventually(lambda: "NamespaceFinalizersRemaining" in conditions(), "it says what holds it")
    assert "example.com/hold in 1 resource instances" in conditions()["NamespaceFinalizersRemaining"]
    refused = cluster.kubectl("-n", name, "create", "configmap", "late", check=False)
    assert "because it is being terminated" in refused
    cluster.kubectl(
        "-n",
        name,
        "patch",
        "configmap",
        "held",
        "--type=json",
        "-p",
        '[{"op":"remove","path":"/metadata/finalizers"}]',
    )
    eventually(lambda: "NotFound" in cluster.kubectl("get", "namespace", name, check=False), "it is gone")
    assert name not in cluster.kubectl("get", "pods,deploy,cm", "-A")
