"""Discovery, version, health, metrics, OpenAPI."""

import gzip

from edgekube.apiserver.identity import ANONYMOUS
from edgekube.apiserver.request import Request

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


async def test_plain_lists(api):
    assert (await api.get("/api"))["versions"] == ["v1"]
    groups = {group["name"]: group for group in (await api.get("/apis"))["groups"]}
    assert groups["apps"]["preferredVersion"] == {"groupVersion": "apps/v1", "version": "v1"}
    assert (await api.get("/apis/apps"))["name"] == "apps"
    core = {entry["name"]: entry for entry in (await api.get("/api/v1"))["resources"]}
    assert core["pods"]["shortNames"] == ["po"]
    assert core["pods/eviction"] | {"verbs": 0} == {
        "name": "pods/eviction", "singularName": "", "namespaced": True, "kind": "Eviction", "verbs": 0,
        "group": "policy", "version": "v1",
    }  # fmt: skip
    assert core["endpoints"]["singularName"] == "endpoints"
    apps = {entry["name"]: entry for entry in (await api.get("/apis/apps/v1"))["resources"]}
    assert (apps["deployments/scale"]["group"], apps["deployments/scale"]["kind"]) == ("autoscaling", "Scale")
    for path in ("/api/v2", "/apis/none", "/apis/apps/v9", "/apis/none/v1"):
        await api.get(path, code=404)


async def test_the_aggregated_form_echoes_its_type(api):
    response = await api.send("GET", "/apis", accept=AGGREGATED)
    assert response.content_type == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    tree = await api.get("/apis", accept=AGGREGATED)
    assert (tree["kind"], tree["apiVersion"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
    apps = next(item for item in tree["items"] if item["metadata"]["name"] == "apps")
    (version,) = apps["versions"]
    assert version["freshness"] == "Current"
    entry = next(r for r in version["resources"] if r["resource"] == "deployments")
    assert entry["responseKind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert entry["scope"] == "Namespaced"
    scale = next(s for s in entry["subresources"] if s["subresource"] == "scale")
    assert scale["responseKind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}


async def test_every_row_of_the_scheme_is_found(api):
    for row in api.server.scheme:
        path = f"/apis/{row.group}/{row.version}" if row.group else f"/api/{row.version}"
        assert row.plural in {entry["name"] for entry in (await api.get(path))["resources"]}


async def test_version_and_health(api):
    version = await api.get("/version")
    assert (version["major"], version["minor"]) == ("1", "37")
    assert version["gitVersion"].startswith("v1.37.0+edgekube")
    for path in ("/healthz", "/livez", "/readyz"):
        assert (await api.send("GET", path)).body == b"ok"
    assert b"[+]caches ok" in (await api.send("GET", "/readyz?verbose")).body


async def test_a_server_that_is_not_ready_says_so(make_server):
    server = make_server()
    response = await server.handler.answer(Request(method="GET", path="/readyz", user=ANONYMOUS))
    assert (response.code, b"[-]caches failed" in response.body) == (500, True)
    response = await server.handler.answer(Request(method="GET", path="/livez", user=ANONYMOUS))
    assert response.code == 200


async def test_metrics(api):
    await api.get("/api/v1/namespaces/default")
    await api.get("/api/v1/namespaces/none", code=404)
    await api.get("/apis/no.such/v1/things/x", code=404)
    text = (await api.send("GET", "/metrics")).body.decode()
    labels = 'verb="GET",group="",resource="namespaces",subresource="",scope="resource"'
    assert f'apiserver_request_total{{{labels},code="200"}} 1' in text
    assert f'apiserver_request_total{{{labels},code="404"}} 1' in text
    assert f'apiserver_request_duration_seconds_bucket{{{labels},le="+Inf"}} 2' in text
    assert f"apiserver_request_duration_seconds_count{{{labels}}} 2" in text
    assert "things" not in text, "names that clients make up are not kept"
    assert 'apiserver_current_inflight_requests{request_kind="readOnly"} 1' in text
    assert "process_resident_memory_bytes" in text
    assert 'apiserver_storage_objects{resource="namespaces"} 4' in text
    assert 'apiserver_longrunning_requests{verb="WATCH"} 0' in text


async def test_paths_that_nobody_serves(api):
    await api.get("/nothing", code=404)


async def test_openapi_documents_are_cached_by_hash(api):
    index = await api.get("/openapi/v3")
    entry = index["paths"]["apis/coordination.k8s.io/v1"]["serverRelativeURL"]
    response = await api.send("GET", entry)
    assert response.code == 200
    headers = dict(response.headers)
    assert "immutable" in headers["Cache-Control"]
    again = await api.send("GET", entry, if_none_match=headers["ETag"])
    assert (again.code, again.body) == (304, b"")
    squeezed = await api.send("GET", entry, accept_encoding="gzip")
    assert ("Content-Encoding", "gzip") in squeezed.headers
    assert gzip.decompress(squeezed.body) == response.body
    document = await api.get(entry)
    assert "io.k8s.api.coordination.v1.Lease" in document["components"]["schemas"]
    await api.get("/openapi/v3/apis/none/v1", code=404)
