"""Webhooks and policies in CEL: a real HTTPS server judges real writes."""

import asyncio
import base64
import ssl
from datetime import UTC, datetime

import msgspec
import pytest
from aiohttp import web

from edgekube.lib import pki

MAPS = "/api/v1/namespaces/default/configmaps"
CONFIGS = "/apis/admissionregistration.k8s.io/v1"


def config(name="c", labels=None, **data):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels or {}},
        "data": data,
    }


class Judge:
    """A webhook server; `answers` are functions from request to response, by path."""

    def __init__(self, url, bundle):
        self.url, self.bundle, self.asked, self.answers = url, bundle, [], {}

    async def serve(self, request):
        body = msgspec.json.decode(await request.read())
        wish = body["request"]
        self.asked.append((request.path, wish))
        found = self.answers[request.path](wish)
        if asyncio.iscoroutine(found):
            found = await found
        response = {"uid": wish["uid"], **found}
        return web.json_response(
            {"apiVersion": body["apiVersion"], "kind": body["kind"], "response": response}
        )

    def hook(self, path, answer, **more):
        self.answers[path] = answer
        rules = [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]
        return {
            "name": f"{path.strip('/')}.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "rules": rules,
            "clientConfig": {"url": self.url + path, "caBundle": self.bundle}, "timeoutSeconds": 5, **more,
        }  # fmt: skip


@pytest.fixture
async def judge(tmp_path):
    authority = pki.new_authority("hooks", datetime.now(UTC))
    pair = pki.issue(authority, pki.Subject(name="hook", hosts=("127.0.0.1",)), datetime.now(UTC))
    pair.save(tmp_path / "crt", tmp_path / "key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    app = web.Application()
    runner = web.AppRunner(app, handler_cancellation=True)
    judge = Judge("", base64.b64encode(authority.certificate).decode())
    app.router.add_post("/{tail:.*}", judge.serve)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    judge.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    yield judge
    await runner.cleanup()


async def register(api, kind, name, *hooks):
    plural = f"{kind.lower()}webhookconfigurations"
    tree = {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": f"{kind}WebhookConfiguration", "metadata": {"name": name},
        "webhooks": list(hooks),
    }  # fmt: skip
    await api.post(f"{CONFIGS}/{plural}", tree)


def allow(_wish):
    return {"allowed": True}


def deny(message="no", **status):
    return lambda _wish: {"allowed": False, "status": {"message": message, **status}}


def change(*operations):
    encoded = base64.b64encode(msgspec.json.encode(operations)).decode()
    return lambda _wish: {"allowed": True, "patchType": "JSONPatch", "patch": encoded}


def put(key, value):
    return {"op": "add", "path": f"/data/{key}", "value": value}


async def test_what_a_validating_webhook_is_told_and_may_refuse(api, judge):
    hook = judge.hook(
        "/check",
        lambda wish: {
            "allowed": wish["operation"] != "UPDATE",
            "warnings": ["careful"],
            "status": {"message": "no updates"},
        },
    )
    await register(api, "Validating", "v", hook)
    response = await api.send("POST", MAPS, config(a="1"))
    assert response.code == 201
    assert ("Warning", '299 - "careful"') in response.headers
    _, wish = judge.asked[0]
    assert (wish["operation"], wish["namespace"], wish["name"]) == ("CREATE", "default", "c")
    assert wish["kind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert (wish["object"]["data"], wish["oldObject"]) == ({"a": "1"}, None)
    assert wish["userInfo"]["username"] == "admin"
    status = await api.patch(f"{MAPS}/c", {"data": {"a": "2"}}, 403)
    assert status["message"] == 'admission webhook "check.example.com" denied the request: no updates'
    assert judge.asked[-1][1]["oldObject"]["data"] == {"a": "1"}
    await api.delete(f"{MAPS}/c")
    assert (judge.asked[-1][1]["operation"], judge.asked[-1][1]["object"]) == ("DELETE", None)


async def test_mutating_webhooks_in_order_of_their_names(api, judge):
    await register(api, "Mutating", "b", judge.hook("/second", change(put("who", "second"))))
    await register(api, "Mutating", "a", judge.hook("/first", change(put("who", "first"), put("first", "1"))))
    made = await api.post(MAPS, config(a="1"))
    assert made["data"] == {"a": "1", "who": "second", "first": "1"}
    assert [path for path, _ in judge.asked] == ["/first", "/second"]


async def test_one_that_wants_to_know_is_called_again(api, judge):
    await register(
        api, "Mutating", "a", judge.hook("/first", change(put("first", "1")), reinvocationPolicy="IfNeeded")
    )
    await register(api, "Mutating", "b", judge.hook("/second", change(put("second", "1"))))
    await api.post(MAPS, config(a="1"))
    assert [path for path, _ in judge.asked] == ["/first", "/second", "/first"]


async def test_what_a_webhook_adds_to_a_pod_is_treated_like_the_rest(api, judge, account, pod):
    """A container that came late has its token, its default limits, and no way around the bounds."""
    limit = {"type": "Container", "default": {"cpu": "500m"}, "max": {"cpu": "1"}}
    ranges = "/api/v1/namespaces/default/limitranges"
    await api.post(ranges, {"metadata": {"name": "l"}, "spec": {"limits": [limit]}})
    added = {"name": "late", "image": "localhost/x:1"}
    rules = [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]
    hook = judge.hook(
        "/add", change({"op": "add", "path": "/spec/containers/-", "value": added}), rules=rules
    )
    await register(api, "Mutating", "m", hook)
    pods = "/api/v1/namespaces/default/pods"
    made = (await api.post(pods, pod("a")))["spec"]["containers"]
    assert [container["name"] for container in made] == ["c", "late"]
    assert made[1]["resources"] == {"limits": {"cpu": "500m"}, "requests": {"cpu": "500m"}}
    assert made[1]["volumeMounts"] == made[0]["volumeMounts"]
    added["resources"] = {"limits": {"cpu": "2"}, "requests": {"cpu": "2"}}
    judge.answers["/add"] = change({"op": "add", "path": "/spec/containers/-", "value": added})
    status = await api.post(pods, pod("b"), 403)
    assert "maximum cpu usage per Container is 1, but limit is 2" in status["message"]


async def test_a_webhook_that_cannot_be_asked(api, judge):
    away = {"url": "https://127.0.0.1:1/x", "caBundle": judge.bundle}
    await register(
        api, "Validating", "open", judge.hook("/a", allow, clientConfig=away, failurePolicy="Ignore")
    )
    await api.post(MAPS, config(a="1"))
    await register(api, "Validating", "closed", judge.hook("/b", allow, clientConfig=away))
    status = await api.post(MAPS, config("d"), 500)
    assert 'failed calling webhook "b.example.com": failed to call webhook' in status["message"]
    # Its own configuration can be mended all the same.
    await api.delete(f"{CONFIGS}/validatingwebhookconfigurations/closed")
    await api.post(MAPS, config("d"))


async def test_one_that_takes_too_long(api, judge):
    async def sleep(_wish):
        await asyncio.sleep(30)
        return {"allowed": True}

    await register(api, "Validating", "slow", judge.hook("/slow", sleep, timeoutSeconds=1))
    status = await api.post(MAPS, config(), 500)
    assert "context deadline exceeded" in status["message"]


@pytest.mark.parametrize(("more", "asked"), [
    ({"objectSelector": {"matchLabels": {"watch": "me"}}}, False), ({"objectSelector": {"matchLabels": {"a": "b"}}}, True),
    ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}, True),
    ({"namespaceSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}}, False),
    ({"matchConditions": [{"name": "big", "expression": "size(object.data) > 1"}]}, False),
    ({"matchConditions": [{"name": "admin", "expression": "request.userInfo.username == 'admin'"}]}, True),
    ({"rules": [{"operations": ["UPDATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]}, False),
    ({"rules": [{"operations": ["CREATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]}, True),
    ({"rules": [{"operations": ["CREATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "scope": "Cluster"}]}, False),
])  # fmt: skip
async def test_whom_it_wants_to_see(api, judge, more, asked):
    await register(api, "Validating", "v", judge.hook("/check", allow, **more))
    await api.post(MAPS, config(labels={"a": "b"}, a="1"))
    assert bool(judge.asked) == asked


async def test_dry_runs_only_ask_those_without_side_effects(api, judge):
    await register(api, "Validating", "v", judge.hook("/check", allow, sideEffects="NoneOnDryRun"))
    await api.post(f"{MAPS}?dryRun=All", config())
    assert judge.asked[0][1]["dryRun"] is True


async def test_what_a_webhook_makes_of_an_object_is_validated(api, judge):
    await register(
        api, "Mutating", "m", judge.hook("/bad", change({"op": "add", "path": "/data/bad key", "value": "x"}))
    )
    status = await api.post(MAPS, config(a="1"), 422)
    assert "data[bad key]" in status["message"]


async def test_status_writes_are_seen_when_asked_for(api, judge):
    rules = [
        {
            "operations": ["UPDATE"],
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "resources": ["namespaces/status"],
        }
    ]
    await register(
        api, "Validating", "v", judge.hook("/check", deny("not the status", code=409), rules=rules)
    )
    status = await api.patch("/api/v1/namespaces/default/status", {"metadata": {"labels": {"a": "b"}}}, 409)
    assert "not the status" in status["message"]
    await api.patch("/api/v1/namespaces/default", {"metadata": {"labels": {"a": "b"}}})


POLICY = {
    "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "few"},
    "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]},
        "variables": [{"name": "count", "expression": "size(object.data)"}],
        "validations": [{"expression": "variables.count <= 1", "messageExpression": "'too many: ' + string(variables.count)"}],
    },
}  # fmt: skip


def binding(*actions, **more):
    return {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "b"},
        "spec": {"policyName": "few", "validationActions": list(actions), **more},
    }  # fmt: skip


async def bind(api, policy, bound):
    await api.post(f"{CONFIGS}/validatingadmissionpolicies", policy)
    await api.post(f"{CONFIGS}/validatingadmissionpolicybindings", bound)


async def test_a_policy_refuses(api):
    await bind(api, POLICY, binding("Deny"))
    await api.post(MAPS, config(a="1"))
    status = await api.post(MAPS, config("d", a="1", b="2"), 422)
    assert "ValidatingAdmissionPolicy 'few' with binding 'b' denied request: too many: 2" in status["message"]
    await api.patch(f"{MAPS}/c", {"data": {"b": "2"}}, 422)


async def test_a_policy_warns(api):
    await bind(api, POLICY, binding("Warn"))
    response = await api.send("POST", MAPS, config(a="1", b="2"))
    assert response.code == 201
    assert any(
        "Validation failed for ValidatingAdmissionPolicy 'few'" in value for _, value in response.headers
    )


async def test_a_policy_with_parameters(api):
    policy = msgspec.json.decode(msgspec.json.encode(POLICY))
    policy["spec"]["paramKind"] = {"apiVersion": "v1", "kind": "Secret"}
    policy["spec"]["validations"] = [
        {"expression": "string(size(object.data)) == string(params.type)", "message": "as the Secret says"}
    ]
    await bind(
        api,
        policy,
        binding(
            "Deny", paramRef={"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"}
        ),
    )
    status = await api.post(MAPS, config(a="1"), 422)
    assert "no params found" in status["message"]
    await api.post("/api/v1/namespaces/default/secrets", {"metadata": {"name": "limits"}, "type": "1"})
    await api.post(MAPS, config(a="1"))
    await api.post(MAPS, config("d", a="1", b="2"), 422)


async def test_a_policy_that_asks_what_the_user_may_do(api):
    policy = msgspec.json.decode(msgspec.json.encode(POLICY))
    allowed = "authorizer.group('').resource('pods').namespace('default').check('delete').allowed()"
    policy["spec"]["validations"] = [{"expression": allowed, "message": "only for those who may delete pods"}]
    await bind(api, policy, binding("Deny"))
    await api.post(MAPS, config(a="1"))


async def test_an_expression_that_fails_counts_as_the_policy_says(api):
    policy = msgspec.json.decode(msgspec.json.encode(POLICY))
    policy["spec"]["validations"] = [{"expression": "object.nothing == 1"}]
    await bind(api, policy, binding("Deny"))
    status = await api.post(MAPS, config(a="1"), 422)
    assert "resulted in error: no such key: nothing" in status["message"]
    await api.patch(f"{CONFIGS}/validatingadmissionpolicies/few", {"spec": {"failurePolicy": "Ignore"}})
    await api.post(MAPS, config(a="1"))


async def test_versions_that_only_a_webhook_converts(api, judge):
    def convert(wish):
        objects = [
            {
                **o,
                "apiVersion": wish["desiredAPIVersion"],
                "spec": {"v": wish["desiredAPIVersion"][-2:], **o["spec"]},
            }
            for o in wish["objects"]
        ]
        return {"convertedObjects": objects, "result": {"status": "Success"}}

    judge.answers["/convert"] = convert
    free = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    client = {"url": f"{judge.url}/convert", "caBundle": judge.bundle}
    await api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", {
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]}},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": free}, {"name": "v2", "served": True, "storage": False, "schema": free}],
        },
    })  # fmt: skip
    path = "/apis/example.com/{}/namespaces/default/things"
    async with asyncio.timeout(10):
        while (await api.send("GET", path.format("v2"))).code != 200:
            await asyncio.sleep(0.01)
    thing = {"apiVersion": "example.com/v2", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"x": 1}}
    made = await api.post(path.format("v2"), thing)
    assert (made["apiVersion"], made["spec"]["x"]) == ("example.com/v2", 1)
    stored = await api.get(path.format("v1") + "/t")
    assert (stored["apiVersion"], stored["spec"]["v"]) == ("example.com/v1", "v1")
    judge.answers["/convert"] = lambda _wish: {"result": {"status": "Failed", "message": "out of order"}}
    status = await api.get(path.format("v2") + "/t", 500)
    assert "out of order" in status["message"]
