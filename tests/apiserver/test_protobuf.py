"""Answers in protobuf: what they say is what JSON says."""

import struct

import msgspec
import pytest

from edgekube.api import protobuf
from edgekube.api.protobuf import FieldTable
from edgekube.api.protobuf.wire import records

TYPE = "application/vnd.kubernetes.protobuf"
MAPS = "/api/v1/namespaces/default/configmaps"
TABLE = FieldTable.load()


def config(name="c", **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def decoded(body):
    return protobuf.decode(body, table=TABLE)


async def test_objects_and_lists(api):
    await api.post(MAPS, config(a="1"))
    plain = await api.get(f"{MAPS}/c")
    answer = await api.send("GET", f"{MAPS}/c", accept=f"{TYPE},application/json")
    assert answer.content_type == TYPE
    assert answer.body.startswith(b"k8s\0")
    found = decoded(answer.body)
    assert (found["data"], found["metadata"]["uid"]) == (plain["data"], plain["metadata"]["uid"])
    listed = decoded((await api.send("GET", MAPS, accept=TYPE)).body)
    assert listed["kind"] == "ConfigMapList"
    assert [item["metadata"]["name"] for item in listed["items"]] == ["c"]
    assert listed["metadata"]["resourceVersion"]


async def test_a_watch(api):
    answer = await api.send("GET", f"{MAPS}?watch=true&timeoutSeconds=5", accept=f"{TYPE};stream=watch")
    assert answer.content_type == f"{TYPE};stream=watch"
    await api.post(MAPS, config(a="1"))
    async for batch in answer.events:
        (event,) = batch
        assert struct.unpack(">I", event.frame[:4])[0] == len(event.frame) - 4
        parts = {number: bytes(value) for number, _, value in records(memoryview(event.frame[4:]))}
        assert parts[1] == b"ADDED"
        inner = {number: bytes(value) for number, _, value in records(memoryview(parts[2]))}
        assert decoded(inner[1])["data"] == {"a": "1"}
        break
    await answer.events.aclose()


@pytest.mark.parametrize(("accept", "code", "kind"), [
    (f"{TYPE},application/json", 200, "application/json"), (TYPE, 406, "application/json"),
])  # fmt: skip
async def test_what_has_no_such_form(api, accept, code, kind):
    answer = await api.send("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", accept=accept)
    if answer.content_type != TYPE:
        assert (answer.code, answer.content_type) == (code, kind)
    table = await api.send(
        "GET", MAPS, accept=f"{TYPE};as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io"
    )
    assert msgspec.json.decode(table.body)["kind"] == "Table"
