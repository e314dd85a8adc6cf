import copy
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekube.api import defaults
from edgekube.api.defaults.container import pull_policy
from edgekube.api.schema import Schemas
from edgekube.api.scheme import Scheme

MANIFESTS = list(yaml.safe_load_all(Path(__file__).with_name("manifests.yaml").read_text()))
SCHEMAS = Schemas.load()
SCHEME = Scheme()


def name_of(tree):
    return f"{tree['kind']}-{tree['metadata']['name']}"


def defaulted(tree):
    row = SCHEME.by_kind(tree["apiVersion"], tree["kind"])
    result = SCHEMAS.normalise(SCHEMAS.definition_of(row.api_version, row.kind), tree)
    assert (result.unknown, result.causes) == ((), ())
    defaults.apply(row, result.tree)
    return row, result.tree


def manifest(kind, name):
    return defaulted(
        copy.deepcopy(next(m for m in MANIFESTS if (m["kind"], m["metadata"]["name"]) == (kind, name)))
    )[1]


@pytest.mark.parametrize("tree", MANIFESTS, ids=name_of)
def test_defaults_are_known_stable_and_decode(tree):
    row, once = defaulted(tree)
    definition = SCHEMAS.definition_of(row.api_version, row.kind)
    again = SCHEMAS.normalise(definition, once)
    assert (again.unknown, again.causes, again.tree) == ((), (), once)
    twice = copy.deepcopy(once)
    defaults.apply(row, twice)
    assert twice == once
    msgspec.convert(once, row.type)


@pytest.mark.parametrize("tree", MANIFESTS, ids=name_of)
def test_what_was_said_stays(tree):
    row, once = defaulted(tree)
    said = SCHEMAS.normalise(SCHEMAS.definition_of(row.api_version, row.kind), tree).tree
    said.pop("stringData", None)
    if tree["kind"] == "Secret":
        said["data"] = once["data"]
    assert lacks(said, once) == []


def lacks(said, got, path="") -> list[str]:
    """Paths at which `got` does not say what `said` says."""
    if isinstance(said, dict) and isinstance(got, dict):
        return [bad for key in said for bad in lacks(said[key], got.get(key), f"{path}.{key}")]
    if isinstance(said, list) and isinstance(got, list) and len(said) == len(got):
        return [
            bad
            for index, pair in enumerate(zip(said, got, strict=True))
            for bad in lacks(*pair, f"{path}[{index}]")
        ]
    return [] if said == got else [path]


def test_a_deployment_of_few_words():
    spec = manifest("Deployment", "web")["spec"]
    assert spec["replicas"] == 1
    assert spec["revisionHistoryLimit"] == 10
    assert spec["progressDeadlineSeconds"] == 600
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
    }
    pod = spec["template"]["spec"]
    assert {
        k: pod[k]
        for k in (
            "restartPolicy",
            "dnsPolicy",
            "schedulerName",
            "securityContext",
            "terminationGracePeriodSeconds",
        )
    } == {
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    }
    assert "enableServiceLinks" not in pod  # only pods get it
    (web,) = pod["containers"]
    assert web["imagePullPolicy"] == "Always"
    assert pod["initContainers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert (web["terminationMessagePath"], web["terminationMessagePolicy"]) == (
        "/dev/termination-log",
        "File",
    )
    assert [p["protocol"] for p in web["ports"]] == ["TCP", "UDP"]
    assert web["livenessProbe"] == {
        "httpGet": {"port": "http", "path": "/", "scheme": "HTTP"},
        "initialDelaySeconds": 3, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
    }  # fmt: skip
    assert web["startupProbe"]["failureThreshold"] == 30
    assert web["lifecycle"]["preStop"]["httpGet"] == {"port": 80, "path": "/bye", "scheme": "HTTP"}
    assert web["env"][1]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"
    assert web["resources"]["requests"] == {"cpu": "100m"}
    by_name = {v["name"]: v for v in pod["volumes"]}
    assert by_name["config"]["configMap"]["defaultMode"] == 0o644
    assert by_name["secret"]["secret"]["defaultMode"] == 0o644
    assert by_name["host"]["hostPath"]["type"] == ""
    assert by_name["nothing"] == {"name": "nothing", "emptyDir": {}}
    sources = by_name["all"]["projected"]["sources"]
    assert sources[0]["serviceAccountToken"]["expirationSeconds"] == 3600
    assert sources[2]["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"] == "v1"


def test_recreate_has_no_rolling_update():
    spec = manifest("Deployment", "one")["spec"]
    assert spec["strategy"] == {"type": "Recreate"}
    assert spec["replicas"] == 0
    assert spec["template"]["spec"]["serviceAccount"] == "robot"


def test_a_pod():
    spec = manifest("Pod", "bare")["spec"]
    assert spec["enableServiceLinks"] is True
    assert spec["terminationGracePeriodSeconds"] == 0
    (container,) = spec["containers"]
    assert container["resources"]["requests"] == {"cpu": "1", "example.com/gpu": "2"}
    assert container["ports"] == [{"containerPort": 80, "protocol": "TCP", "hostPort": 80}]


def test_services():
    web = manifest("Service", "web")["spec"]
    assert web == {
        "selector": {"app": "web"},
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
    }
    many = manifest("Service", "many")["spec"]
    assert many["externalTrafficPolicy"] == "Cluster"
    assert many["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    assert manifest("Service", "headless")["spec"]["clusterIPs"] == ["None"]
    assert "ipFamilies" not in manifest("Service", "alias")["spec"]


def test_secrets_and_namespaces_and_nodes():
    secret = manifest("Secret", "s")
    assert secret["type"] == "Opaque"
    assert secret["data"] == {"k": "aGVsbG8=", "other": "aGk="}
    assert "stringData" not in secret
    namespace = manifest("Namespace", "team-a")
    assert namespace["metadata"]["labels"] == {"who": "me", "kubernetes.io/metadata.name": "team-a"}
    assert namespace["spec"]["finalizers"] == ["kubernetes"]
    assert namespace["status"] == {"phase": "Active"}
    node = manifest("Node", "pi-1")
    assert node["status"]["allocatable"] == node["status"]["capacity"]


def test_a_namespace_being_deleted_can_lose_its_finalizer():
    tree = {
        "metadata": {"name": "a", "deletionTimestamp": "2024-01-02T03:04:05Z"},
        "spec": {"finalizers": []},
    }
    defaults.apply(SCHEME.by_kind("v1", "Namespace"), tree)
    assert tree["spec"]["finalizers"] == []


def test_slices_and_volumes():
    assert manifest("EndpointSlice", "web-x")["ports"] == [{"port": 80, "name": "", "protocol": "TCP"}]
    assert manifest("Endpoints", "web")["subsets"][0]["ports"] == [{"port": 80, "protocol": "TCP"}]
    volume = manifest("PersistentVolume", "pv")
    assert (volume["spec"]["persistentVolumeReclaimPolicy"], volume["spec"]["volumeMode"]) == (
        "Retain",
        "Filesystem",
    )
    assert manifest("PersistentVolumeClaim", "pvc")["spec"]["storageClassName"] == ""


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("a", "Always"), ("a:latest", "Always"), ("a:1", "IfNotPresent"), ("host:5000/a", "Always"),
        ("host:5000/a:1", "IfNotPresent"), ("a@sha256:0", "IfNotPresent"), ("a:latest@sha256:0", "IfNotPresent"),
        ("", "IfNotPresent"),
    ],
)  # fmt: skip
def test_pull_policy(image, policy):
    assert pull_policy(image) == policy


@settings(max_examples=60)
@given(st.sampled_from(MANIFESTS), st.data())
def test_defaults_of_less(tree, data):
    """Whatever is left out, defaulting neither fails nor differs the second time."""
    tree = copy.deepcopy(tree)
    for _ in range(data.draw(st.integers(1, 4))):
        node = tree
        while True:
            keys = [
                k
                for k in (node if isinstance(node, dict) else range(len(node)))
                if k not in ("apiVersion", "kind")
            ]
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(node[key], (dict, list)) and data.draw(st.booleans()):
                node = node[key]
                continue
            del node[key]
            break
    row = SCHEME.by_kind(tree["apiVersion"], tree["kind"])
    definition = SCHEMAS.definition_of(row.api_version, row.kind)
    result = SCHEMAS.normalise(definition, tree)
    assert result.malformed == ()
    defaults.apply(row, result.tree)
    twice = copy.deepcopy(result.tree)
    defaults.apply(row, twice)
    assert twice == result.tree
    msgspec.convert(SCHEMAS.normalise(definition, twice).tree, row.type)
