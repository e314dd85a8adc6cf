"""Pods of nodes that are no more are cleared away."""

import pytest

from e2e.harness import eventually
from e2e.manifests import IMAGE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def test_pods_of_a_node_that_is_gone(cluster, space, k):
    node = f"{space}-node"
    cluster.kubectl("create", "-f", "-", stdin=f"{{apiVersion: v1, kind: Node, metadata: {{name: {node}}}}}")
    k("run", "p", f"--image={IMAGE}", "--overrides", f'{{"spec":{{"nodeName":"{node}"}}}}')
    cluster.kubectl("delete", "node", node)
    eventually(lambda: k("get", "pods", "-o", "name") == "", "its pod is gone", seconds=120)
