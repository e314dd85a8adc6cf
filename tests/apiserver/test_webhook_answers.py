"""What webhooks and policies may answer, change and ask for, and what is held against them."""

import base64
import copy

import msgspec
import pytest
from aiohttp import web

from apiserver.test_webhooks import (
    CONFIGS,
    MAPS,
    POLICY,
    allow,
    bind,
    binding,
    change,
    config,
    judge,
    put,
    register,
)

__all__ = ["judge"]

DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
DEPLOYMENT = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
    "spec": {
        "replicas": 1, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}},
    },
}  # fmt: skip


def of(*resources):
    return [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": list(resources)}]


def patched(text):
    return {"allowed": True, "patchType": "JSONPatch", "patch": base64.b64encode(text).decode()}


async def changing(api, judge, *operations, **more):
    await register(api, "Mutating", "m", judge.hook("/m", change(*operations), **more))


def op(path, value):
    return {"op": "add", "path": path, "value": value}


def policy(**spec):
    return {**copy.deepcopy(POLICY), "spec": {**copy.deepcopy(POLICY["spec"]), **spec}}


async def test_a_change_of_the_spec_by_a_webhook_counts_as_a_generation(api, judge):
    await api.post(DEPLOYMENTS, DEPLOYMENT)
    await changing(api, judge, op("/spec/replicas", 3), rules=of("deployments"))
    changed = await api.patch(f"{DEPLOYMENTS}/d", {"metadata": {"labels": {"x": "y"}}})
    assert (changed["spec"]["replicas"], changed["metadata"]["generation"]) == (3, 2)


async def test_the_status_is_not_for_webhooks_of_the_object(api, judge):
    await changing(api, judge, op("/status", {"replicas": 9}), rules=of("deployments"))
    made = await api.post(DEPLOYMENTS, DEPLOYMENT)
    changed = await api.patch(f"{DEPLOYMENTS}/d", {"metadata": {"labels": {"x": "y"}}})
    assert [(tree.get("status") or {}).get("replicas") for tree in (made, changed)] == [None, None]


async def test_an_object_stays_in_its_namespace(api, judge):
    await changing(api, judge, op("/metadata/namespace", "kube-system"))
    status = await api.post(MAPS, config(), 400)
    assert "does not match the namespace sent on the request" in status["message"]


async def test_the_server_names_the_uid(api, judge):
    await changing(api, judge, op("/metadata/uid", "123"))
    assert (await api.post(MAPS, config()))["metadata"]["uid"] != "123"


async def test_a_webhook_may_supply_what_is_missing(api, judge):
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await api.post("/api/v1/namespaces/default/serviceaccounts", account)
    await changing(api, judge, op("/spec/containers/0/name", "c"), rules=of("pods"))
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"image": "x"}]},
    }
    assert (await api.post("/api/v1/namespaces/default/pods", pod))["spec"]["containers"][0]["name"] == "c"


async def test_long_answers_are_read_whole(api, judge):
    await changing(api, judge, put("big", "x" * 400_000))
    assert len((await api.post(MAPS, config(a="1")))["data"]["big"]) == 400_000


async def test_redirects_are_not_followed(api, judge):
    async def elsewhere(_wish):
        raise web.HTTPTemporaryRedirect(f"{judge.url}/other")

    judge.answers["/other"] = allow
    await register(api, "Validating", "v", judge.hook("/v", elsewhere))
    await api.post(MAPS, config(), 500)
    assert [path for path, _ in judge.asked] == ["/v"]


@pytest.mark.parametrize("answer", [
    {"allowed": True, "warnings": 5}, {"allowed": True, "patch": 5, "patchType": "JSONPatch"}, {"allowed": False, "status": "x"},
    {"allowed": "false", "status": 1}, patched(b'[{"op":"replace","path":"","value":{}}]'),
    patched(b'[{"op":"replace","path":"/metadata","value":null}]'), patched(b'[{"op":"replace","path":"/data","value":7}]'),
])  # fmt: skip
async def test_nonsense_names_the_webhook(api, judge, answer):
    await register(api, "Mutating", "m", judge.hook("/m", lambda _wish: answer))
    status = await api.post(MAPS, config(a="1"), 500)
    assert "m.example.com" in status["message"]


async def test_a_dry_run_in_the_body_of_a_delete_is_one(api, judge):
    await api.post(MAPS, config())
    await register(api, "Validating", "v", judge.hook("/v", allow))
    await api.delete(f"{MAPS}/c", {"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]})
    assert [wish["dryRun"] for _, wish in judge.asked] == [True]


async def test_match_conditions_that_cannot_be_compiled_are_refused(api, judge):
    hook = judge.hook("/v", allow, matchConditions=[{"name": "x", "expression": "object.(("}])
    tree = {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "v"},
        "webhooks": [hook],
    }  # fmt: skip
    status = await api.post(f"{CONFIGS}/validatingwebhookconfigurations", tree, 422)
    assert status["details"]["causes"][0]["field"] == "webhooks[0].matchConditions[0].expression"


@pytest.mark.parametrize(("spec", "field"), [
    ({"validations": [{"expression": "object.(("}]}, "spec.validations[0].expression"),
    ({"validations": [{"expression": "true", "messageExpression": "nope("}]}, "spec.validations[0].messageExpression"),
    ({"variables": [{"name": "v", "expression": "((("}]}, "spec.variables[0].expression"),
    ({"auditAnnotations": [{"key": "k", "valueExpression": "((("}]}, "spec.auditAnnotations[0].valueExpression"),
])  # fmt: skip
async def test_policies_that_cannot_be_compiled_are_refused(api, spec, field):
    status = await api.post(f"{CONFIGS}/validatingadmissionpolicies", policy(**spec), 422)
    assert [cause["field"] for cause in status["details"]["causes"]] == [field]


async def test_a_policy_for_named_objects(api):
    constraints = copy.deepcopy(POLICY["spec"]["matchConstraints"])
    constraints["resourceRules"][0]["resourceNames"] = ["only"]
    only = policy(matchConstraints=constraints, validations=[{"expression": "false"}])
    await bind(api, only, binding("Deny"))
    await api.post(MAPS, config())
    await api.post(MAPS, config("only"), 422)


async def test_a_variable_fails_only_where_it_is_used(api):
    variables = [{"name": "bad", "expression": "object.nope.x"}, *POLICY["spec"]["variables"]]
    await bind(api, policy(variables=variables), binding("Deny"))
    await api.post(MAPS, config(a="1"))
    used = {"spec": {"validations": [{"expression": "variables.bad == 1"}]}}
    await api.patch(f"{CONFIGS}/validatingadmissionpolicies/few", msgspec.to_builtins(used))
    await api.post(MAPS, config("d", a="1"), 422)
