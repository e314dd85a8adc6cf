"""CustomResourceDefinitions: served once established, checked by their schema, gone with all they defined."""

import asyncio

import msgspec
import pytest

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"
COLUMNS = [
    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
    {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]
SCHEMA = {
    "type": "object",
    "description": "A widget.",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 9, "description": "How large it is."},
                "color": {"type": "string", "enum": ["red", "blue"], "default": "red"},
                "title": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5, "minLength": 2},
                "port": {"x-kubernetes-int-or-string": True},
                "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                "parts": {
                    "type": "array", "maxItems": 3, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
                    "items": {"type": "object", "required": ["id"], "properties": {
                        "id": {"type": "string"}, "count": {"type": "integer", "default": 1}}},
                },
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "since": {"type": "string", "format": "date-time"},
                "either": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                           "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
                "nothing": {"type": "string", "nullable": True},
            },
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}  # fmt: skip


def definition(**changes):
    version = {
        "name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA},
        "subresources": {"status": {}, "scale": {
            "specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size", "labelSelectorPath": ".status.selector"}},
        "additionalPrinterColumns": COLUMNS, "selectableFields": [{"jsonPath": ".spec.color"}],
    }  # fmt: skip
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"], "categories": ["all"]},
            "versions": [{**version, **changes}],
        },
    }  # fmt: skip


def widget(name="w", **spec):
    return {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": name},
        "spec": {"size": 1, **spec},
    }


async def until(check):
    async with asyncio.timeout(10):
        while not (found := await check()):
            await asyncio.sleep(0.01)
        return found


async def define(api, tree):
    await api.post(DEFINITIONS, tree)
    path = f"{DEFINITIONS}/{tree['metadata']['name']}"

    async def established():
        found = await api.get(path)
        conditions = {c["type"]: c["status"] for c in found["status"]["conditions"]}
        return found if conditions.get("Established") == "True" else None

    return await until(established)


async def test_from_definition_to_objects_and_back(api):
    await api.get(WIDGETS, 404)
    found = await define(api, definition())
    assert found["status"]["storedVersions"] == ["v1"]
    assert found["status"]["acceptedNames"]["listKind"] == "WidgetList"
    made = await api.post(WIDGETS, widget(parts=[{"id": "a"}], junk=1, free={"any": {"thing": 1}}))
    assert made["spec"] == {
        "size": 1, "color": "red", "parts": [{"id": "a", "count": 1}], "free": {"any": {"thing": 1}},
    }  # fmt: skip
    assert made["metadata"]["generation"] == 1
    changed = await api.patch(f"{WIDGETS}/w", {"spec": {"size": 2}, "status": {"size": 7}})
    assert changed["metadata"]["generation"] == 2
    assert "status" not in changed
    status = await api.patch(
        f"{WIDGETS}/w/status", {"status": {"size": 7, "selector": "a=b"}, "spec": {"size": 5}}
    )
    assert (status["spec"]["size"], status["status"]["size"], status["metadata"]["generation"]) == (2, 7, 2)
    scale = await api.get(f"{WIDGETS}/w/scale")
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 7, "selector": "a=b"})
    scale["spec"]["replicas"] = 3
    await api.put(f"{WIDGETS}/w/scale", scale)
    assert (await api.get(f"{WIDGETS}/w"))["spec"]["size"] == 3
    await api.post(WIDGETS, widget("blue", color="blue"))
    chosen = await api.get(f"{WIDGETS}?fieldSelector=spec.color=blue")
    assert [item["metadata"]["name"] for item in chosen["items"]] == ["blue"]
    await api.patch(f"{WIDGETS}/w", {"spec": {"size": 3}}, 415, kind="strategic-merge-patch+json")
    groups = await api.get("/apis/example.com/v1")
    assert {r["name"] for r in groups["resources"]} == {"widgets", "widgets/status", "widgets/scale"}
    await api.call("DELETE", f"{DEFINITIONS}/widgets.example.com", code=200)

    async def gone():
        return (await api.send("GET", f"{DEFINITIONS}/widgets.example.com")).code == 404

    await until(gone)
    await api.get(WIDGETS, 404)
    await api.get("/apis/example.com/v1", 404)
    # A new definition of that name begins with nothing.
    await define(api, definition())
    assert (await api.get(WIDGETS))["items"] == []


REFUSED = [
    ({"size": 10}, "spec.size: Invalid value: 10: spec.size in body should be less than or equal to 9"),
    ({"size": "x"}, 'spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"'),
    ({"color": "green"}, 'spec.color: Unsupported value: "green": supported values: "red", "blue"'),
    ({"title": "A1"}, "spec.title: Invalid value: \"A1\": spec.title in body should match '^[a-z]+$'"),
    ({"title": "abcdef"}, "spec.title: Too long: may not be more than 5 bytes"),
    ({"title": "a"}, 'spec.title: Invalid value: "a": spec.title in body should be at least 2 chars long'),
    ({"port": True}, 'spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean"'),
    ({"tags": ["a", "a"]}, 'spec.tags[1]: Duplicate value: "a"'),
    ({"parts": [{"id": "a"}, {"id": "a"}]}, 'spec.parts[1]: Duplicate value: {"id":"a"}'),
    ({"parts": [{}]}, "spec.parts[0].id: Required value"),
    ({"parts": [{"id": c} for c in "abcd"]}, "spec.parts: Too many: 4: must have at most 3 items"),
    ({"labels": {"a": 1}}, 'spec.labels.a: Invalid value: "integer": spec.labels.a in body must be of type string: "integer"'),
    ({"since": "yesterday"}, 'spec.since: Invalid value: "yesterday": spec.since in body must be of type date-time: "yesterday"'),
    ({"either": {}}, 'spec.either: Invalid value: "": "spec.either" must validate one and only one schema (oneOf). Found none valid'),
    ({"either": {"a": "x", "b": "y"}}, "Found 2 valid alternatives"),
]  # fmt: skip


@pytest.fixture
async def defined(api):
    await define(api, definition())
    return api


@pytest.mark.parametrize(("spec", "message"), REFUSED, ids=[str(row[0])[:30] for row in REFUSED])
async def test_what_the_schema_refuses(defined, spec, message):
    status = await defined.post(WIDGETS, widget(**spec), 422)
    assert message in status["message"]
    assert status["details"]["causes"]


async def test_what_it_allows(defined):
    spec = {
        "port": "http",
        "nothing": None,
        "since": "2026-01-01T00:00:00Z",
        "either": {"b": "y"},
        "labels": {"a": "b"},
    }
    made = await defined.post(WIDGETS, widget(**spec))
    assert made["spec"].items() >= spec.items()


async def test_unknown_fields_are_refused_or_told_of_as_the_client_wishes(defined):
    status = await defined.post(f"{WIDGETS}?fieldValidation=Strict", widget(junk=1), 400)
    assert 'unknown field "spec.junk"' in status["message"]
    response = await defined.send("POST", WIDGETS, widget(junk=1))
    assert any(
        'unknown field \\"spec.junk\\"' in value for name, value in response.headers if name == "Warning"
    )


async def test_columns(defined):
    await defined.post(WIDGETS, widget(size=4))
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    await defined.patch(f"{WIDGETS}/w/status", ready)
    table = await defined.get(WIDGETS, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Size", "Ready", "Age"]
    assert table["rows"][0]["cells"][:3] == ["w", 4, "True"]


async def test_watching_ends_with_the_definition(defined):
    response = await defined.send("GET", f"{WIDGETS}?watch=true&timeoutSeconds=60")
    seen = []

    async def follow():
        async for batch in response.events:
            seen.extend(
                (event.type, msgspec.json.decode(event.raw)["metadata"].get("name")) for event in batch
            )

    task = asyncio.create_task(follow())
    await defined.post(WIDGETS, widget())
    await defined.call("DELETE", f"{DEFINITIONS}/widgets.example.com", code=200)
    await asyncio.wait_for(task, 10)
    assert seen[:2] == [("ADDED", "w"), ("DELETED", "w")]


async def test_two_versions_of_one_object(api):
    older = {"name": "v1beta1", "served": True, "storage": False, "schema": {"openAPIV3Schema": SCHEMA}}
    tree = definition()
    tree["spec"]["versions"].append(older)
    await define(api, tree)
    beta = WIDGETS.replace("/v1/", "/v1beta1/")
    made = await api.post(beta, {**widget(), "apiVersion": "example.com/v1beta1"})
    assert made["apiVersion"] == "example.com/v1beta1"
    assert (await api.get(f"{WIDGETS}/w"))["apiVersion"] == "example.com/v1"
    listed = await api.get(beta)
    assert (listed["apiVersion"], listed["items"][0]["apiVersion"]) == (
        "example.com/v1beta1",
        "example.com/v1beta1",
    )
    patched = await api.patch(f"{beta}/w", {"spec": {"size": 5}})
    assert (patched["apiVersion"], patched["spec"]["size"]) == ("example.com/v1beta1", 5)
    status = await api.post(beta, widget("x"), 400)
    assert "does not match the expected API version" in status["message"]
    groups = await api.get("/apis/example.com")
    assert [v["version"] for v in groups["versions"]] == ["v1", "v1beta1"]
    # The stored version changes; what is stored stays readable.
    patch = [{"op": "replace", "path": f"/spec/versions/{n}/storage", "value": bool(n)} for n in (0, 1)]
    await api.patch(f"{DEFINITIONS}/widgets.example.com", patch, kind="json-patch+json")

    async def both():
        return (await api.get(f"{DEFINITIONS}/widgets.example.com"))["status"]["storedVersions"] == [
            "v1",
            "v1beta1",
        ]

    await until(both)
    assert (await api.get(f"{WIDGETS}/w"))["spec"]["size"] == 5
    assert (await api.patch(f"{WIDGETS}/w", {"spec": {"size": 6}}))["apiVersion"] == "example.com/v1"


async def test_names_somebody_else_has(api):
    await define(api, definition())
    other = definition()
    other["metadata"]["name"] = "gadgets.example.com"
    other["spec"]["names"] = {"plural": "gadgets", "kind": "Gadget", "shortNames": ["wd"]}
    await api.post(DEFINITIONS, other)

    async def judged():
        found = await api.get(f"{DEFINITIONS}/gadgets.example.com")
        return {c["type"]: (c["status"], c["reason"]) for c in found["status"]["conditions"]}

    assert await until(judged) == {
        "NamesAccepted": ("False", "ShortNamesConflict"), "Established": ("False", "NotAccepted"),
    }  # fmt: skip
    await api.get("/apis/example.com/v1/namespaces/default/gadgets", 404)


BAD = [
    (lambda d: d["metadata"].update(name="x.example.com"), "metadata.name"),
    (lambda d: d["spec"].update(scope="Galaxy"), "spec.scope"),
    (lambda d: d["spec"]["versions"][0].update(storage=False), "spec.versions"),
    (lambda d: d["spec"]["versions"][0].update(schema={}), "spec.versions[0].schema.openAPIV3Schema"),
    (lambda d: d["spec"]["versions"][0].update(schema={"openAPIV3Schema": {"type": "object", "properties": {"a": {}}}}), "spec.versions[0].schema.openAPIV3Schema.properties[a].type"),
    (lambda d: d["spec"]["versions"][0].update(schema={"openAPIV3Schema": {"type": "object", "properties": {"a": {"type": "array"}}}}), "spec.versions[0].schema.openAPIV3Schema.properties[a].items"),
    (lambda d: d["spec"]["versions"][0].update(schema={"openAPIV3Schema": {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}}), "spec.versions[0].schema.openAPIV3Schema.properties[a].pattern"),
    (lambda d: d["spec"]["versions"][0].update(additionalPrinterColumns=[{"name": "x", "type": "text", "jsonPath": ".a"}]), "spec.versions[0].additionalPrinterColumns[0].type"),
    (lambda d: d["spec"]["names"].update(plural="Widgets"), "spec.names.plural"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "field"), BAD, ids=[row[1] for row in BAD])
async def test_bad_definitions(api, spoil, field):
    tree = definition()
    spoil(tree)
    status = await api.post(DEFINITIONS, tree, 422)
    assert field in {cause["field"] for cause in status["details"]["causes"]}
