"""fieldValidation: unknown and repeated fields are refused, warned of, or dropped; scales are applied."""

import json

import pytest

from edgekube.api.errors import BadRequest
from edgekube.apiserver.codec import from_json, from_yaml

DEFAULT = "/api/v1/namespaces/default"
MAPS = f"{DEFAULT}/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
TWICE = b'{"metadata":{"name":"a","labels":{"x":"1","x":"2"}},"data":{"k":"1"},"data":{"k":"2"},"foo":1}'
STRICT = (
    'strict decoding error: duplicate field "data", duplicate field "metadata.labels.x", unknown field "foo"'
)
YAML = b"""
apiVersion: v1
kind: ConfigMap
metadata:
  name: a
  labels: {x: "1", x: "2"}
data: {k: "1"}
data: {k: "2"}
foo: 1
"""


def warnings(response):
    return [value for name, value in response.headers if name == "Warning"]


@pytest.mark.parametrize("query", ["?fieldValidation=Strict", "?fieldValidation=Strict&dryRun=All"])
async def test_strict(api, query):
    status = await api.post(MAPS + query, TWICE, 400)
    assert status["message"].endswith(STRICT)


@pytest.mark.parametrize("query", ["?fieldValidation=Warn", ""])
async def test_warn(api, query):
    response = await api.send("POST", MAPS + query, TWICE)
    assert response.code == 201
    assert warnings(response) == [
        '299 - "duplicate field \\"data\\""',
        '299 - "duplicate field \\"metadata.labels.x\\""',
        '299 - "unknown field \\"foo\\""',
    ]
    made = json.loads(response.body)
    assert (made["data"], made["metadata"]["labels"]) == ({"k": "2"}, {"x": "2"})


async def test_ignore(api):
    response = await api.send("POST", f"{MAPS}?fieldValidation=Ignore", TWICE)
    assert (response.code, warnings(response)) == (201, [])


async def test_yaml(api):
    sent = {"content_type": "application/yaml"}
    status = await api.post(f"{MAPS}?fieldValidation=Strict", YAML, 400, **sent)
    assert (
        'yaml: unmarshal errors:\n  line 6: key "x" already set in map\n  line 8: key "data" already set in map'
        in status["message"]
    )
    response = await api.send("POST", MAPS, YAML, **sent)
    assert '299 - "line 8: key \\"data\\" already set in map"' in warnings(response)
    assert json.loads(response.body)["data"] == {"k": "2"}


async def test_an_applied_configuration(api):
    path = f"{MAPS}/a?fieldManager=m&fieldValidation="
    status = await api.patch(f"{path}Strict", YAML.replace(b"foo: 1\n", b""), 400, "apply-patch+yaml")
    assert 'line 8: key "data" already set in map' in status["message"]
    response = await api.send(
        "PATCH", f"{path}Warn", YAML.replace(b"foo: 1\n", b""), content_type="application/apply-patch+yaml"
    )
    assert response.code == 201
    assert len(warnings(response)) == 2


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        (b'{ "a" : 1, "a": 2 }', ["a"]),
        (b'{"a":1,"a":1,"a":1}', ["a"]),
        (b'{"a":[{"b":1},{"b":1,"b":2}]}', ["a[1].b"]),
        (b'{"a":{"b":{"c":1,"c":2}},"d":"\\u003c"}', ["a.b.c"]),
        (b'{"a": "<", "b": "\\u003c", "c": 1e3}', []),
    ],
)
def test_repeated_fields_are_found_wherever_they_are(body, paths):
    tree = from_json(body)
    assert tree == json.loads(body)
    assert [text.split('"')[1] for text in getattr(tree, "duplicates", ())] == paths


def test_what_is_broken_is_refused_as_before():
    for body in (b'{"a": 1,}', b"{", b"\xff"):
        with pytest.raises(BadRequest):
            from_json(body)
    for body in (b"a: [", b"a: 1\n---\nb: 2\n"):
        with pytest.raises(BadRequest):
            from_yaml(body)


# ---- scales ----


def scale(replicas):
    return {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": replicas}}  # fmt: skip


async def entry(api, manager):
    found = (await api.get(f"{DEPLOYMENTS}/web"))["metadata"]["managedFields"]
    return next((e for e in found if e["manager"] == manager), None)


async def test_a_scale_may_be_applied(api, deployment):
    await api.post(f"{DEPLOYMENTS}?fieldManager=maker", deployment("web", replicas=1))
    path = f"{DEPLOYMENTS}/web/scale?fieldManager=scaler"
    status = await api.patch(path, scale(3), 409, "apply-patch+yaml")
    assert status["details"]["causes"][0]["field"] == ".spec.replicas"
    made = await api.patch(f"{path}&force=true", scale(3), kind="apply-patch+yaml")
    assert (made["kind"], made["spec"]) == ("Scale", {"replicas": 3})
    mine = await entry(api, "scaler")
    assert (mine["operation"], mine["subresource"], mine["apiVersion"]) == ("Apply", "scale", "apps/v1")
    assert mine["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in (await entry(api, "maker"))["fieldsV1"]["f:spec"]
    assert (await api.patch(path, scale(4), kind="apply-patch+yaml"))["spec"] == {"replicas": 4}
    await api.patch(f"{path}&dryRun=All", scale(9), kind="apply-patch+yaml")
    assert (await api.get(f"{DEPLOYMENTS}/web"))["spec"]["replicas"] == 4
    await api.patch(
        f"{DEPLOYMENTS}/none/scale?fieldManager=x", scale(1) | {"metadata": {}}, 404, "apply-patch+yaml"
    )
    await api.patch(f"{DEPLOYMENTS}/web/scale", scale(1), 422, "apply-patch+yaml")
    wrong = scale(1) | {"kind": "Deployment", "apiVersion": "apps/v1"}
    await api.patch(path, wrong, 400, "apply-patch+yaml")


async def test_owned_fields_are_written_in_order(api, deployment):
    tree = deployment("web", replicas=1)
    tree["metadata"]["labels"] = {"z": "1", "a": "2"}
    await api.post(f"{DEPLOYMENTS}?fieldManager=m", tree)
    await api.patch(f"{DEPLOYMENTS}/web?fieldManager=m", {"metadata": {"labels": {"b": "3"}}})

    def check(fields):
        assert list(fields) == sorted(fields)
        for below in fields.values():
            check(below)

    check((await entry(api, "m"))["fieldsV1"])
