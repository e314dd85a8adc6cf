"""Server-side apply through the API: who owns what, conflicts, and what ordinary writes do to owners."""

import pytest

MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
MEDIA = "application/apply-patch+yaml"


def config(name="c", **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def apply(api, path, tree, manager="me", code=200, **query):
    text = "&".join(f"{k}={v}" for k, v in {"fieldManager": manager, **query}.items())
    return await api.call(
        "PATCH", f"{path}/{tree['metadata']['name']}?{text}", tree, code=code, content_type=MEDIA
    )


def owners(obj):
    return {
        (entry["manager"], entry["operation"], entry.get("subresource", "")): entry["fieldsV1"]
        for entry in obj["metadata"].get("managedFields", ())
    }


async def test_it_creates_then_changes_then_takes_away(api):
    made = await apply(api, MAPS, config(a="1", b="2"), code=201)
    assert owners(made) == {("me", "Apply", ""): {"f:data": {"f:a": {}, "f:b": {}}}}
    again = await apply(api, MAPS, config(a="1", b="2"))
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    less = await apply(api, MAPS, config(a="1"))
    assert less["data"] == {"a": "1"}


async def test_a_conflict_says_with_whom_about_what(api):
    await api.post(f"{MAPS}?fieldManager=editor", config(a="1", b="2"))
    status = await apply(api, MAPS, config(a="2", b="2"), code=409)
    cause = status["details"]["causes"][0]
    assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".data.a")
    assert cause["message"] == 'conflict with "editor" using v1'
    assert status["message"].startswith('Apply failed with 1 conflict: conflict with "editor" using v1')
    forced = await apply(api, MAPS, config(a="2", b="2"), force="true")
    assert owners(forced)["me", "Apply", ""] == {"f:data": {"f:a": {}, "f:b": {}}}
    assert owners(forced)["editor", "Update", ""] == {"f:data": {".": {}, "f:b": {}}}
    both = await apply(api, MAPS, config(a="2"))
    assert both["data"] == {"a": "2", "b": "2"}


@pytest.mark.parametrize(("query", "spoil", "code", "text"), [
    ({"manager": ""}, {}, 422, "fieldManager: Required value: is required for apply patch"),
    ({}, {"metadata": {"name": "c", "managedFields": [{}]}}, 400, "metadata.managedFields must be nil"),
    ({}, {"kind": "Secret"}, 400, "cannot be handled as a ConfigMap"),
    ({}, {"dta": {}}, 400, "failed to create typed patch object (default/c; v1, Kind=ConfigMap): .dta: field not declared in schema"),
    ({"manager": "x" * 129}, {}, 400, "fieldManager"),
])  # fmt: skip
async def test_what_is_refused(api, query, spoil, code, text):
    status = await apply(api, MAPS, {**config(a="1"), **spoil}, code=code, **query)
    assert text in status["message"]


async def test_force_is_for_apply_only(api):
    await api.post(MAPS, config(a="1"))
    status = await api.patch(f"{MAPS}/c?force=true", {"data": {}}, 422)
    assert "may not be specified for non-apply patch" in status["message"]


async def test_dry_run_and_resource_versions(api):
    await apply(api, MAPS, config(a="1"), code=201, dryRun="All")
    await api.get(f"{MAPS}/c", 404)
    made = await apply(api, MAPS, config(a="1"), code=201)
    stale = config(a="2")
    stale["metadata"]["resourceVersion"] = "1"
    await apply(api, MAPS, stale, code=409)
    stale["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
    await apply(api, MAPS, stale)


def deployment(**spec):
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template, **spec},
    }  # fmt: skip


async def test_a_scaler_and_an_applier(api):
    await apply(api, DEPLOYMENTS, deployment(replicas=1), code=201)
    await api.patch(f"{DEPLOYMENTS}/web/scale?fieldManager=hpa", {"spec": {"replicas": 5}})
    status = await apply(api, DEPLOYMENTS, deployment(replicas=1), code=409)
    assert 'conflict with "hpa" with subresource "scale" using apps/v1' in status["message"]
    left = await apply(api, DEPLOYMENTS, deployment())
    assert left["spec"]["replicas"] == 5


async def test_a_container_goes_with_its_defaults(api):
    tree = deployment()
    tree["spec"]["template"]["spec"]["containers"].append(
        {"name": "side", "image": "y:1", "ports": [{"containerPort": 80}]}
    )
    made = await apply(api, DEPLOYMENTS, tree, code=201)
    assert made["spec"]["template"]["spec"]["containers"][1]["ports"] == [
        {"containerPort": 80, "protocol": "TCP"}
    ]
    left = await apply(api, DEPLOYMENTS, deployment())
    assert [c["name"] for c in left["spec"]["template"]["spec"]["containers"]] == ["c"]


async def test_status_is_owned_apart(api):
    await apply(api, DEPLOYMENTS, {**deployment(replicas=1), "status": {"replicas": 9}}, code=201)
    changed = await api.patch(f"{DEPLOYMENTS}/web/status?fieldManager=ctl", {"status": {"replicas": 1}})
    assert owners(changed)["ctl", "Update", "status"] == {"f:status": {"f:replicas": {}}}
    assert "f:status" not in owners(changed)["me", "Apply", ""]
    tree = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "status": {"readyReplicas": 1},
    }
    path = f"{DEPLOYMENTS}/web/status?fieldManager=other"
    applied = await api.call("PATCH", path, tree, code=200, content_type=MEDIA)
    assert (applied["status"]["readyReplicas"], applied["spec"]["replicas"]) == (1, 1)
    assert owners(applied)["other", "Apply", "status"] == {"f:status": {"f:readyReplicas": {}}}


async def test_owners_can_be_forgotten_but_not_broken(api):
    made = await apply(api, MAPS, config(a="1"), code=201)
    made["metadata"]["managedFields"] = [{"manager": "x", "operation": "Nonsense"}]
    kept = await api.put(f"{MAPS}/c", {**made, "data": {"a": "1", "b": "2"}})
    assert ("me", "Apply", "") in owners(kept)
    bare = await api.patch(f"{MAPS}/c", {"metadata": {"managedFields": [{}]}})
    assert "managedFields" not in bare["metadata"]


async def test_who_writes_without_saying_so_is_named_by_its_program(api):
    made = await api.post(MAPS, config(a="1"), user_agent="kubectl/v1.37 (linux/arm64)")
    assert ("kubectl", "Update", "") in owners(made)
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {}}
    held = await api.post("/apis/coordination.k8s.io/v1/namespaces/default/leases", lease)
    assert "managedFields" not in held["metadata"]


async def test_an_update_after_forgetting_does_not_begin_anew(api):
    await apply(api, MAPS, config(a="1"), code=201)
    await api.patch(f"{MAPS}/c", {"metadata": {"managedFields": [{}]}})
    changed = await api.patch(f"{MAPS}/c", {"data": {"b": "2"}})
    assert "managedFields" not in changed["metadata"]
    status = await apply(api, MAPS, config(a="2"), code=409)
    assert 'conflict with "before-first-apply" using v1: .data.a' in status["message"]


async def test_kubectl_may_take_over_what_it_applied_by_itself(api):
    tree = config(a="1", b="1")
    said = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"a":"1","b":"1"}}'
    tree["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": said}
    await api.post(f"{MAPS}?fieldManager=kubectl-client-side-apply", tree)
    await apply(api, MAPS, config(a="2"), manager="somebody", code=409)
    changed = await apply(api, MAPS, config(a="2"), manager="kubectl")
    assert changed["data"]["a"] == "2"
    await api.patch(f"{MAPS}/c?fieldManager=editor", {"data": {"b": "edited"}})
    await apply(api, MAPS, config(a="2", b="3"), manager="kubectl", code=409)


async def test_leases_are_applied_without_owners(api):
    leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    tree = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "l"},
        "spec": {"holderIdentity": "a"},
    }
    await apply(api, leases, tree, code=201)
    await api.patch(f"{leases}/l", {"spec": {"holderIdentity": "b"}})
    again = await apply(api, leases, tree)
    assert again["spec"]["holderIdentity"] == "a"
    assert "managedFields" not in again["metadata"]


async def test_owners_nobody_can_read_are_no_trouble(api):
    tree = config(a="1")
    tree["metadata"]["managedFields"] = [
        {
            "manager": "x",
            "operation": "Update",
            "apiVersion": "v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": 5},
        }
    ]
    made = await api.post(MAPS, tree)
    assert all(entry["manager"] != "x" for entry in made["metadata"]["managedFields"])
