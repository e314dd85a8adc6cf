"""Server-side apply through the versions of one definition."""

from .test_crd import DEFINITIONS, SCHEMA, WIDGETS, define, definition, widget

BETA = WIDGETS.replace("/v1/", "/v1beta1/")
APPLY = "apply-patch+yaml"


async def two(api):
    older = {"name": "v1beta1", "served": True, "storage": False, "schema": {"openAPIV3Schema": SCHEMA}}
    tree = definition()
    tree["spec"]["versions"].append(older)
    await define(api, tree)


def beta(**spec):
    return {**widget(**spec), "apiVersion": "example.com/v1beta1"}


async def owners(api):
    tree = await api.get(f"{WIDGETS}/w")
    return {
        (one["manager"], one["operation"], one["apiVersion"]): one["fieldsV1"]["f:spec"]
        for one in tree["metadata"]["managedFields"]
    }


async def test_what_one_version_applied_another_takes_back(api):
    await two(api)
    await api.patch(f"{WIDGETS}/w?fieldManager=me", widget(title="red"), 201, kind=APPLY)
    made = await api.patch(f"{BETA}/w?fieldManager=me", beta(), kind=APPLY)
    assert "title" not in made["spec"]
    assert await owners(api) == {("me", "Apply", "example.com/v1beta1"): {"f:size": {}}}
    same = await api.patch(f"{BETA}/w?fieldManager=me", beta(), kind=APPLY)
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_each_owner_keeps_its_version(api):
    await two(api)
    await api.patch(f"{BETA}/w?fieldManager=they", beta(title="red"), 201, kind=APPLY)
    status = await api.patch(f"{WIDGETS}/w?fieldManager=me", widget(title="blue"), 409, kind=APPLY)
    assert 'conflict with "they": .spec.title' in status["message"]
    await api.patch(f"{WIDGETS}/w?fieldManager=me&force=true", widget(title="blue"), kind=APPLY)
    assert await owners(api) == {
        ("me", "Apply", "example.com/v1"): {"f:size": {}, "f:title": {}},
        ("they", "Apply", "example.com/v1beta1"): {"f:size": {}},
    }
    gone = await api.patch(f"{WIDGETS}/w?fieldManager=me", widget(), kind=APPLY)
    assert "title" not in gone["spec"]


async def test_ordinary_writes_are_noted_in_their_version(api):
    await two(api)
    await api.post(f"{BETA}?fieldManager=maker", beta(title="red"))
    assert list(await owners(api)) == [("maker", "Update", "example.com/v1beta1")]
    await api.patch(f"{WIDGETS}/w?fieldManager=other", {"spec": {"title": "blue"}})
    assert await owners(api) == {
        ("maker", "Update", "example.com/v1beta1"): {"f:color": {}, "f:size": {}},
        ("other", "Update", "example.com/v1"): {"f:title": {}},
    }


async def test_a_version_that_goes_takes_its_owners_along(api):
    await two(api)
    await api.patch(f"{BETA}/w?fieldManager=they", beta(title="red"), 201, kind=APPLY)
    await api.patch(f"{WIDGETS}/w?fieldManager=me", widget(), kind=APPLY)
    patch = [{"op": "replace", "path": "/spec/versions/1/served", "value": False}]
    await api.patch(f"{DEFINITIONS}/widgets.example.com", patch, kind="json-patch+json")
    found = await api.patch(f"{WIDGETS}/w?fieldManager=me&force=true", widget(title="blue"), kind=APPLY)
    assert found["spec"]["title"] == "blue"
