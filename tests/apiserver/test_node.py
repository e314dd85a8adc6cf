"""Nodes: they read what their pods need, and write what is theirs."""

import base64

import pytest

from edgekube.apiserver.identity import User
from edgekube.apiserver.node import labels
from edgekube.apiserver.node.graph import pod_references
from edgekube.lib import pki

GROUPS = ("system:nodes", "system:authenticated")
ONE, TWO = (User(f"system:node:{name}", GROUPS) for name in ("one", "two"))
CORE = "/api/v1/namespaces/default"
CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


@pytest.fixture
async def placed(api, pod, account):
    """A pod on node one that needs a Secret and a ConfigMap, and a claim with a volume."""
    for name in ("wanted", "other", "mounting"):
        await api.post(f"{CORE}/secrets", {"metadata": {"name": name}})
    await api.post(f"{CORE}/configmaps", {"metadata": {"name": "wanted"}})
    csi = {
        "driver": "d",
        "volumeHandle": "h",
        "nodeStageSecretRef": {"name": "mounting", "namespace": "default"},
    }
    volume = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "csi": csi}
    await api.post("/api/v1/persistentvolumes", {"metadata": {"name": "pv"}, "spec": volume})
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "volumeName": "pv",
    }
    await api.post(f"{CORE}/persistentvolumeclaims", {"metadata": {"name": "data"}, "spec": claim})
    volumes = [
        {"name": "s", "secret": {"secretName": "wanted"}},
        {"name": "c", "projected": {"sources": [{"configMap": {"name": "wanted"}}]}},
        {"name": "d", "persistentVolumeClaim": {"claimName": "data"}},
    ]
    made = await api.post(f"{CORE}/pods", pod("web", nodeName="one", volumes=volumes))
    for name in ("one", "two"):
        await api.post("/api/v1/nodes", {"metadata": {"name": name}})
    for path in (f"{CORE}/pods", "/api/v1/persistentvolumes", f"{CORE}/persistentvolumeclaims"):
        await api.get(path)  # Waits until the caches show what was written.
    return made


@pytest.mark.parametrize(
    "path",
    [
        "/secrets/wanted", "/secrets/mounting", "/configmaps/wanted", "/persistentvolumeclaims/data", "/pods/web",
        "/serviceaccounts/default",
    ],
)  # fmt: skip
async def test_a_node_reads_what_its_pods_need_and_no_other_node_does(api, placed, path):
    await api.get(CORE + path, user=ONE)
    await api.get(CORE + path, code=403, user=TWO)


async def test_it_reads_the_volume_behind_a_claim(api, placed):
    await api.get("/api/v1/persistentvolumes/pv", user=ONE)
    await api.get("/api/v1/persistentvolumes/pv", code=403, user=TWO)


@pytest.mark.parametrize(
    "path",
    [
        f"{CORE}/secrets", f"{CORE}/secrets/other", "/api/v1/secrets", "/api/v1/pods", "/api/v1/nodes",
        "/api/v1/nodes/two", "/api/v1/pods?fieldSelector=spec.nodeName=two", "/api/v1/pods?fieldSelector=spec.nodeName!=two",
    ],
)  # fmt: skip
async def test_everything_else_is_hidden(api, placed, path):
    await api.get(path, code=403, user=ONE)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/pods?fieldSelector=spec.nodeName=one", "/api/v1/nodes?fieldSelector=metadata.name=one",
        "/api/v1/nodes/one", "/api/v1/services", "/apis/node.k8s.io/v1/runtimeclasses",
    ],
)  # fmt: skip
async def test_lists_of_its_own_and_what_all_nodes_need(api, placed, path):
    await api.get(path, user=ONE)


async def test_a_reference_ends_with_the_pod(api, placed):
    await api.delete(f"{CORE}/pods/web", {"gracePeriodSeconds": 0})
    await api.get(f"{CORE}/pods")
    await api.get(f"{CORE}/secrets/wanted", code=403, user=ONE)


async def test_the_name_alone_makes_no_node(api, placed):
    await api.get(f"{CORE}/secrets/wanted", code=403, user=User("system:node:one", ("system:authenticated",)))


async def test_status_of_its_own_pods_only(api, placed):
    body = {"status": {"phase": "Running"}}
    await api.patch(f"{CORE}/pods/web/status", body, user=ONE)
    status = await api.patch(f"{CORE}/pods/web/status", body, code=403, user=TWO)
    assert 'node "two" can only change pods with spec.nodeName set to itself' in status["message"]
    await api.patch(f"{CORE}/pods/web", {"metadata": {"labels": {"a": "b"}}}, code=403, user=ONE)
    await api.delete(f"{CORE}/pods/web", code=403, user=TWO)
    await api.delete(f"{CORE}/pods/web", user=ONE)


async def test_it_makes_mirror_pods_only(api, placed, pod):
    def mirror(name, **spec):
        made = pod(name, **{"nodeName": "one", **spec})
        made["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
        return made

    await api.post(f"{CORE}/pods", mirror("m"), user=ONE)
    await api.post(f"{CORE}/pods", pod("plain", nodeName="one"), code=403, user=ONE)
    await api.post(f"{CORE}/pods", mirror("far", nodeName="two"), code=403, user=ONE)
    volume = {"name": "v", "configMap": {"name": "other"}}
    status = await api.post(f"{CORE}/pods", mirror("curious", volumes=[volume]), code=403, user=ONE)
    assert "reference configmaps" in status["message"]
    owned = mirror("owned")
    node = await api.get("/api/v1/nodes/one")
    owner = {
        "apiVersion": "v1",
        "kind": "Node",
        "name": "one",
        "uid": node["metadata"]["uid"],
        "controller": True,
    }
    owned["metadata"]["ownerReferences"] = [{**owner, "uid": "wrong"}]
    await api.post(f"{CORE}/pods", owned, code=403, user=ONE)
    owned["metadata"]["ownerReferences"] = [owner]
    await api.post(f"{CORE}/pods", owned, user=ONE)


async def test_its_own_node_without_taints_and_reserved_labels(api, placed):
    path = "/api/v1/nodes/one"
    await api.patch(path, {"metadata": {"labels": {"kubernetes.io/arch": "arm64", "room": "3"}}}, user=ONE)
    await api.patch(f"{path}/status", {"status": {"capacity": {"cpu": "4"}}}, user=ONE)
    isolated = {"metadata": {"labels": {"node-restriction.kubernetes.io/pci": "yes"}}}
    status = await api.patch(path, isolated, code=403, user=ONE)
    assert "is not allowed to modify labels: node-restriction.kubernetes.io/pci" in status["message"]
    taints = {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}
    status = await api.patch(path, taints, code=403, user=ONE)
    assert "is not allowed to modify taints" in status["message"]
    await api.patch("/api/v1/nodes/two", {"metadata": {"labels": {"a": "b"}}}, code=403, user=ONE)
    await api.patch("/api/v1/nodes/two/status", {"status": {"capacity": {"cpu": "4"}}}, code=403, user=ONE)
    await api.delete(path, code=403, user=ONE)
    await api.post("/api/v1/nodes", {"metadata": {"name": "three"}}, code=403, user=ONE)


async def test_its_own_lease(api, placed):
    def lease(name):
        return {"metadata": {"name": name}, "spec": {"holderIdentity": name}}

    await api.post(LEASES, lease("one"), user=ONE)
    await api.post(LEASES, lease("two"), code=403, user=ONE)
    await api.patch(f"{LEASES}/one", {"spec": {"leaseDurationSeconds": 9}}, user=ONE)
    await api.get(f"{LEASES}/one", code=403, user=TWO)
    await api.get(LEASES, code=403, user=ONE)
    elsewhere = LEASES.replace("kube-node-lease", "default")
    await api.post(elsewhere, lease("one"), code=403, user=ONE)


async def test_tokens_only_for_its_pods(api, placed):
    path = f"{CORE}/serviceaccounts/default/token"

    def wish(**reference):
        return {"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", **reference}}}

    bound = wish(name="web", uid=placed["metadata"]["uid"])
    await api.post(path, bound, user=ONE)
    await api.post(path, bound, code=403, user=TWO)
    for other in ({"spec": {}}, wish(name="web")):
        await api.post(path, other, code=403, user=ONE)


async def test_certificates_for_its_own_name(api, placed):
    def csr(name, node):
        subject = pki.Subject(name=f"system:node:{node}", organizations=("system:nodes",))
        request = base64.b64encode(pki.request(pki.new_key(), subject)).decode()
        spec = {"request": request, "signerName": "kubernetes.io/kubelet-serving"}
        usages = ["digital signature", "server auth"]
        return {"metadata": {"name": name}, "spec": {**spec, "usages": usages}}

    await api.post(CSRS, csr("a", "one"), user=ONE)
    await api.post(CSRS, csr("b", "two"), code=403, user=ONE)


@pytest.mark.parametrize(
    ("label", "allowed"),
    [
        ("room", True), ("example.com/room", True), ("kubernetes.io/hostname", True), ("kubernetes.io/role", False),
        ("node-role.kubernetes.io/master", False), ("x.node.kubernetes.io/a", True), ("k8s.io/a", False),
        ("a.node-restriction.kubernetes.io/b", False), ("notkubernetes.io/a", True),
    ],
)  # fmt: skip
def test_labels(label, allowed):
    assert labels.forbidden({label: "x"}, {}) == ([] if allowed else [label])
    assert labels.forbidden({}, {label: "x"}) == ([] if allowed else [label])
    assert labels.forbidden({label: "x"}, {label: "x"}) == []


def test_all_the_places_a_pod_refers_from():
    ref = {"name": "k", "key": "x"}
    spec = {
        "imagePullSecrets": [{"name": "pull"}],
        "initContainers": [{"env": [{"name": "A", "valueFrom": {"secretKeyRef": {**ref, "name": "key"}}}]}],
        "containers": [{"envFrom": [{"configMapRef": {"name": "env"}}]}],
        "ephemeralContainers": [{"envFrom": [{"secretRef": {"name": "debug"}}]}],
        "volumes": [
            {"name": "scratch", "ephemeral": {}},
            {"name": "x", "csi": {"nodePublishSecretRef": {"name": "csi"}}},
        ],
    }
    found = pod_references({"metadata": {"name": "p", "namespace": "n"}, "spec": spec})
    assert found == {
        ("serviceaccounts", "n", "default"), ("secrets", "n", "pull"), ("secrets", "n", "key"),
        ("secrets", "n", "debug"), ("secrets", "n", "csi"), ("configmaps", "n", "env"),
        ("persistentvolumeclaims", "n", "p-scratch"),
    }  # fmt: skip
