"""What the fuzzers found once, each by itself."""

import json

import pytest

from fuzz.nonsense import SEEDS
from fuzz.served import served

NS = "/api/v1/namespaces/default"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DEEP = b'{"a":' * 5000


@pytest.fixture(scope="module")
def api():
    with served() as found:
        yield found


def test_names_of_unknown_fields_do_not_break_the_answers_lines(api):
    answer = api.send(
        "POST", f"{NS}/configmaps", {"metadata": {"name": "w"}, 'x\r\nX-Y: z"\\': 1, "\ud7ff\u2028": 2}
    )
    assert answer.code == 201
    many = {"metadata": {"name": "w2"}} | {f"{number:0300d}": 1 for number in range(400)}
    # Headers of all that would be refused by clients; 65536 bytes are what they read at most.
    assert api.send("POST", f"{NS}/configmaps", many).code == 201


def test_depth_without_end(api):
    assert api.send("POST", f"{NS}/configmaps", DEEP).code == 400
    assert api.send("PATCH", f"{NS}/configmaps/kube-root-ca.crt", DEEP, Content_Type=MERGE_PATCH).code in {
        400,
        404,
    }


def test_a_patch_that_removes_everything(api):
    api.send("POST", f"{NS}/configmaps", {"metadata": {"name": "a"}})
    for patch in (
        [{"op": "remove", "path": ""}],
        [{"op": "remove", "path": ""}, {"op": "remove", "path": "/x"}],
    ):
        answer = api.send("PATCH", f"{NS}/configmaps/a", patch, Content_Type=JSON_PATCH)
        assert answer.code in {400, 422}, answer


@pytest.mark.parametrize(
    "change", [{"apiVersion": []}, {"apiVersion": ".."}, {"kind": "X"}, {"metadata": "b"}]
)
def test_a_patch_of_another_version_keeps_the_kind(api, change):
    place = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers"
    (seed,) = (seed for seed in SEEDS if seed["apiVersion"] == "autoscaling/v1")
    api.send("POST", place, seed)
    answer = api.send("PATCH", f"{place}/b", change, Content_Type=MERGE_PATCH)
    assert answer.code == 400, answer
    assert api.send("PATCH", f"{place}/b", {"spec": {"maxReplicas": 9}}, Content_Type=MERGE_PATCH).code == 200


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("/apis/apiregistration.k8s.io/v1/apiservices", "spec.group"),
        ("/apis/batch/v1/namespaces/default/jobs", "metadata.name"),
        ("/apis/networking.k8s.io/v1/namespaces/default/ingresses", "spec"),
    ],
)
def test_what_is_missing_is_named(api, place, name):
    answer = api.send("POST", place, {})
    assert answer.code == 422
    assert name in {cause["field"] for cause in answer.tree()["details"]["causes"]}


@pytest.mark.parametrize("text", ["99999999999999999999999", "-1", "x", "٣", "1_0"])
def test_revisions_that_are_no_numbers_of_64_bits(api, text):
    answer = api.send("GET", f"{NS}/configmaps", query=[("resourceVersion", text)])
    assert answer.code == 400
    assert "resource version" in answer.tree()["message"]


def definition(node):
    tree = json.loads(json.dumps(SEEDS[-2]))
    root = tree["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    root["properties"]["spec"]["properties"]["n"] = node
    return tree


@pytest.mark.parametrize(
    "node",
    [
        {"type": "array", "items": "text"},
        {"type": "array", "items": {"type": "object", "properties": {"x": "text"}}},
        {"type": "object", "additionalProperties": 1},
        {"type": "object", "additionalProperties": {"type": 3}},
        {"type": "http://x", "default": 1},
        {"type": "integer", "minimum": -1, "default": -(10**400)},
    ],
)
def test_schemas_that_are_none(api, node):
    answer = api.send("POST", DEFINITIONS, definition(node))
    assert answer.code in {400, 422}, answer


def test_numbers_that_rules_cannot_hold(api):
    assert api.send("POST", DEFINITIONS, SEEDS[-2]).code in {201, 409}
    thing = {**SEEDS[-1], "spec": {"n": 1, "m": {"a": 10**400}}}
    answer = api.send("POST", "/apis/example.com/v1/namespaces/default/things", thing)
    assert answer.code == 422, answer
