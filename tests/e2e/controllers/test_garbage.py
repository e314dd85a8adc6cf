"""The garbage collector: dependants go before, after, or stay."""

import pytest

from e2e.harness import eventually
from e2e.manifests import IMAGE, STAY

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def names(k, what):
    return k("get", what, "-o", "name").split()


@pytest.fixture
def web(k):
    k("create", "deployment", "web", f"--image={IMAGE}", "--replicas=1", "--", *STAY)
    k("rollout", "status", "deployment/web", "--timeout=60s")


def test_in_the_background(web, k):
    k("delete", "deployment", "web", "--cascade=background")
    eventually(lambda: names(k, "rs,pods") == [], "all follow")


def test_in_the_foreground(web, k):
    k(
        "patch",
        "pod",
        "-p",
        '{"metadata":{"finalizers":["example.com/hold"]}}',
        names(k, "pods")[0].split("/")[1],
    )
    k("delete", "deployment", "web", "--cascade=foreground", "--wait=false")
    eventually(lambda: "deletionTimestamp" in k("get", "rs", "-o", "yaml"), "the ReplicaSet is being deleted")
    assert names(k, "deploy") == ["deployment.apps/web"]
    k(
        "patch",
        "pod",
        "--type=json",
        "-p",
        '[{"op":"remove","path":"/metadata/finalizers"}]',
        names(k, "pods")[0].split("/")[1],
    )
    eventually(lambda: names(k, "deploy,rs,pods") == [], "the owner goes last")


def test_orphans(web, k):
    k("delete", "deployment", "web", "--cascade=orphan")
    eventually(lambda: "ownerReferences" not in k("get", "rs", "-o", "yaml"), "the ReplicaSet is free")
    assert len(names(k, "pods")) == 1
