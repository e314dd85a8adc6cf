"""Claims, volumes and the provisioner: bound where the pod runs, reclaimed as told."""

import pytest

from e2e.harness import eventually
from e2e.manifests import IMAGE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def claim(name, storage_class="local-path", mode="ReadWriteOnce"):
    return f"""
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}}}
spec: {{storageClassName: {storage_class}, accessModes: [{mode}], resources: {{requests: {{storage: 1Mi}}}}}}
"""


def user(name):
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{{name: c, image: "{IMAGE}", command: [sh, -c, "echo {name} >> /data/x; sleep 3600"], volumeMounts: [{{name: d, mountPath: /data}}]}}]
  volumes: [{{name: d, persistentVolumeClaim: {{claimName: data}}}}]
"""


def test_a_claim_waits_for_its_pod_and_is_protected(cluster, space, k):
    k("apply", "-f", "-", stdin=claim("data"))
    eventually(lambda: "WaitForFirstConsumer" in k("get", "events"), "it waits")
    assert k("get", "pvc", "data", "-o", "jsonpath={.status.phase}") == "Pending"
    k("apply", "-f", "-", stdin=user("one"))
    k("wait", "--for=condition=Ready", "pod/one", "--timeout=60s")
    k("delete", "pvc", "data", "--wait=false")
    assert (
        k("get", "pvc", "data", "-o", "jsonpath={.status.phase} {.metadata.finalizers}")
        == 'Bound ["kubernetes.io/pvc-protection"]'
    )
    volume = k("get", "pvc", "data", "-o", "jsonpath={.spec.volumeName}")
    k("delete", "pod", "one", "--wait=true")
    eventually(
        lambda: "NotFound" in cluster.kubectl("get", "pv", volume, check=False), "the volume is reclaimed"
    )


def test_a_retained_volume_keeps_its_data_for_the_next(cluster, space, k):
    k("apply", "-f", "-", stdin=claim("data") + "---" + user("one"))
    k("wait", "--for=condition=Ready", "pod/one", "--timeout=60s")
    volume = k("get", "pvc", "data", "-o", "jsonpath={.spec.volumeName}")
    cluster.kubectl("patch", "pv", volume, "-p", '{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}')
    k("delete", "pod/one", "pvc/data", "--wait=true")
    eventually(lambda: cluster.json("get", "pv", volume)["status"]["phase"] == "Released", "it is released")
    cluster.kubectl("patch", "pv", volume, "--type=json", "-p", '[{"op":"remove","path":"/spec/claimRef"}]')
    eventually(
        lambda: cluster.json("get", "pv", volume)["status"]["phase"] == "Available", "it may be had again"
    )
    k(
        "apply",
        "-f",
        "-",
        stdin=claim("data").replace("resources", f"volumeName: {volume}, resources") + "---" + user("two"),
    )
    k("wait", "--for=condition=Ready", "pod/two", "--timeout=60s")
    assert k("exec", "two", "--", "cat", "/data/x").split() == ["one", "two"]
    cluster.kubectl("patch", "pv", volume, "-p", '{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}')
    k("delete", "pod/two", "pvc/data", "--wait=true")
    eventually(
        lambda: "NotFound" in cluster.kubectl("get", "pv", volume, check=False), "the volume is reclaimed"
    )
