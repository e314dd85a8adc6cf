"""Aggregated ClusterRoles: made of others by label."""

import pytest

from e2e.harness import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def test_rules_come_and_go_with_the_parts(cluster, space):
    try:
        whole = f"""
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: {space}-whole}}
aggregationRule: {{clusterRoleSelectors: [{{matchLabels: {{part-of: {space}}}}}]}}
rules: []
"""
        cluster.kubectl("apply", "-f", "-", stdin=whole)
        cluster.kubectl("create", "clusterrole", f"{space}-part", "--verb=get", "--resource=pods")
        cluster.kubectl("label", "clusterrole", f"{space}-part", f"part-of={space}")

        def rules():
            return cluster.json("get", "clusterrole", f"{space}-whole").get("rules") or []

        eventually(lambda: [rule["resources"] for rule in rules()] == [["pods"]], "the part is in")
        cluster.kubectl("delete", "clusterrole", f"{space}-part")
        eventually(lambda: rules() == [], "and out")
    finally:
        cluster.kubectl("delete", "clusterrole", f"{space}-whole", f"{space}-part", "--ignore-not-found")
