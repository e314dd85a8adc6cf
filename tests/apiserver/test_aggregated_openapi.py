"""OpenAPI of extension servers within ours: v3 and v2, whichever they have, and whatever else they send."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgekube.api.openapi import v2
from edgekube.api.protobuf.wire import records
from edgekube.apiserver.aggregation import keeper

from .extension import API_SERVICES, GROUP, ask, registered, state, until

PATH = GROUP.lstrip("/")
KIND = {"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"}
META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
SPEC, FLUNDER = "com.example.wardle.v1alpha1.FlunderSpec", "com.example.wardle.v1alpha1.Flunder"
GNOSTIC = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


PATHS = {
    "/apis/other/v1/things": {"get": {}},
    f"{GROUP}/namespaces/{{namespace}}/flunders/{{name}}": {
        "get": {
            "x-kubernetes-action": "get", "x-kubernetes-group-version-kind": KIND, "operationId": "readFlunder",
            "responses": {"200": {"description": "OK"}}, "produces": ["application/json"],
        },
        "parameters": [{"name": "namespace", "in": "path", "required": True, "type": "string", "uniqueItems": True}],
    },
}  # fmt: skip


def schemas(root, text="Reference to another flunder."):
    return {
        FLUNDER: {
            "type": "object", "description": "A flunder.", "x-kubernetes-group-version-kind": [KIND],
            "properties": {
                "metadata": {"$ref": root + META}, "spec": {"$ref": root + SPEC}, "kind": {"type": "string"},
            },
        },
        SPEC: {"type": "object", "properties": {"reference": {"type": "string", "description": text}}},
        META: {"type": "object", "description": "not ours"},
        "unused": {"type": "object"},
    }  # fmt: skip


def offer_v3(wardle, **more):
    url = f"/openapi/v3/{PATH}?hash=AA"
    wardle.documents["/openapi/v3"] = {"paths": {PATH: {"serverRelativeURL": url}}}
    wardle.documents[f"/openapi/v3/{PATH}"] = {
        "openapi": "3.0.0", "info": {"title": "w", "version": "1"}, "paths": PATHS,
        "components": {"schemas": schemas("#/components/schemas/", **more)},
    }  # fmt: skip


def offer_v2(wardle, **more):
    wardle.documents["/openapi/v2"] = {
        "swagger": "2.0",
        "paths": PATHS,
        "definitions": schemas("#/definitions/", **more),
    }


async def definitions(api):
    return (await api.get("/openapi/v2"))["definitions"]


@pytest.mark.parametrize("offer", [offer_v3, offer_v2])
async def test_its_kinds_are_in_both_documents(extended, wardle, offer):
    offer(wardle)
    before = await definitions(extended)
    tag = dict((await extended.send("GET", "/openapi/v2")).headers)["ETag"]
    await registered(extended, wardle)

    async def there():
        found = await definitions(extended)
        return found if FLUNDER in found else None

    found = await until(there)
    assert found.keys() - before.keys() == {FLUNDER, SPEC}
    assert found[FLUNDER]["properties"]["spec"] == {"$ref": f"#/definitions/{SPEC}"}
    assert {name: found[name] for name in before} == before, "ours hold"
    assert dict((await extended.send("GET", "/openapi/v2")).headers)["ETag"] != tag
    answer = await extended.send("GET", "/openapi/v2", accept=GNOSTIC)
    assert FLUNDER.encode() in answer.body
    assert list(records(memoryview(answer.body)))
    url = (await extended.get("/openapi/v3"))["paths"][PATH]["serverRelativeURL"]
    code, document = await ask(extended, url)
    assert code == 200
    schema = document["components"]["schemas"][FLUNDER]
    assert schema["properties"]["spec"] == {"$ref": f"#/components/schemas/{SPEC}"}


async def test_a_change_comes_in(extended, wardle, monkeypatch):
    monkeypatch.setattr(keeper, "AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(keeper, "DOCUMENT_SECONDS", 0.0)
    offer_v3(wardle)
    await registered(extended, wardle)

    async def says(text):
        schema = (await definitions(extended)).get(SPEC)
        return schema is not None and schema["properties"]["reference"]["description"] == text

    await until(lambda: says("Reference to another flunder."))
    url = (await extended.get("/openapi/v3"))["paths"][PATH]["serverRelativeURL"]
    offer_v3(wardle, text="Another text, of another length.")
    await until(lambda: says("Another text, of another length."))
    assert (await extended.get("/openapi/v3"))["paths"][PATH]["serverRelativeURL"] != url


async def test_what_was_read_stays_while_it_is_down(extended, wardle):
    offer_v2(wardle)
    await registered(extended, wardle)

    async def there():
        return FLUNDER in await definitions(extended)

    await until(there)
    await wardle.stop()
    await extended.patch(f"{API_SERVICES}/v1alpha1.wardle.example.com", {"spec": {"service": {"port": 444}}})
    await state(extended, ("False", "ServicePortError"))
    assert await there()
    assert (await ask(extended, f"/openapi/v3/{PATH}"))[0] == 200
    assert (await extended.get("/openapi/v3/api/v1"))["components"]["schemas"]
    await extended.delete(f"{API_SERVICES}/v1alpha1.wardle.example.com")

    async def gone():
        return not await there() and PATH not in (await extended.get("/openapi/v3"))["paths"]

    await until(gone)


DEEP = json.loads("[" * 200 + "]" * 200)


@pytest.mark.parametrize("document", [
    [], "text", 1, {"definitions": None}, {"definitions": {"a": 1}}, {"definitions": {FLUNDER: {"x-kubernetes-group-version-kind": "x"}}},
    {"definitions": {FLUNDER: {"x-kubernetes-group-version-kind": [KIND], "properties": 3}}},
    {"definitions": {FLUNDER: {"x-kubernetes-group-version-kind": [KIND], "properties": {"a": {"$ref": "#/definitions/none"}}}}},
    {"definitions": {FLUNDER: {"x-kubernetes-group-version-kind": [KIND], "type": DEEP}}},
    {"definitions": {FLUNDER: {"x-kubernetes-group-version-kind": [KIND], "required": 7}}},
])  # fmt: skip
async def test_nonsense_is_left_out(extended, wardle, document):
    before = await definitions(extended)
    wardle.documents["/openapi/v2"] = document
    await registered(extended, wardle)

    async def asked():
        return any(one[1] == "/openapi/v2" for one in wardle.probes)

    await until(asked)
    for _ in range(10):
        await asyncio.sleep(0.01)
        assert await definitions(extended) == before
        assert (await extended.send("GET", "/openapi/v2", accept=GNOSTIC)).code == 200
        assert (await extended.get("/openapi/v3"))["paths"]["api/v1"]


def test_two_of_one_name_are_told_apart():
    ours = {"io.k8s.a": {"type": "object"}}
    one = {"x.A": {"properties": {"b": {"$ref": "#/definitions/x.B"}}}, "x.B": {"type": "string"}}
    other = {
        "x.A2": {"properties": {"b": {"$ref": "#/definitions/x.B"}}}, "x.B": {"type": "integer"},
        "io.k8s.a": {"type": "string"},
    }  # fmt: skip
    found = v2.merged(ours, [one, other, one])
    assert found == {
        "io.k8s.a": {"type": "object"}, **one,
        "x.A2": {"properties": {"b": {"$ref": "#/definitions/x.B_v2"}}}, "x.B_v2": {"type": "integer"},
    }  # fmt: skip


@pytest.mark.parametrize("offer", [offer_v3, offer_v2])
async def test_kubectl_explains_it(extended, wardle, tmp_path, offer):
    offer(wardle)
    await registered(extended, wardle)

    async def there():
        return PATH in (await extended.get("/openapi/v3"))["paths"]

    await until(there)
    # kubectl sends no token without TLS.
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"kind": "Group", "name": "system:unauthenticated", "apiGroup": "rbac.authorization.k8s.io"}
    await extended.post(
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        {"metadata": {"name": "all"}, "roleRef": role, "subjects": [subject]},
    )
    kubectl = Path(sys.executable).with_name("kubectl")
    process = await asyncio.create_subprocess_exec(
        kubectl, "--kubeconfig=/dev/null", f"--cache-dir={tmp_path}", f"--server={extended.session._base_url}",
        "explain", "flunders.spec", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    text = (await asyncio.wait_for(process.communicate(), 50))[0].decode()
    assert process.returncode == 0, text
    assert "Reference to another flunder." in text
