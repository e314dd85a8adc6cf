"""[sig-auth] ServiceAccounts, certificates, subject reviews; [sig-instrumentation] events."""

import base64
import json

import pytest

TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"


async def test_the_lifecycle_of_a_service_account(api, unique):
    path = f"{api.base}/serviceaccounts"
    label = {"test-serviceaccount-static": unique}
    made = await api.post(
        path, {"metadata": {"name": "a", "labels": label}, "automountServiceAccountToken": False}
    )
    assert made["automountServiceAccountToken"] is False
    await api.patch(f"{path}/a", {"automountServiceAccountToken": True}, kind="strategic-merge-patch+json")
    listed = await api.items(f"/api/v1/serviceaccounts?labelSelector=test-serviceaccount-static={unique}")
    assert [item["metadata"]["name"] for item in listed] == ["a"]
    updated = await api.update(f"{path}/a", lambda tree: tree.update(automountServiceAccountToken=False))
    assert updated["automountServiceAccountToken"] is False
    await api.delete(f"{path}?labelSelector=test-serviceaccount-static={unique}")
    await api.get(f"{path}/a", 404)


async def test_opting_out_of_api_token_automount(api, pod):
    path = f"{api.base}/serviceaccounts"
    for name, value in (("mount", True), ("nomount", False)):
        await api.post(path, {"metadata": {"name": name}, "automountServiceAccountToken": value})
    gate = {"schedulingGates": [{"name": "x.io/wait"}]}
    for account, asked, mounted in (
        ("default", None, True), ("mount", None, True), ("nomount", None, False), ("default", True, True),
        ("mount", True, True), ("nomount", True, True), ("default", False, False), ("mount", False, False),
        ("nomount", False, False),
    ):  # fmt: skip
        spec = {} if asked is None else {"automountServiceAccountToken": asked}
        tree = pod(f"p-{account}-{asked}".lower(), serviceAccountName=account, **gate, **spec)
        made = await api.post(f"{api.base}/pods", tree)
        mounts = [m["mountPath"] for m in made["spec"]["containers"][0].get("volumeMounts") or ()]
        assert (TOKEN in mounts) == mounted, (account, asked)


async def test_the_root_certificate_is_in_every_namespace(api):
    path = f"{api.base}/configmaps/kube-root-ca.crt"
    found = await api.comes(path)
    assert found["data"]["ca.crt"].startswith("-----BEGIN CERTIFICATE-----")
    await api.delete(path)
    await api.comes(path)
    await api.patch(path, {"data": {"ca.crt": "changed"}})
    await api.comes(path, lambda tree: tree["data"] == found["data"])


async def test_tokens_of_a_service_account(api):
    asked = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 600},
    }
    made = await api.post(f"{api.base}/serviceaccounts/default/token", asked)
    token = made["status"]["token"]
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    name = f"system:serviceaccount:{api.namespace}:default"
    assert claims["sub"] == name
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    status = (await api.post("/apis/authentication.k8s.io/v1/tokenreviews", review))["status"]
    assert (status["authenticated"], status["user"]["username"]) == (True, name)
    bearer = {"authorization": f"Bearer {token}"}
    await api.get(f"{api.base}/pods", 403, **bearer)
    about = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    mine = await api.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", about, **bearer)
    assert mine["status"]["userInfo"]["username"] == name
    assert f"system:serviceaccounts:{api.namespace}" in mine["status"]["userInfo"]["groups"]


async def test_the_issuer_can_be_discovered(api):
    found = await api.get("/.well-known/openid-configuration")
    assert {"issuer", "jwks_uri", "response_types_supported", "subject_types_supported"} <= found.keys()
    assert (await api.get("/openid/v1/jwks"))["keys"]


async def test_subject_reviews(api, unique):
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    roles = api.within("rbac.authorization.k8s.io/v1", "roles")
    await api.post(roles, {"metadata": {"name": "reader"}, "rules": rules})
    body = {
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": unique}],
    }
    await api.post(api.within("rbac.authorization.k8s.io/v1", "rolebindings"), body)

    async def asked(verb, path="/apis/authorization.k8s.io/v1/subjectaccessreviews", **more):
        attributes = {"verb": verb, "resource": "pods", "namespace": api.namespace}
        spec = {"user": unique, "resourceAttributes": attributes}
        return (await api.post(path, {"spec": spec, **more}))["status"]["allowed"]

    assert await asked("get") is True
    assert await asked("delete") is False
    local = f"/apis/authorization.k8s.io/v1/namespaces/{api.namespace}/localsubjectaccessreviews"
    assert await asked("get", local, metadata={"namespace": api.namespace}) is True
    rules = await api.post(
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {"spec": {"namespace": api.namespace}}
    )
    assert rules["status"]["resourceRules"]


async def test_certificates_api_operations(api, unique, signing_request):
    path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    spec = {
        "request": signing_request,
        "signerName": f"x.io/{unique}",
        "usages": ["client auth"],
        "expirationSeconds": 3600,
    }
    made = await api.post(path, {"metadata": {"name": unique}, "spec": spec})
    assert made["spec"]["username"] == "admin"
    condition = {"type": "Approved", "status": "True", "reason": "E2E", "message": "by a test"}
    approved = await api.patch(
        f"{path}/{unique}/approval",
        {"metadata": {"annotations": {"patchedapproval": "true"}}, "status": {"conditions": [condition]}},
    )
    assert approved["status"]["conditions"][0]["type"] == "Approved"
    denied = {"status": {"conditions": [condition, {**condition, "type": "Denied"}]}}
    await api.patch(f"{path}/{unique}/approval", denied, 422)
    certificate = await api.get("/api/v1/namespaces/default/configmaps/kube-root-ca.crt")
    encoded = base64.b64encode(certificate["data"]["ca.crt"].encode()).decode()
    patched = await api.patch(f"{path}/{unique}/status", {"status": {"certificate": encoded}})
    assert patched["status"]["certificate"] == encoded
    again = await api.patch(f"{path}/{unique}", {"spec": {"usages": ["server auth"]}})
    assert again["spec"]["usages"] == ["client auth"]
    await api.delete(f"{path}/{unique}")
    for usages in (["any thing"], []):
        await api.post(path, {"metadata": {"name": unique}, "spec": {**spec, "usages": usages}}, 422)


# ---- events ----


def core_event(name, namespace):
    return {
        "metadata": {"name": name, "labels": {"testevent": "yes"}}, "message": "This is a test event", "reason": "Test",
        "type": "Normal", "count": 1, "involvedObject": {"namespace": namespace}, "source": {"component": "e2e"},
    }  # fmt: skip


def new_event(name, namespace):
    return {
        "metadata": {"name": name, "labels": {"testevent": "yes"}}, "regarding": {"kind": "Pod", "namespace": namespace, "name": "p"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "note": "This is a test event", "type": "Normal", "reason": "Test",
        "action": "Do", "reportingController": "test-controller", "reportingInstance": "test-node",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("group", "make", "field"), [("v1", core_event, "message"), ("events.k8s.io/v1", new_event, "note")]
)
async def test_an_event_can_be_fetched_patched_deleted_and_listed(api, group, make, field):
    path = api.within(group, "events")
    await api.post(path, make("e", api.namespace))
    everywhere = path.replace(f"/namespaces/{api.namespace}", "")
    listed = await api.items(f"{everywhere}?labelSelector=testevent=yes")
    assert api.namespace in {item["metadata"]["namespace"] for item in listed}
    series = {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}
    patched = await api.patch(f"{path}/e", {"series": series}, kind="strategic-merge-patch+json")
    assert patched["series"]["count"] == 2
    assert patched[field] == "This is a test event"
    updated = await api.update(f"{path}/e", lambda tree: tree["series"].update(count=3))
    assert updated["series"]["count"] == 3
    await api.delete(f"{path}/e")
    await api.get(f"{path}/e", 404)
    for number in range(3):
        await api.post(path, make(f"e{number}", api.namespace))
    await api.delete(f"{path}?labelSelector=testevent=yes")
    assert await api.items(f"{path}?labelSelector=testevent=yes") == []


async def test_both_groups_show_the_same_events(api):
    await api.post(api.within("events.k8s.io/v1", "events"), new_event("e", api.namespace))
    old = await api.get(f"{api.base}/events/e")
    assert (old["message"], old["involvedObject"]["name"]) == ("This is a test event", "p")
    await api.delete(f"{api.base}/events/e")
    await api.get(f"{api.within('events.k8s.io/v1', 'events')}/e", 404)
