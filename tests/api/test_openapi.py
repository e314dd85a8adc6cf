import pytest

from edgekube.api.openapi import document, index
from edgekube.api.schema import Schemas
from edgekube.api.scheme import Scheme

DEPLOYMENT = "io.k8s.api.apps.v1.Deployment"


@pytest.fixture(scope="module")
def apps():
    return document(Schemas.load(), "apps", "v1", Scheme())


@pytest.fixture(scope="module")
def core():
    return document(Schemas.load(), "", "v1", Scheme())


def test_index_names_each_group_version_once():
    paths = index(Scheme(), "abc")["paths"]
    assert paths["api/v1"] == {"serverRelativeURL": "/openapi/v3/api/v1?hash=abc"}
    assert paths["apis/apps/v1"] == {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=abc"}
    assert len(paths) == len({(row.group, row.version) for row in Scheme()})


def test_paths_say_what_they_serve(apps):
    gvk = {"group": "apps", "version": "v1", "kind": "Deployment"}
    one = apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]
    assert {method: op["x-kubernetes-action"] for method, op in one.items() if method != "parameters"} == {
        "get": "get", "put": "put", "patch": "patch", "delete": "delete",
    }  # fmt: skip
    assert all(
        op["x-kubernetes-group-version-kind"] == gvk for method, op in one.items() if method != "parameters"
    )
    assert [p["name"] for p in one["parameters"]] == ["name", "namespace"]
    assert "fieldValidation" in {p["name"] for p in one["patch"]["parameters"]}
    assert "application/apply-patch+yaml" in one["patch"]["requestBody"]["content"]
    assert apps["paths"]["/apis/apps/v1/deployments"]["get"]["x-kubernetes-action"] == "list"
    scale = apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]
    assert scale["get"]["x-kubernetes-group-version-kind"]["kind"] == "Scale"


def test_cluster_scoped_and_connecting_paths(core):
    node = core["paths"]["/api/v1/nodes/{name}"]
    assert [p["name"] for p in node["parameters"]] == ["name"]
    assert (
        core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/exec"]["post"]["x-kubernetes-action"]
        == "connect"
    )
    assert core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/eviction"]["post"]["requestBody"]
    assert "delete" not in core["paths"]["/api/v1/namespaces"]


def test_definitions_have_texts_and_merge_rules(apps):
    schemas = apps["components"]["schemas"]
    deployment = schemas[DEPLOYMENT]
    assert deployment["x-kubernetes-group-version-kind"] == [
        {"group": "apps", "kind": "Deployment", "version": "v1"}
    ]
    assert deployment["description"].startswith("Deployment enables declarative updates")
    spec = deployment["properties"]["spec"]
    assert spec["allOf"] == [{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"}]
    assert spec["description"]
    containers = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["x-kubernetes-list-map-keys"] == ["name"]
    assert containers["items"]["allOf"] == [{"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"}]
    assert schemas["io.k8s.api.core.v1.Container"]["properties"]["name"]["default"] == ""
    assert schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["format"] == "int-or-string"
    assert schemas["io.k8s.api.core.v1.ContainerPort"]["properties"]["containerPort"]["format"] == "int32"


@pytest.mark.parametrize("which", ["apps", "core"])
def test_every_reference_leads_somewhere(which, request):
    found = request.getfixturevalue(which)
    schemas = found["components"]["schemas"]

    def references(node):
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    names = {ref.removeprefix("#/components/schemas/") for ref in references(found)}
    assert names - schemas.keys() == set()
    for root in ("Status", "DeleteOptions", "ObjectMeta", "ListMeta"):
        assert f"io.k8s.apimachinery.pkg.apis.meta.v1.{root}" in schemas
