"""
The life of every API, as conformance walks through it: "… should support … API operations".

Discovery, create, get, list, watch, patch, update, status, delete, deletecollection.
"""

import json

import pytest

TEMPLATE = {
    "metadata": {"labels": {"app": "x"}},
    "spec": {"containers": [{"name": "c", "image": "localhost/pause:1"}], "restartPolicy": "Always"},
}
ONCE = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}
SELECTOR = {"matchLabels": {"app": "x"}}
RULES = [{"operations": ["CREATE"], "apiGroups": ["x.io"], "apiVersions": ["v1"], "resources": ["things"]}]
HOOK = {
    "name": "h.example.com", "rules": RULES, "sideEffects": "None", "admissionReviewVersions": ["v1"],
    "clientConfig": {"url": "https://127.0.0.1:1/never"},
}  # fmt: skip
CONDITION = {
    "type": "StatusPatched", "status": "True", "reason": "E2E", "message": "set by a test",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}  # fmt: skip
CONDITIONS = {"conditions": [CONDITION]}
ROLE = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
CLAIM = {
    "accessModes": ["ReadWriteOnce"],
    "resources": {"requests": {"storage": "1Gi"}},
    "storageClassName": "none",
}
VOLUME = {
    "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"},
    "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "none",
}  # fmt: skip
POLICY = {
    "matchConstraints": {"resourceRules": RULES}, "validations": [{"expression": "true"}], "failurePolicy": "Ignore",
}  # fmt: skip
MUTATION = {
    "matchConstraints": {"resourceRules": RULES}, "failurePolicy": "Ignore", "reinvocationPolicy": "Never",
    "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}],
}  # fmt: skip
FLOW = {
    "matchingPrecedence": 9000, "priorityLevelConfiguration": {"name": "global-default"},
    "rules": [{
        "subjects": [{"kind": "User", "user": {"name": "nobody"}}],
        "resourceRules": [{"verbs": ["get"], "apiGroups": ["x.io"], "resources": ["things"], "namespaces": ["*"]}],
    }],
}  # fmt: skip
LEVEL = {"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}}
SCALER = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "none"}, "maxReplicas": 3}


def ingress(_name):
    backend = {"service": {"name": "none", "port": {"number": 80}}}
    return {"spec": {"defaultBackend": backend}}


# What is in an object besides its name; and what may be said of its status.
NAMESPACED = {
    ("v1", "configmaps"): ({"data": {"a": "b"}}, None),
    ("v1", "secrets"): ({"data": {"a": "Yg=="}}, None),
    ("v1", "serviceaccounts"): ({}, None),
    ("v1", "podtemplates"): ({"template": TEMPLATE}, None),
    ("v1", "limitranges"): ({"spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}}]}}, None),
    ("v1", "resourcequotas"): ({"spec": {"hard": {"count/x.io": "5"}}}, {"hard": {"count/x.io": "5"}}),
    ("v1", "replicationcontrollers"): ({"spec": {"replicas": 0, "selector": {"app": "x"}, "template": TEMPLATE}}, CONDITIONS),
    ("v1", "services"): ({"spec": {"ports": [{"port": 80}]}}, CONDITIONS),
    ("v1", "endpoints"): ({"subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]}, None),
    ("v1", "pods"): ({"spec": {"containers": TEMPLATE["spec"]["containers"], "schedulingGates": [{"name": "x.io/wait"}]}}, CONDITIONS),
    ("v1", "persistentvolumeclaims"): ({"spec": CLAIM}, CONDITIONS),
    ("apps/v1", "deployments"): ({"spec": {"replicas": 0, "selector": SELECTOR, "template": TEMPLATE}}, CONDITIONS),
    ("apps/v1", "replicasets"): ({"spec": {"replicas": 0, "selector": SELECTOR, "template": TEMPLATE}}, CONDITIONS),
    ("apps/v1", "statefulsets"): ({"spec": {"replicas": 0, "selector": SELECTOR, "template": TEMPLATE, "serviceName": "x"}}, CONDITIONS),
    ("apps/v1", "daemonsets"): (
        {"spec": {"selector": SELECTOR, "template": {**TEMPLATE, "spec": {**TEMPLATE["spec"], "nodeSelector": {"no": "where"}}}}}, CONDITIONS
    ),
    ("apps/v1", "controllerrevisions"): ({"data": {"spec": {}}, "revision": 1}, None),
    ("batch/v1", "jobs"): ({"spec": {"suspend": True, "template": ONCE}}, None),
    ("batch/v1", "cronjobs"): ({"spec": {"schedule": "0 0 1 1 *", "suspend": True, "jobTemplate": {"spec": {"template": ONCE}}}},
                               {"lastScheduleTime": "2026-01-01T00:00:00Z"}),
    ("autoscaling/v2", "horizontalpodautoscalers"): ({"spec": SCALER}, None),
    ("autoscaling/v1", "horizontalpodautoscalers"): ({"spec": SCALER}, None),
    ("policy/v1", "poddisruptionbudgets"): ({"spec": {"minAvailable": 1, "selector": SELECTOR}}, None),
    ("networking.k8s.io/v1", "ingresses"): (ingress(""), {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}),
    ("networking.k8s.io/v1", "networkpolicies"): ({"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}, None),
    ("discovery.k8s.io/v1", "endpointslices"): ({"addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.1"]}]}, None),
    ("coordination.k8s.io/v1", "leases"): ({"spec": {"holderIdentity": "me", "leaseDurationSeconds": 30}}, None),
    ("rbac.authorization.k8s.io/v1", "roles"): ({"rules": ROLE}, None),
    ("rbac.authorization.k8s.io/v1", "rolebindings"): (
        {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "none"},
         "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "nobody"}]}, None),
    ("storage.k8s.io/v1", "csistoragecapacities"): ({"storageClassName": "none", "capacity": "1Gi"}, None),
}  # fmt: skip
CLUSTER = {
    ("v1", "persistentvolumes"): ({"spec": VOLUME}, {"message": "patched"}),
    ("v1", "nodes"): ({"spec": {"unschedulable": True}}, None),
    ("networking.k8s.io/v1", "ingressclasses"): ({"spec": {"controller": "x.io/y"}}, None),
    ("node.k8s.io/v1", "runtimeclasses"): ({"handler": "crun"}, None),
    ("scheduling.k8s.io/v1", "priorityclasses"): ({"value": 7}, None),
    ("storage.k8s.io/v1", "storageclasses"): ({"provisioner": "x.io/y"}, None),
    ("storage.k8s.io/v1", "volumeattributesclasses"): ({"driverName": "x.io", "parameters": {"a": "b"}}, None),
    ("storage.k8s.io/v1", "csidrivers"): ({"spec": {"attachRequired": False}}, None),
    ("storage.k8s.io/v1", "csinodes"): ({"spec": {"drivers": [{"name": "x.io", "nodeID": "n"}]}}, None),
    ("storage.k8s.io/v1", "volumeattachments"): (
        {"spec": {"attacher": "x.io", "nodeName": "n", "source": {"persistentVolumeName": "none"}}}, {"attached": True}),
    ("certificates.k8s.io/v1", "certificatesigningrequests"): (
        {"spec": {"request": None, "signerName": "x.io/y", "usages": ["client auth"]}}, None),
    ("rbac.authorization.k8s.io/v1", "clusterroles"): ({"rules": ROLE}, None),
    ("rbac.authorization.k8s.io/v1", "clusterrolebindings"): (
        {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "none"},
         "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "nobody"}]}, None),
    ("admissionregistration.k8s.io/v1", "validatingwebhookconfigurations"): ({"webhooks": [HOOK]}, None),
    ("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations"): ({"webhooks": [HOOK]}, None),
    ("admissionregistration.k8s.io/v1", "validatingadmissionpolicies"): ({"spec": POLICY}, CONDITIONS),
    ("admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings"): (
        {"spec": {"policyName": "none", "validationActions": ["Deny"]}}, None),
    ("admissionregistration.k8s.io/v1", "mutatingadmissionpolicies"): ({"spec": MUTATION}, None),
    ("admissionregistration.k8s.io/v1", "mutatingadmissionpolicybindings"): ({"spec": {"policyName": "none"}}, None),
    ("flowcontrol.apiserver.k8s.io/v1", "flowschemas"): ({"spec": FLOW}, CONDITIONS),
    ("flowcontrol.apiserver.k8s.io/v1", "prioritylevelconfigurations"): ({"spec": LEVEL}, CONDITIONS),
}  # fmt: skip


async def discovered(api, group_version, plural, *, status):
    """The resource is in the group's documents, with every verb."""
    group, _, version = group_version.rpartition("/")
    if group:
        groups = {item["name"]: item for item in (await api.get("/apis"))["groups"]}
        assert group_version in [one["groupVersion"] for one in groups[group]["versions"]]
        assert version in [one["version"] for one in (await api.get(f"/apis/{group}"))["versions"]]
    root = f"/apis/{group_version}" if group else f"/api/{version}"
    entries = {entry["name"]: entry for entry in (await api.get(root))["resources"]}
    verbs = {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
    assert set(entries[plural]["verbs"]) >= verbs
    if status is not None:
        assert set(entries[f"{plural}/status"]["verbs"]) == {"get", "patch", "update"}
    return entries[plural]["kind"]


async def walk(api, path, names, content, kind):
    """Create, get, list, watch, patch, update, delete and deletecollection."""
    label = {"special": names[0]}
    selector = f"labelSelector=special={names[0]}"
    for name in names:
        made = await api.post(path, {"metadata": {"name": name, "labels": label}, **content})
        assert made["metadata"]["uid"]
        assert made["kind"] == kind
        assert "selfLink" not in made["metadata"]
    await api.post(path, {"metadata": {"name": names[0], "labels": label}, **content}, 409)
    one = await api.get(f"{path}/{names[0]}")
    assert (one["kind"], one["metadata"]["labels"]) == (kind, label)
    listed = await api.get(f"{path}?{selector}")
    assert [item["metadata"]["name"] for item in listed["items"]] == names
    assert listed["kind"] == f"{kind}List"
    query = {"labelSelector": f"special={names[0]}", "resourceVersion": listed["metadata"]["resourceVersion"]}
    async with api.watch(path, **query) as following:
        await changed(api, f"{path}/{names[0]}", following)
        deleted = await api.delete(f"{path}/{names[0]}", {"gracePeriodSeconds": 0})
        assert deleted["kind"] in {"Status", kind}
        await released(api, f"{path}/{names[0]}")
        while (seen := await following())[0] != "DELETED":
            assert seen[0] == "MODIFIED"
        assert seen[1]["metadata"]["name"] == names[0]
    left = await api.items(f"{path}?{selector}")
    assert [item["metadata"]["name"] for item in left] == names[1:]
    await api.delete(f"{path}?{selector}&gracePeriodSeconds=0")
    for name in names[1:]:
        await released(api, f"{path}/{name}")
    assert await api.items(f"{path}?{selector}") == []


async def changed(api, path, following):
    """Patch and update; the watch tells of both."""
    patched = await api.patch(path, {"metadata": {"annotations": {"patched": "true"}}})
    assert patched["metadata"]["annotations"]["patched"] == "true"

    def update(tree):
        tree["metadata"]["annotations"]["updated"] = "true"

    updated = await api.update(path, update)
    assert updated["metadata"]["annotations"]["updated"] == "true"
    seen, last = set(), None
    while not {"patched", "updated"} <= seen:
        sort, tree = await following()
        assert sort == "MODIFIED"
        assert last is None or int(tree["metadata"]["resourceVersion"]) > last
        last = int(tree["metadata"]["resourceVersion"])
        seen |= set(tree["metadata"].get("annotations") or {})
    stale = {
        **updated,
        "metadata": {**updated["metadata"], "resourceVersion": patched["metadata"]["resourceVersion"]},
    }
    await api.put(path, stale, 409)


async def released(api, path):
    """It goes, once the finalizers are off that keep it from going."""

    async def check():
        answer, text = await api.send("GET", path)
        if answer.status == 404:
            return True
        if json.loads(text)["metadata"].get("finalizers"):
            await api.send(
                "PATCH", path, {"metadata": {"finalizers": None}}, content_type="application/merge-patch+json"
            )
        return False

    await api.until(check)


async def status_of(api, path, name, content, status):
    """Patch, read and replace the status; nothing else changes."""
    await api.post(path, {"metadata": {"name": name}, **content})
    key = next(iter(status))
    patched = await api.patch(
        f"{path}/{name}/status", {"metadata": {"annotations": {"p": "1"}}, "status": status}
    )
    assert covers(patched["status"][key], status[key])
    assert patched["metadata"]["annotations"]["p"] == "1"
    shown = await api.get(f"{path}/{name}/status")
    assert shown["metadata"]["uid"] == patched["metadata"]["uid"]

    def update(tree):
        tree.setdefault("status", {}).update(status)
        tree["metadata"]["annotations"]["u"] = "1"

    updated = await api.update(f"{path}/{name}/status", update)
    assert covers(updated["status"][key], status[key])
    await api.delete(f"{path}/{name}", {"gracePeriodSeconds": 0})
    await released(api, f"{path}/{name}")


def covers(found, wanted):
    """Whether all that is wanted is found."""
    if isinstance(wanted, dict):
        return all(covers(found.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list):
        return all(any(covers(one, item) for one in found) for item in wanted)
    return found == wanted


@pytest.mark.parametrize("which", NAMESPACED, ids=lambda which: f"{which[1]}-{which[0]}")
async def test_resources_in_namespaces(api, unique, which):
    content, status = NAMESPACED[which]
    kind = await discovered(api, *which, status=status)
    path = api.within(*which)
    await walk(api, path, [f"{unique}-{n}" for n in range(3)], content, kind)
    if status is not None:
        await status_of(api, path, f"{unique}-s", content, status)
    everywhere = path.replace(f"/namespaces/{api.namespace}", "")
    await api.post(path, {"metadata": {"name": unique, "labels": {"every": unique}}, **content})
    listed = await api.items(f"{everywhere}?labelSelector=every={unique}")
    assert [item["metadata"]["namespace"] for item in listed] == [api.namespace]


@pytest.mark.parametrize("which", CLUSTER, ids=lambda which: f"{which[1]}-{which[0]}")
async def test_resources_of_the_cluster(api, unique, which, signing_request):
    content, status = CLUSTER[which]
    content = json.loads(json.dumps(content))
    if "request" in content.get("spec", {}):
        content["spec"]["request"] = signing_request
    kind = await discovered(api, *which, status=status)
    path = f"/apis/{which[0]}/{which[1]}" if "/" in which[0] else f"/api/{which[0]}/{which[1]}"
    await walk(api, path, [f"{unique}-{n}" for n in range(3)], content, kind)
    if status is not None:
        await status_of(api, path, f"{unique}-s", content, status)
