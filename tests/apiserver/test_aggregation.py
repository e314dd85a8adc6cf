"""APIServices: local ones, and a real extension server behind one."""

import asyncio
import json

from edgekube.api.kinds.core_v1 import PODS
from edgekube.apiserver import virtual
from edgekube.apiserver.aggregation.local import BUILT_IN, CUSTOM, plan, wished
from edgekube.apiserver.aggregation.remote import headers_of
from edgekube.apiserver.identity import User

from .extension import (
    API_SERVICES,
    DEFAULT,
    GROUP,
    SECONDS,
    api_service,
    ask,
    available,
    registered,
    state,
    until,
)

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


async def names(api):
    return {item["metadata"]["name"] for item in (await api.get(API_SERVICES))["items"]}


# ---- local ones ----


async def test_every_group_version_has_an_api_service(api):
    rows = (*api.server.scheme, *(entry.row for entry in virtual.VIRTUAL))
    expected = {f"{row.version}.{row.group}" for row in rows}

    async def there():
        return await names(api) == expected

    await until(there)
    items = {item["metadata"]["name"]: item for item in (await api.get(API_SERVICES))["items"]}
    assert {available(item) for item in items.values()} == {("True", "Local")}
    assert items["v1."]["spec"] == {"groupPriorityMinimum": 18000, "version": "v1", "versionPriority": 1}
    assert items["v1.apps"]["spec"]["group"] == "apps"
    table = await api.get(f"{API_SERVICES}/v1.apps", accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert table["rows"][0]["cells"][:3] == ["v1.apps", "Local", "True"]


def definition():
    return {
        "metadata": {"name": "flunders.wardle.example.com"},
        "spec": {
            "group": "wardle.example.com", "scope": "Namespaced",
            "names": {"plural": "flunders", "singular": "flunder", "kind": "Flunder", "listKind": "FlunderList"},
            "versions": [{
                "name": "v1alpha1", "served": True, "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }],
        },
    }  # fmt: skip


async def test_the_group_of_a_definition_comes_and_goes(api):
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await api.post(path, definition())

    async def there():
        return "v1alpha1.wardle.example.com" in await names(api)

    await until(there)
    spec = (await api.get(f"{API_SERVICES}/v1alpha1.wardle.example.com"))["spec"]
    assert (spec["groupPriorityMinimum"], spec["versionPriority"]) == CUSTOM
    await api.delete(f"{path}/flunders.wardle.example.com")

    async def gone():
        return not await there()

    await until(gone)
    assert "v1.apps" in await names(api)


async def test_one_that_is_deleted_comes_back(api):
    async def there():
        return "v1.apps" in await names(api)

    await until(there)
    uid = (await api.get(f"{API_SERVICES}/v1.apps"))["metadata"]["uid"]
    await api.delete(f"{API_SERVICES}/v1.apps")

    async def again():
        found = await api.call("GET", f"{API_SERVICES}/v1.apps")
        return found["metadata"].get("uid", uid) != uid

    await until(again)


async def test_a_built_in_group_may_be_served_by_somebody_else(extended, wardle):
    """As metrics-server does with metrics.k8s.io."""
    name = f"{API_SERVICES}/v1beta1.metrics.k8s.io"

    async def there():
        return (await extended.send("GET", name)).code == 200

    await until(there)
    service = {"namespace": "default", "name": "wardle"}
    await extended.patch(name, {"spec": {"service": service, "caBundle": wardle.bundle}})

    async def taken():
        return available(await extended.get(name)) == ("True", "Passed")

    await until(taken)
    assert (await ask(extended, "/apis/metrics.k8s.io/v1beta1/nodes"))[1] == {
        "kind": "FlunderList",
        "items": [],
    }
    await extended.delete(name)

    async def local():
        found = await extended.call("GET", name)
        return found["kind"] == "APIService" and available(found) == ("True", "Local")

    await until(local)
    assert (await ask(extended, "/apis/metrics.k8s.io/v1beta1/nodes"))[1]["kind"] == "NodeMetricsList"


def test_a_plan_leaves_alone_what_is_not_ours():
    wish = wished([PODS])
    assert list(wish) == ["v1."]
    ours = {"kube-aggregator.kubernetes.io/automanaged": "true"}
    pointed = {"metadata": {"name": "v1.b", "labels": ours}, "spec": {"service": {"name": "x"}}}
    by_hand = {"metadata": {"name": "v1.a"}, "spec": {}}
    stale = {"metadata": {"name": "v1.c", "labels": ours}, "spec": {}}
    assert plan(wish, [pointed, by_hand, stale]).create == [wish["v1."]]
    assert plan(wish, [pointed, by_hand, stale]).delete == ["v1.c"]
    changed = {"metadata": {"name": "v1.", "labels": ours}, "spec": {"version": "v1", "versionPriority": 9}}
    assert plan(wish, [changed]).replace == [wish["v1."]]
    assert plan(wish, [changed | {"metadata": {"name": "v1."}}]).replace == []
    assert BUILT_IN != CUSTOM


# ---- an extension server ----


async def test_requests_are_passed_on_with_who_asks(extended, wardle):
    await registered(extended, wardle)
    code, made = await ask(
        extended,
        f"{GROUP}/namespaces/default/flunders?dryRun=All",
        "POST",
        json={"metadata": {"name": "f"}},
        headers={"X-Remote-User": "root", "X-Remote-Group": "system:masters", "X-Other": "1"},
    )
    assert (code, made["metadata"]["name"]) == (201, "f")
    method, path, headers = wardle.asked[-1]
    assert (method, path) == ("POST", f"{GROUP}/namespaces/default/flunders?dryRun=All")
    remote = [(name, value) for name, value in headers if name.lower().startswith("x-remote-")]
    assert remote == [
        ("X-Remote-User", "admin"), ("X-Remote-Group", "system:masters"),
        ("X-Remote-Group", "system:authenticated"),
    ]  # fmt: skip
    assert dict(headers)["X-Other"] == "1"
    assert dict(headers)["Host"] == "wardle.default.svc"
    assert "Authorization" not in dict(headers)
    subject = dict(pair for part in wardle.peers[-1]["subject"] for pair in part)
    assert subject["commonName"] == "front-proxy-client"
    assert (await ask(extended, f"{GROUP}/flunders"))[1]["items"] == [{"metadata": {"name": "f"}}]


async def test_only_what_roles_allow_is_passed_on(extended, wardle):
    await registered(extended, wardle)
    before = len([one for one in wardle.asked if one[1] != GROUP])
    code, status = await ask(extended, f"{GROUP}/flunders", token="joe-token")
    assert (code, status["reason"]) == (403, "Forbidden")
    assert len([one for one in wardle.asked if one[1] != GROUP]) == before


async def test_a_watch_comes_through_while_it_lasts(extended, wardle):
    await registered(extended, wardle)
    headers = {"Authorization": "Bearer admin-token"}
    async with extended.session.get(f"{GROUP}/flunders?watch=1", headers=headers) as answer:
        assert await asyncio.wait_for(answer.content.readline(), SECONDS) == b'{"type":"ADDED","object":{}}\n'


async def test_discovery_shows_it(extended, wardle):
    await registered(extended, wardle)
    groups = {group["name"]: group for group in (await extended.get("/apis"))["groups"]}
    assert groups["wardle.example.com"]["preferredVersion"]["groupVersion"] == "wardle.example.com/v1alpha1"
    assert (await extended.get("/apis/wardle.example.com"))["versions"][0]["version"] == "v1alpha1"
    assert [r["name"] for r in (await extended.get(GROUP))["resources"]] == ["flunders", "flunders/status"]
    found = {
        item["metadata"]["name"]: item for item in (await extended.get("/apis", accept=AGGREGATED))["items"]
    }
    (version,) = found["wardle.example.com"]["versions"]
    kind = {"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"}
    assert version == {
        "version": "v1alpha1", "freshness": "Current",
        "resources": [{
            "resource": "flunders", "singularResource": "flunder", "scope": "Namespaced", "responseKind": kind,
            "shortNames": ["fl"], "verbs": ["create", "get", "list", "watch"],
            "subresources": [{"subresource": "status", "responseKind": kind, "verbs": ["get"]}],
        }],
    }  # fmt: skip


async def test_one_that_is_down_hurts_nobody_else(extended, wardle):
    await registered(extended, wardle)
    await wardle.stop()
    code, status = await ask(extended, f"{GROUP}/flunders")
    assert (code, status["reason"]) == (503, "ServiceUnavailable")
    await extended.patch(
        f"{API_SERVICES}/v1alpha1.wardle.example.com",
        {"spec": {"versionPriority": 11, "service": {"port": 444}}},
    )
    found = await state(extended, ("False", "ServicePortError"))
    assert "is not listening on port 444" in json.dumps(found["status"])
    await extended.patch(f"{API_SERVICES}/v1alpha1.wardle.example.com", {"spec": {"service": {"port": 443}}})
    await state(extended, ("False", "FailedDiscoveryCheck"))
    assert (await ask(extended, f"{GROUP}/flunders"))[1]["message"] == "service unavailable"
    assert (await ask(extended, f"{DEFAULT}/pods"))[0] == 200
    found = {
        item["metadata"]["name"]: item for item in (await extended.get("/apis", accept=AGGREGATED))["items"]
    }
    assert found["wardle.example.com"]["versions"][0]["freshness"] == "Stale"
    assert found["apps"]["versions"][0]["freshness"] == "Current"
    await extended.delete(f"{API_SERVICES}/v1alpha1.wardle.example.com")

    async def forgotten():
        return (await ask(extended, f"{GROUP}/flunders"))[0] == 404

    await until(forgotten)


async def test_a_certificate_must_be_the_service_s_unless_nobody_cares(extended, wardle):
    await extended.post(API_SERVICES, api_service())
    found = await state(extended, ("False", "FailedDiscoveryCheck"))
    assert "certificate verify failed" in json.dumps(found["status"])
    await extended.put(f"{API_SERVICES}/v1alpha1.wardle.example.com", api_service(insecureSkipTLSVerify=True))
    await state(extended, ("True", "Passed"))
    assert (await ask(extended, f"{GROUP}/flunders"))[0] == 200


async def test_a_service_that_is_not_there(extended, wardle):
    missing = {"namespace": "default", "name": "none"}
    await extended.post(API_SERVICES, api_service(caBundle=wardle.bundle, service=missing))
    found = await state(extended, ("False", "ServiceNotFound"))
    assert 'service/none in \\"default\\" is not present' in json.dumps(found["status"])


async def test_extension_servers_find_out_whom_to_believe(extended, wardle):
    path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
    data = (await extended.get(path))["data"]
    assert data["requestheader-client-ca-file"] == wardle.authority
    assert json.loads(data["requestheader-allowed-names"]) == ["front-proxy-client"]
    assert data["client-ca-file"] == "CLIENTS"


def test_headers_that_tell_who_asks():
    user = User("jane", ("a", "b"), "u-1", {"example.com/scope x": ("1", "2")})
    assert list(headers_of(user)) == [
        ("X-Remote-User", "jane"), ("X-Remote-Uid", "u-1"), ("X-Remote-Group", "a"), ("X-Remote-Group", "b"),
        ("X-Remote-Extra-example.com%2Fscope%20x", "1"), ("X-Remote-Extra-example.com%2Fscope%20x", "2"),
    ]  # fmt: skip
