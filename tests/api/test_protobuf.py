from base64 import b64decode
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekube.api.errors import BadRequest, NotAcceptable
from edgekube.api.protobuf import FieldTable, decode, encode
from edgekube.api.protobuf.wire import write_bytes, write_number
from edgekube.api.schema import Schemas
from edgekube.api.scheme import BUILT_IN

# Bodies that kubectl 1.37 sent.
DEPLOYMENT = (
    "azhzAAoVCgdhcHBzL3YxEgpEZXBsb3ltZW50EsABCh8KA3dlYhIAGgAiACoAMgA4AEIAWgoKA2FwcBIDd2ViEo4BCAISDAoKCgNhcHASA3dlYhp0ChwKABIA"
    "GgAiACoAMgA4AEIAWgoKA2FwcBIDd2ViElQSNgoDd2ViEg9sb2NhbGhvc3Qvd2ViOjEqADIKCgAQABhQIgAqAEIAagByAIABAIgBAJABAKIBABoAMgBCAEoA"
    "UgBYAGAAaACCAQCKAQCaAQDCAQAiAgoAKAA4ABoMCAAQABgAIAAoADgAGgAiAA=="
)
SERVICE = (
    "azhzAAoNCgJ2MRIHU2VydmljZRJpCh8KA3dlYhIAGgAiACoAMgA4AEIAWgoKA2FwcBIDd2ViEkIKGwoHODAtODA4MBIDVENQGFAiBwgAEJA/GgAoABIKCgNh"
    "cHASA3dlYhoAIglDbHVzdGVySVA6AEIAUgBaAGAAaAAaAgoAGgAiAA=="
)
SECRET = "azhzAAoMCgJ2MRIGU2VjcmV0Eh4KEQoBcxIAGgAiACoAMgA4AEIAEgcKAWESAmhpGgAaACIA"
TOKEN = "azhzAAooChhhdXRoZW50aWNhdGlvbi5rOHMuaW8vdjESDFRva2VuUmVxdWVzdBIdChAKABIAGgAiACoAMgA4AEIAEgMgkBwaBAoAEgAaACIA"
BUDGET = (
    "azhzAAogCglwb2xpY3kvdjESE1BvZERpc3J1cHRpb25CdWRnZXQSNgoRCgFwEgAaACIAKgAyADgAQgASFQoJCAEQABoDNTAlEggKBgoBYRIBYhoKCAAYACAA"
    "KAAwABoAIgA="
)


@pytest.fixture(scope="module")
def table() -> FieldTable:
    return FieldTable.load()


def body(api_version: str, kind: str, raw: bytes) -> bytes:
    meta = write_bytes(1, api_version.encode()) + write_bytes(2, kind.encode())
    return b"k8s\0" + write_bytes(1, meta) + write_bytes(2, raw)


@pytest.mark.parametrize(
    ("sent", "tree"),
    [
        (DEPLOYMENT, {
            "kind": "Deployment", "apiVersion": "apps/v1",
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [
                        {"name": "web", "image": "localhost/web:1", "ports": [{"containerPort": 80}], "resources": {}},
                    ]},
                },
                "strategy": {},
            },
            "status": {},
        }),
        (SERVICE, {
            "kind": "Service", "apiVersion": "v1",
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {
                "ports": [{"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080}],
                "selector": {"app": "web"},
                "type": "ClusterIP",
            },
            "status": {"loadBalancer": {}},
        }),
        (SECRET, {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}, "data": {"a": "aGk="}}),
        (TOKEN, {
            "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
            "spec": {"expirationSeconds": 3600}, "status": {},
        }),
        (BUDGET, {
            "kind": "PodDisruptionBudget", "apiVersion": "policy/v1", "metadata": {"name": "p"},
            "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}}, "status": None,
        }),
    ],
    ids=["Deployment", "Service", "Secret", "TokenRequest", "PodDisruptionBudget"],
)  # fmt: skip
def test_what_kubectl_sends(table, sent, tree):
    decoded = decode(b64decode(sent), table=table)
    if tree.get("status", ...) is None:  # counts a client sends as zeros
        tree["status"] = decoded["status"]
    assert decoded == tree


def test_options_come_with_any_group(table):
    raw = write_number(1, 0) + write_bytes(4, b"Foreground") + write_bytes(5, b"All")
    expected = {"gracePeriodSeconds": 0, "propagationPolicy": "Foreground", "dryRun": ["All"]}
    for version in ("v1", "apps/v1", "meta.k8s.io/v1", "example.org/v1"):
        tree = decode(body(version, "DeleteOptions", raw), table=table)
        assert tree == {"kind": "DeleteOptions", "apiVersion": version, **expected}
    assert decode(body("meta.k8s.io/v1", "PatchOptions", write_number(2, 1)), table=table)["force"] is True


POD = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {
        "name": "a",
        "creationTimestamp": "2024-01-02T03:04:05Z",
        "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}, "time": "1969-12-31T23:59:59Z"}],
    },
    "spec": {
        "volumes": [
            {"name": "e", "emptyDir": {"sizeLimit": "1Gi"}},
            {
                "name": "c",
                "configMap": {"name": "cm", "defaultMode": 0, "items": [{"key": "k", "path": "p"}]},
            },
        ],
        "containers": [
            {
                "name": "c",
                "env": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": False}}}
                ],
                "envFrom": [{"configMapRef": {"name": "cm"}}],
                "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 5},
                "readinessProbe": {"tcpSocket": {"port": 80}},
                "resources": {"limits": {"cpu": "500m"}, "requests": {"cpu": "0"}},
                "securityContext": {"runAsUser": 0, "privileged": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
        "terminationGracePeriodSeconds": 0,
        "ephemeralContainers": [{"name": "d", "image": "i", "targetContainerName": "c", "resources": {}}],
        "securityContext": {"supplementalGroups": [1, 2]},
        "tolerations": [{"operator": "Exists", "tolerationSeconds": -1}],
    },
}
CLAIM = {
    "kind": "PersistentVolumeClaim",
    "apiVersion": "v1",
    "metadata": {"name": "a"},
    "spec": {
        "storageClassName": "",
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    },
}
LEASE = {
    "kind": "Lease",
    "apiVersion": "coordination.k8s.io/v1",
    "metadata": {"name": "a"},
    "spec": {"renewTime": "2024-01-02T03:04:05.123456Z", "leaseTransitions": 0, "holderIdentity": "x"},
}
REVIEW = {
    "kind": "SubjectAccessReview",
    "apiVersion": "authorization.k8s.io/v1",
    "metadata": {},
    "spec": {"user": "u", "extra": {"k": ["a", ""]}, "groups": ["g"]},
    "status": {"allowed": True},
}
REVISION = {
    "kind": "ControllerRevision",
    "apiVersion": "apps/v1",
    "metadata": {"name": "a"},
    "data": {"spec": [1, None, "x"]},
    "revision": 3,
}


@pytest.mark.parametrize("tree", [POD, CLAIM, LEASE, REVIEW, REVISION], ids=lambda tree: tree["kind"])
def test_round_trip(table, tree):
    assert decode(encode(tree, table=table), table=table) == tree


def test_packed_numbers(table):
    context = write_bytes(4, b"\x01\x02")
    pod = decode(body("v1", "Pod", write_bytes(2, write_bytes(14, context))), table=table)
    assert pod["spec"]["securityContext"]["supplementalGroups"] == [1, 2]


def test_unknown_fields_are_skipped(table):
    raw = write_bytes(1, write_bytes(1, b"a")) + write_bytes(99, b"x") + write_number(98, 7)
    assert decode(body("v1", "ConfigMap", raw), table=table)["metadata"] == {"name": "a"}


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"k8s\0",
        b"{}",
        b"k8s\1",
        body("v1", "Nothing", b""),
        body("example.org/v1", "Foo", b""),
        body("v1", "Pod", b"\x0a"),  # a length is missing
        body("v1", "Pod", b"\x0a\x05a"),  # shorter than its length
        body("v1", "Pod", b"\x0b"),  # a group
        body("v1", "Pod", b"\x02\x00"),  # field number 0
        body("v1", "Pod", b"\xff" * 12),  # an endless number
        body("v1", "Pod", write_number(1, 1)),  # metadata as a number
        body("v1", "Pod", write_bytes(1, write_bytes(1, b"\xff"))),  # no UTF-8
        body("v1", "Pod", write_bytes(1, write_bytes(7, b"1"))),  # generation as bytes
        body("v1", "Pod", write_bytes(1, write_bytes(8, write_number(1, 2**62)))),  # a time out of range
        body("apps/v1", "ControllerRevision", write_bytes(2, write_bytes(1, b"{"))),
        b"k8s\0" + write_bytes(3, b"gzip"),
    ],
)
def test_malformed(table, sent):
    with pytest.raises(BadRequest):
        decode(sent, table=table)


def test_nesting_without_end(table):
    raw = b""
    for _ in range(200):
        raw = body("apps/v1", "ControllerRevision", write_bytes(2, write_bytes(1, raw)))
    with pytest.raises(BadRequest, match="too deeply"):
        decode(raw, table=table)


def test_no_form(table):
    with pytest.raises(NotAcceptable):
        encode({"apiVersion": "example.org/v1", "kind": "Foo"}, table=table)


TABLE = FieldTable.load()


@given(st.binary(max_size=200), st.sampled_from(["Pod", "Service", "Secret", "Event", "DeleteOptions"]))
def test_any_bytes_are_read_or_refused(raw, kind):
    for sent in (b"k8s\0" + raw, body("v1", kind, raw)):
        with suppress(BadRequest):
            assert isinstance(decode(sent, table=TABLE), dict)


@settings(max_examples=300)
@given(st.sampled_from([DEPLOYMENT, SERVICE, SECRET, BUDGET]), st.data())
def test_damaged_bodies_are_read_or_refused(sent, data):
    damaged = bytearray(b64decode(sent))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(4, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(BadRequest):
        decode(bytes(damaged), table=TABLE)


JSON_ONLY = {"metrics.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io"}
"""Groups of other API servers, whose clients speak JSON too."""


def test_every_row_of_the_scheme_has_a_message_that_fits_its_schema():
    schemas = Schemas.load()
    for row in BUILT_IN:
        if row.group in JSON_ONLY:
            continue
        message = TABLE.message_of(row.api_version, row.kind)
        definition = schemas.definition(schemas.definition_of(row.api_version, row.kind))
        names = {field.name for field in TABLE.fields(message).values()}
        assert names == definition["properties"].keys() - {"apiVersion", "kind"}
