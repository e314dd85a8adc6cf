"""OpenAPI v2 in both forms."""

from apiserver.test_crd import DEFINITIONS, definition, until
from edgekube.api.protobuf.wire import records

GNOSTIC = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


def fields(data):
    found = {}
    for number, _, value in records(memoryview(data)):
        found.setdefault(number, []).append(bytes(value) if isinstance(value, memoryview) else value)
    return found


async def test_json(api):
    tree = await api.get("/openapi/v2")
    pod = tree["definitions"]["io.k8s.api.core.v1.Pod"]
    assert pod["x-kubernetes-group-version-kind"] == [{"group": "", "version": "v1", "kind": "Pod"}]
    assert pod["properties"]["spec"]["$ref"] == "#/definitions/io.k8s.api.core.v1.PodSpec"
    assert "allOf" not in str(pod)


async def test_protobuf_says_the_same(api):
    tree = await api.get("/openapi/v2")
    answer = await api.send("GET", "/openapi/v2", accept=GNOSTIC)
    assert answer.content_type == GNOSTIC
    whole = fields(answer.body)
    assert whole[1] == [b"2.0"]
    named = [fields(entry) for entry in fields(whole[9][0])[1]]
    found = {entry[1][0].decode(): fields(entry[2][0]) for entry in named}
    assert found.keys() == tree["definitions"].keys()
    pod = found["io.k8s.api.core.v1.Pod"]
    assert pod[22] == [b"\n\x06object"]
    properties = {fields(entry)[1][0].decode() for entry in fields(pod[25][0])[1]}
    assert properties == tree["definitions"]["io.k8s.api.core.v1.Pod"]["properties"].keys()
    tag = dict(answer.headers)["ETag"]
    assert (await api.send("GET", "/openapi/v2", accept=GNOSTIC, if_none_match=tag)).code == 304


async def test_of_a_kind_that_takes_any_field_nothing_is_told(api):
    schema = {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
    }
    for plural, preserved in (
        ("anythings", schema),
        ("somethings", {**schema, "x-kubernetes-preserve-unknown-fields": None}),
    ):
        made = definition(schema={"openAPIV3Schema": {name: value for name, value in preserved.items() if value}},
                          subresources={}, selectableFields=[])  # fmt: skip
        made["metadata"]["name"] = f"{plural}.example.com"
        made["spec"]["names"] = {"plural": plural, "kind": plural.title()}
        await api.post(DEFINITIONS, made)

    async def told():
        found = (await api.get("/openapi/v2"))["definitions"]
        return found if "com.example.v1.Somethings" in found else None

    found = await until(told)
    kind = {"group": "example.com", "version": "v1", "kind": "Anythings"}
    assert found["com.example.v1.Anythings"] == {"type": "object", "x-kubernetes-group-version-kind": [kind]}
    assert "spec" in found["com.example.v1.Somethings"]["properties"]
