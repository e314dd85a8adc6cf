"""Jobs: success, failure, indexes."""

import pytest

from e2e.harness import eventually
from e2e.manifests import IMAGE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

INDEXED = f"""
apiVersion: batch/v1
kind: Job
metadata: {{name: indexed}}
spec:
  suspend: false
  completions: 4
  parallelism: 2
  completionMode: Indexed
  backoffLimitPerIndex: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - name: c
        image: {IMAGE}
        command: [sh, -c, 'test "$JOB_COMPLETION_INDEX" != 1']
"""


def test_one_that_succeeds_and_one_that_fails(k):
    k("create", "job", "once", f"--image={IMAGE}", "--", "sh", "-c", "echo done")
    k("wait", "--for=condition=complete", "job/once", "--timeout=60s")
    assert k("logs", "job/once").strip() == "done"
    k("create", "job", "bad", f"--image={IMAGE}", "--", "sh", "-c", "exit 3")
    k("patch", "job", "bad", "-p", '{"spec":{"backoffLimit":0}}')
    k("wait", "--for=condition=failed", "job/bad", "--timeout=60s")
    assert "BackoffLimitExceeded" in k("get", "job", "bad", "-o", "yaml")


def test_indexes_with_failures(cluster, space, k):
    k("apply", "-f", "-", stdin=INDEXED)
    k("wait", "--for=condition=failed", "job/indexed", "--timeout=90s", timeout=100)
    status = cluster.json("-n", space, "get", "job", "indexed")["status"]
    assert status["completedIndexes"] == "0,2,3"
    assert status["failedIndexes"] == "1"
    assert status["succeeded"] == 3
    condition = next(c for c in status["conditions"] if c["type"] == "Failed")
    assert condition["reason"] == "FailedIndexes"


def test_suspended_resumed_and_cleaned_up(cluster, space, k):
    k(
        "apply",
        "-f",
        "-",
        stdin=INDEXED.replace("name: indexed", "name: later").replace("suspend: false", "suspend: true"),
    )
    eventually(
        lambda: "Suspended" in k("get", "job", "later", "-o", "jsonpath={.status.conditions[*].type}"),
        "it says so",
    )
    assert k("get", "pods", "-l", "job-name=later", "-o", "name") == ""
    k("patch", "job", "later", "-p", '{"spec":{"suspend":false,"ttlSecondsAfterFinished":1}}')
    eventually(lambda: "later" not in k("get", "jobs", "-o", "name"), "it ran and was cleaned up", seconds=90)
