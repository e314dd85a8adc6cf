"""[sig-api-machinery] CustomResourceDefinitions, field validation, admission policies."""

import json

import pytest

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
POLICIES = "/apis/admissionregistration.k8s.io/v1"


def definition(unique, schema=None, **version):
    kind = f"Noxu{unique}"
    names = {"plural": f"{kind.lower()}s", "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
    shape = schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    one = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": shape}, **version}
    return {
        "metadata": {"name": f"{names['plural']}.mygroup.example.com", "labels": {"e2e": unique}},
        "spec": {"group": "mygroup.example.com", "scope": "Namespaced", "names": names, "versions": [one]},
    }


class Custom:
    """A definition that is established, and the path of its objects."""

    def __init__(self, api, tree):
        self.api, self.tree = api, tree
        self.path = api.within("mygroup.example.com/v1", tree["spec"]["names"]["plural"])
        self.definition = f"{DEFINITIONS}/{tree['metadata']['name']}"

    def object(self, name, **content):
        return {"apiVersion": "mygroup.example.com/v1", "kind": self.tree["spec"]["names"]["kind"], "metadata": {"name": name}, **content}  # fmt: skip


@pytest.fixture
async def custom(api, unique):
    made = []

    async def establish(schema=None, **version):
        tree = definition(unique, schema, **version)
        await api.post(DEFINITIONS, tree)

        def established(found):
            return any(
                c["type"] == "Established" and c["status"] == "True"
                for c in found.get("status", {}).get("conditions") or ()
            )

        found = Custom(api, tree)
        await api.comes(found.definition, established)
        made.append(found)
        return found

    yield establish
    for found in made:
        await api.send("DELETE", found.definition)


async def test_creating_and_deleting_definitions_works(api, custom):
    noxu = await custom()
    await api.post(noxu.path, noxu.object("a", content={"key": "value"}))
    assert (await api.get(f"{noxu.path}/a"))["content"] == {"key": "value"}
    await api.delete(noxu.definition)
    await api.gone(noxu.definition)
    await api.gone(noxu.path)


async def test_listing_definitions_works(api, unique):
    for number in range(3):
        await api.post(DEFINITIONS, definition(f"{unique}n{number}") | {"metadata": {
            "name": f"noxu{unique}n{number}s.mygroup.example.com", "labels": {"e2e-list": unique}}})  # fmt: skip
    listed = await api.items(f"{DEFINITIONS}?labelSelector=e2e-list={unique}")
    assert len(listed) == 3
    await api.delete(f"{DEFINITIONS}?labelSelector=e2e-list={unique}")

    async def empty():
        return await api.items(f"{DEFINITIONS}?labelSelector=e2e-list={unique}") == []

    await api.until(empty)


async def test_getting_updating_and_patching_a_definition_s_status_works(api, custom):
    noxu = await custom()
    condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from a test"}
    await api.get(f"{noxu.definition}/status")
    await api.update(f"{noxu.definition}/status", lambda tree: tree["status"]["conditions"].append(condition))
    patched = await api.patch(f"{noxu.definition}/status", {"metadata": {"annotations": {"a": "b"}}})
    assert "StatusUpdate" in {c["type"] for c in patched["status"]["conditions"]}


async def test_defaulting_for_requests_and_from_storage_works(api, custom):
    props = {"a": {"type": "string", "default": "A"}, "b": {"type": "string"}}
    noxu = await custom({"type": "object", "properties": props})
    made = await api.post(noxu.path, noxu.object("a"))
    assert made["a"] == "A"
    assert "b" not in made

    def more(tree):
        tree["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["b"]["default"] = "B"

    await api.update(noxu.definition, more)
    shown = await api.comes(f"{noxu.path}/a", lambda tree: tree.get("b") == "B")
    assert shown["a"] == "A"
    patched = await api.patch(f"{noxu.path}/a", {"metadata": {"labels": {"x": "y"}}})
    assert (patched["a"], patched["b"]) == ("A", "B")


async def test_watches_on_custom_resources(api, custom):
    noxu = await custom()
    rv = (await api.get(noxu.path))["metadata"]["resourceVersion"]
    async with api.watch(noxu.path, resourceVersion=rv) as watch:
        for name in ("a", "b"):
            await api.post(noxu.path, noxu.object(name))
        for name in ("a", "b"):
            await api.delete(f"{noxu.path}/{name}")
        seen = [(sort, tree["metadata"]["name"]) for sort, tree in [await watch() for _ in range(4)]]
    assert seen == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a"), ("DELETED", "b")]


async def test_selectable_fields(api, custom):
    props = {"spec": {"type": "object", "properties": {"host": {"type": "string"}}}}
    noxu = await custom(
        {"type": "object", "properties": props}, selectableFields=[{"jsonPath": ".spec.host"}]
    )
    for name, host in (("a", "x"), ("b", "y")):
        await api.post(noxu.path, noxu.object(name, spec={"host": host}))
    assert [
        item["metadata"]["name"] for item in await api.items(f"{noxu.path}?fieldSelector=spec.host=y")
    ] == ["b"]


async def test_status_and_scale_of_a_custom_resource(api, custom):
    numbers = {"type": "object", "properties": {"replicas": {"type": "integer"}}}
    schema = {"type": "object", "properties": {"spec": numbers, "status": numbers}}
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    noxu = await custom(schema, subresources={"status": {}, "scale": scale})
    made = await api.post(noxu.path, noxu.object("a", spec={"replicas": 1}, status={"replicas": 9}))
    assert "status" not in made
    assert made["metadata"]["generation"] == 1
    patched = await api.patch(f"{noxu.path}/a/status", {"status": {"replicas": 1}, "spec": {"replicas": 7}})
    assert (patched["spec"], patched["status"], patched["metadata"]["generation"]) == (
        {"replicas": 1},
        {"replicas": 1},
        1,
    )
    scaled = await api.patch(f"{noxu.path}/a/scale", {"spec": {"replicas": 3}})
    assert (scaled["spec"], scaled["status"]) == ({"replicas": 3}, {"replicas": 1})


async def test_the_schema_is_published(api, custom):
    props = {
        "spec": {
            "type": "object",
            "description": "what is wanted",
            "properties": {"size": {"type": "integer"}},
        }
    }
    noxu = await custom({"type": "object", "properties": props})
    group = "apis/mygroup.example.com/v1"

    async def published():
        paths = (await api.get("/openapi/v3"))["paths"]
        if group not in paths:
            return None
        document = await api.get(paths[group]["serverRelativeURL"])
        kind = noxu.tree["spec"]["names"]["kind"]
        return next((s for n, s in document["components"]["schemas"].items() if n.endswith(f".{kind}")), None)

    schema = await api.until(published)
    assert schema["properties"]["spec"]["description"] == "what is wanted"


# ---- FieldValidation ----


async def test_unknown_fields_of_a_typed_object(api):
    path = f"{api.base}/configmaps?fieldValidation="
    body = {"metadata": {"name": "a", "unknownMeta": 1}, "unknownField": 2}
    status = await api.post(f"{path}Strict", body, 400)
    assert (
        'strict decoding error: unknown field "metadata.unknownMeta", unknown field "unknownField"'
        in status["message"]
    )
    answer, _ = await api.send("POST", f"{path}Warn", body)
    assert answer.status == 201
    assert len(answer.headers.getall("Warning")) == 2


async def test_unknown_and_duplicate_fields_of_a_typed_object(api):
    text = (
        json.dumps({"metadata": {"name": "a"}, "foo": 1})[:-1] + ', "data": {"a": "b"}, "data": {"c": "d"}}'
    )
    status = await api.post(f"{api.base}/configmaps?fieldValidation=Strict", text, 400)
    assert 'duplicate field "data"' in status["message"]
    assert 'unknown field "foo"' in status["message"]


async def test_fields_of_a_custom_resource(api, custom):
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"cronSpec": {"type": "string"}}}},
    }
    noxu = await custom(schema)
    good = noxu.object("a", spec={"cronSpec": "* * * * */5"})
    await api.post(f"{noxu.path}?fieldValidation=Strict", good)
    bad = noxu.object("b", spec={"cronSpec": "x", "extra": 1}, other=2)
    bad["metadata"]["unknownMeta"] = "x"
    status = await api.post(f"{noxu.path}?fieldValidation=Strict", bad, 400)
    for field in ("metadata.unknownMeta", "spec.extra", "other"):
        assert f'unknown field "{field}"' in status["message"]
    made = await api.post(f"{noxu.path}?fieldValidation=Ignore", bad)
    assert made["spec"] == {"cronSpec": "x"}
    text = json.dumps(noxu.object("c"))[:-1] + ', "spec": {"cronSpec": "a", "cronSpec": "b"}}'
    status = await api.post(f"{noxu.path}?fieldValidation=Strict", text, 400)
    assert 'duplicate field "spec.cronSpec"' in status["message"]


async def test_fields_of_a_custom_resource_that_preserves_unknown_ones(api, custom):
    noxu = await custom()
    await api.post(f"{noxu.path}?fieldValidation=Strict", noxu.object("a", anything={"goes": [1]}))
    text = json.dumps(noxu.object("b"))[:-1] + ', "x": 1, "x": 2}'
    status = await api.post(f"{noxu.path}?fieldValidation=Strict", text, 400)
    assert 'duplicate field "x"' in status["message"]
    embedded = noxu.object("c")
    embedded["metadata"]["unknownMeta"] = "x"
    status = await api.post(f"{noxu.path}?fieldValidation=Strict", embedded, 400)
    assert 'unknown field "metadata.unknownMeta"' in status["message"]


async def test_an_applied_custom_resource_is_validated(api, custom):
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"cronSpec": {"type": "string"}}}},
    }
    noxu = await custom(schema)
    path = f"{noxu.path}/a?fieldManager=e2e&fieldValidation=Strict"
    made = await api.patch(path, noxu.object("a", spec={"cronSpec": "x"}), 201, "apply-patch+yaml")
    assert made["metadata"]["managedFields"][0]["operation"] == "Apply"
    bad = noxu.object("a", spec={"cronSpec": "x", "unknown": 1})
    await api.patch(path, bad, 400, "apply-patch+yaml")


# ---- ValidatingAdmissionPolicy ----


async def test_a_policy_validates_against_a_deployment(api, unique, pod):
    await api.patch(f"/api/v1/namespaces/{api.namespace}", {"metadata": {"labels": {unique: "true"}}})
    rules = [
        {"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}
    ]
    spec = {
        "matchConstraints": {"resourceRules": rules, "namespaceSelector": {"matchLabels": {unique: "true"}}},
        "variables": [
            {"name": "replicas", "expression": "object.spec.replicas"},
            {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"},
        ],
        "validations": [
            {"expression": "variables.replicas > 1", "messageExpression": "'wants more than ' + string(variables.replicas)"},
            {"expression": "variables.oddReplicas", "reason": "Forbidden"},
        ],
    }  # fmt: skip
    made = await api.post(
        f"{POLICIES}/validatingadmissionpolicies", {"metadata": {"name": unique}, "spec": spec}
    )
    assert made["spec"]["failurePolicy"] == "Fail"
    bound = {"policyName": unique, "validationActions": ["Deny"]}
    await api.post(
        f"{POLICIES}/validatingadmissionpolicybindings", {"metadata": {"name": unique}, "spec": bound}
    )
    path = api.within("apps/v1", "deployments")

    def deployment(name, replicas):
        template = {"metadata": {"labels": {"a": "b"}}, "spec": pod("t")["spec"]}
        return {"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": template}}  # fmt: skip

    try:
        assert "wants more than 1" in (await api.post(path, deployment("one", 1), 422))["message"]
        await api.post(path, deployment("two", 2), 403)
        await api.post(path, deployment("three", 3))
    finally:
        await api.delete(f"{POLICIES}/validatingadmissionpolicybindings/{unique}")
        await api.delete(f"{POLICIES}/validatingadmissionpolicies/{unique}")


async def test_a_policy_is_type_checked_when_it_is_written(api, unique):
    rules = [
        {"operations": ["CREATE"], "apiGroups": ["x.io"], "apiVersions": ["v1"], "resources": ["things"]}
    ]
    spec = {"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": "object.spec.("}]}
    status = await api.post(
        f"{POLICIES}/validatingadmissionpolicies", {"metadata": {"name": unique}, "spec": spec}, 422
    )
    assert status["details"]["causes"][0]["field"] == "spec.validations[0].expression"


# ---- apply, aggregated ----


async def test_every_group_version_has_an_available_api_service(api):
    found = {
        item["metadata"]["name"]: item
        for item in await api.items("/apis/apiregistration.k8s.io/v1/apiservices")
    }
    for group in (await api.get("/apis"))["groups"]:
        for version in group["versions"]:
            if "mygroup" in group["name"]:
                continue
            one = found[f"{version['version']}.{group['name']}"]
            assert one["status"]["conditions"][0]["type"] == "Available"
    listed = await api.get("/apis/apiregistration.k8s.io/v1/apiservices/v1.apps/status")
    assert listed["status"]["conditions"][0]["status"] == "True"
