"""OpenAPI v2 in both forms."""

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
