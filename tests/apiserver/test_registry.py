"""Create, read, update, patch: what is written and what is answered."""

import base64

import msgspec
import pytest

from edgekube.api import protobuf

NS = "/api/v1/namespaces/default"
MAPS = f"{NS}/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


async def test_create_stamps_and_answers_what_is_stored(api, config_map):
    made = await api.post(MAPS, config_map("a", x="1"))
    meta = made["metadata"]
    assert meta["namespace"] == "default"
    assert meta["uid"]
    assert meta["creationTimestamp"].endswith("Z")
    assert int(meta["resourceVersion"]) > 0
    assert await api.get(f"{MAPS}/a") == made


async def test_names_are_generated_from_the_alphabet(api, config_map):
    body = config_map("")
    body["metadata"] = {"generateName": "x-"}
    made = await api.post(MAPS, body)
    prefix, suffix = made["metadata"]["name"].split("-")
    assert prefix == "x"
    assert len(suffix) == 5
    assert set(suffix) <= set("bcdfghjklmnpqrstvwxz2456789")


async def test_a_taken_name(api, config_map):
    await api.post(MAPS, config_map("a"))
    status = await api.post(MAPS, config_map("a"), code=409)
    assert status["reason"] == "AlreadyExists"
    assert status["message"] == 'configmaps "a" already exists'
    assert status["details"] == {"name": "a", "kind": "configmaps"}


async def test_what_is_not_there(api):
    status = await api.get(f"{DEPLOYMENTS}/x", code=404)
    assert status["message"] == 'deployments.apps "x" not found'
    assert status["details"] == {"name": "x", "group": "apps", "kind": "deployments"}
    status = await api.get("/apis/apps/v1/nothings", code=404)
    assert status["message"] == "the server could not find the requested resource"


async def test_one_broken_rule_and_many(api, deployment):
    broken = deployment("a")
    del broken["spec"]["selector"]
    status = await api.post(DEPLOYMENTS, broken, code=422)
    assert status["reason"] == "Invalid"
    assert status["message"].startswith('Deployment.apps "a" is invalid: ')
    assert status["details"]["kind"] == "Deployment"
    assert any(c["field"] == "spec.selector" for c in status["details"]["causes"])
    broken["spec"]["replicas"] = -1
    status = await api.post(DEPLOYMENTS, broken, code=422)
    assert "is invalid: [" in status["message"]
    assert len(status["details"]["causes"]) >= 2


async def test_an_old_version_is_refused_and_none_overwrites(api, config_map):
    made = await api.post(MAPS, config_map("a", x="1"))
    old = made["metadata"]["resourceVersion"]
    newer = await api.put(f"{MAPS}/a", config_map("a", x="2"))
    body = config_map("a", x="3")
    body["metadata"]["resourceVersion"] = old
    status = await api.put(f"{MAPS}/a", body, code=409)
    assert status["message"] == f'Operation cannot be fulfilled on configmaps "a": {MODIFIED}'
    assert status["reason"] == "Conflict"
    body["metadata"]["resourceVersion"] = newer["metadata"]["resourceVersion"]
    assert (await api.put(f"{MAPS}/a", body))["data"] == {"x": "3"}


async def test_an_update_keeps_identity(api, config_map):
    made = await api.post(MAPS, config_map("a"))
    body = config_map("a", y="1")
    body["metadata"] |= {"creationTimestamp": "2001-01-01T00:00:00Z", "generation": 9}
    changed = await api.put(f"{MAPS}/a", body)
    assert changed["metadata"]["creationTimestamp"] == made["metadata"]["creationTimestamp"]
    assert changed["metadata"]["uid"] == made["metadata"]["uid"]
    assert "generation" not in changed["metadata"]
    body["metadata"]["uid"] = "other"
    status = await api.put(f"{MAPS}/a", body, code=409)
    assert "Precondition failed: UID in precondition: other" in status["message"]


async def test_what_changes_nothing_is_not_written(api, deployment):
    made = await api.post(DEPLOYMENTS, deployment("a"))
    again = await api.put(f"{DEPLOYMENTS}/a", deployment("a"))
    assert again == made
    assert await api.patch(f"{DEPLOYMENTS}/a", {"spec": {"replicas": 1}}) == made


async def test_generation_counts_changes_of_the_spec(api, deployment):
    made = await api.post(DEPLOYMENTS, deployment("a"))
    assert made["metadata"]["generation"] == 1
    labelled = await api.patch(f"{DEPLOYMENTS}/a", {"metadata": {"labels": {"x": "y"}}})
    assert labelled["metadata"]["generation"] == 1
    scaled = await api.patch(f"{DEPLOYMENTS}/a", {"spec": {"replicas": 4}})
    assert scaled["metadata"]["generation"] == 2


async def test_status_and_spec_are_written_apart(api, deployment):
    body = deployment("a") | {"status": {"replicas": 7}}
    made = await api.post(DEPLOYMENTS, body)
    assert not made.get("status")
    made["status"] = {"replicas": 3}
    made["spec"]["replicas"] = 9
    changed = await api.put(f"{DEPLOYMENTS}/a/status", made)
    assert changed["status"]["replicas"] == 3
    assert changed["spec"]["replicas"] == 1
    changed["status"] = {"replicas": 5}
    changed["spec"]["replicas"] = 2
    changed = await api.put(f"{DEPLOYMENTS}/a", changed)
    assert (changed["status"]["replicas"], changed["spec"]["replicas"]) == (3, 2)


async def test_dry_run_writes_nothing(api, config_map):
    made = await api.post(f"{MAPS}?dryRun=All", config_map("a", x="1"))
    assert made["metadata"]["uid"]
    await api.get(f"{MAPS}/a", code=404)
    kept = await api.post(MAPS, config_map("a", x="1"))
    await api.post(f"{MAPS}?dryRun=All", config_map("a"), code=409)
    assert (await api.patch(f"{MAPS}/a?dryRun=All", {"data": {"x": "2"}}))["data"] == {"x": "2"}
    await api.delete(f"{MAPS}/a?dryRun=All")
    assert await api.get(f"{MAPS}/a") == kept
    await api.delete(f"{MAPS}/a?dryRun=Some", code=400)


@pytest.mark.parametrize(
    ("kind", "patch", "wanted"),
    [
        ("merge-patch+json", {"data": {"x": None, "y": "2"}}, {"y": "2"}),
        ("strategic-merge-patch+json", {"data": {"y": "2"}}, {"x": "1", "y": "2"}),
        ("json-patch+json", [{"op": "replace", "path": "/data/x", "value": "9"}], {"x": "9"}),
    ],
)
async def test_patches(api, config_map, kind, patch, wanted):
    await api.post(MAPS, config_map("a", x="1"))
    assert (await api.patch(f"{MAPS}/a", patch, kind=kind))["data"] == wanted


async def test_a_strategic_patch_merges_lists_by_key(api, deployment):
    await api.post(DEPLOYMENTS, deployment("a"))
    container = {"name": "c", "env": [{"name": "A", "value": "1"}]}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
    made = await api.patch(f"{DEPLOYMENTS}/a", patch, kind="strategic-merge-patch+json")
    (merged,) = made["spec"]["template"]["spec"]["containers"]
    assert merged["image"] == "localhost/x:1"
    assert merged["env"] == [{"name": "A", "value": "1"}]


async def test_patch_refusals(api, config_map):
    made = await api.post(MAPS, config_map("a"))
    await api.patch(f"{MAPS}/a", b"{", code=400)
    await api.patch(f"{MAPS}/a", [], code=400)
    await api.patch(f"{MAPS}/a", {}, kind="unknown", code=415)
    await api.patch(f"{MAPS}/b", {}, code=404)
    await api.patch(f"{MAPS}/a", {"metadata": {"name": "b"}}, code=400)
    await api.patch(f"{MAPS}/a", {"data": {"x": "1"}})
    stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}}
    assert (await api.patch(f"{MAPS}/a", stale, code=409))["reason"] == "Conflict"


async def test_unknown_fields(api, config_map):
    body = config_map("a") | {"datum": {}}
    response = await api.send("POST", f"{MAPS}?fieldValidation=Warn", body)
    assert response.code == 201
    assert ("Warning", '299 - "unknown field \\"datum\\""') in response.headers
    response = await api.send("POST", f"{MAPS}?fieldValidation=Ignore", config_map("b") | {"datum": {}})
    assert "Warning" not in dict(response.headers)
    status = await api.post(f"{MAPS}?fieldValidation=Strict", config_map("c") | {"datum": {}}, code=400)
    wanted = 'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "datum"'
    assert status["message"] == wanted
    assert "datum" not in await api.get(f"{MAPS}/a")


async def test_bodies_that_do_not_fit(api, config_map):
    await api.post(MAPS, b"nonsense", code=400)
    await api.post(MAPS, [], code=400)
    await api.post(MAPS, config_map("a") | {"kind": "Secret"}, code=400)
    status = await api.post(MAPS, config_map("a") | {"apiVersion": "v2"}, code=400)
    assert "(v2) does not match the expected API version (v1)" in status["message"]
    body = config_map("a")
    body["metadata"]["namespace"] = "other"
    status = await api.post(MAPS, body, code=400)
    assert "does not match the namespace sent on the request" in status["message"]
    await api.put(f"{MAPS}/b", config_map("a"), code=400)
    status = await api.post(MAPS, config_map("a") | {"data": {"x": 1}}, code=400)
    assert "json: cannot unmarshal number into Go" in status["message"]
    await api.post(MAPS, config_map("a"), code=415, content_type="text/plain")


async def test_yaml_in_and_out(api):
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {when: 2001-01-01, yes: 'no'}\n"
    response = await api.send("POST", MAPS, text, content_type="application/yaml", accept="application/yaml")
    assert response.content_type == "application/yaml"
    assert b"'true': 'no'" in response.body
    assert b"when: '2001-01-01'" in response.body
    await api.post(MAPS, b"data: {a: !!binary aGk=}", content_type="application/yaml", code=400)
    await api.post(MAPS, b"a: [", content_type="application/yaml", code=400)


async def test_protobuf_in(api):
    tree = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"k": "dg=="}}
    body = protobuf.encode(tree, table=protobuf.FieldTable.load())
    made = await api.post(f"{NS}/secrets", body, content_type="application/vnd.kubernetes.protobuf")
    assert made["data"] == {"k": "dg=="}


async def test_string_data_becomes_data(api):
    made = await api.post(f"{NS}/secrets", {"metadata": {"name": "a"}, "stringData": {"k": "v"}})
    assert base64.b64decode(made["data"]["k"]) == b"v"
    assert "stringData" not in made


async def test_only_some_kinds_are_created_by_put(api, config_map):
    await api.put(f"{MAPS}/a", config_map("a"), code=404)
    lease = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}}
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l"
    assert (await api.put(path, lease, code=201))["spec"]["holderIdentity"] == "me"


async def test_methods_that_make_no_sense(api, config_map):
    await api.call("POST", f"{MAPS}/a", config_map("a"), code=405)
    await api.call("PUT", MAPS, config_map("a"), code=405)
    await api.call("DELETE", "/api/v1/namespaces", code=405)
    await api.call("POST", "/api/v1/configmaps", config_map("a"), code=404)


async def test_answers_nobody_can_give(api):
    status = await api.get(MAPS, code=406, accept="image/png")
    assert status["reason"] == "NotAcceptable"
    assert await api.get(MAPS, accept="image/png,application/json")


async def test_stored_bytes_are_the_wire_form_without_the_version(api, config_map):
    made = await api.post(MAPS, config_map("a", x="1"))
    record = await api.server.parts.registry.storage._store.get("/registry/core/configmaps/default/a")
    stored = msgspec.json.decode(record.value)
    version = made["metadata"].pop("resourceVersion")
    assert (stored, record.revision) == (made, int(version))
