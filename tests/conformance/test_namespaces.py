"""[sig-api-machinery] Namespaces, ResourceQuota, LimitRange, garbage collector."""

import asyncio

import pytest

SELECTOR = {"matchLabels": {"app": "x"}}


def template(pod):
    made = pod("t", labels={"app": "x"})
    return {"metadata": {"labels": {"app": "x"}}, "spec": made["spec"]}


async def test_all_pods_and_services_go_with_their_namespace(api, unique, pod):
    path = f"/api/v1/namespaces/{unique}"
    await api.post("/api/v1/namespaces", {"metadata": {"name": unique}})
    await api.comes(f"{path}/serviceaccounts/default")
    await api.post(f"{path}/pods", pod("p"))
    await api.post(f"{path}/services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
    await api.delete(path)
    await api.gone(path)
    await api.post("/api/v1/namespaces", {"metadata": {"name": unique}})
    assert await api.items(f"{path}/pods") == []
    assert await api.items(f"{path}/services") == []
    await api.delete(path)


async def test_a_namespace_that_goes_takes_nothing_more(api, unique):
    path = f"/api/v1/namespaces/{unique}"
    await api.post("/api/v1/namespaces", {"metadata": {"name": unique}})
    held = {"metadata": {"name": "held", "finalizers": ["x.io/hold"]}}
    await api.post(f"{path}/configmaps", held)
    await api.delete(path)
    await api.comes(path, lambda tree: tree["status"]["phase"] == "Terminating")
    status = await api.post(f"{path}/configmaps", {"metadata": {"name": "late"}}, 403)
    assert "because it is being terminated" in status["message"]

    def told(tree):
        conditions = {c["type"]: c["status"] for c in tree["status"].get("conditions") or ()}
        return conditions.get("NamespaceFinalizersRemaining") == "True"

    await api.comes(path, told)
    await api.patch(f"{path}/configmaps/held", {"metadata": {"finalizers": None}})
    await api.gone(path)


async def test_patch_status_update_and_finalize_a_namespace(api, unique):
    path = f"/api/v1/namespaces/{unique}"
    made = await api.post("/api/v1/namespaces", {"metadata": {"name": unique}})
    assert made["status"]["phase"] == "Active"
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": unique}
    assert made["spec"]["finalizers"] == ["kubernetes"]
    patched = await api.patch(path, {"metadata": {"labels": {"testLabel": "testValue"}}})
    assert patched["metadata"]["labels"]["testLabel"] == "testValue"
    condition = {"type": "StatusPatch", "status": "True", "reason": "E2E", "message": "by a test"}
    patched = await api.patch(f"{path}/status", {"status": {"conditions": [condition]}})
    assert patched["status"]["conditions"][0]["type"] == "StatusPatch"

    def update(tree):
        tree["status"]["conditions"].append({**condition, "type": "StatusUpdate"})

    updated = await api.update(f"{path}/status", update)
    assert [c["type"] for c in updated["status"]["conditions"]] == ["StatusPatch", "StatusUpdate"]
    tree = await api.get(path)
    tree["spec"]["finalizers"] = ["kubernetes", "e2e.example.com/fake"]
    made = await api.put(f"{path}/finalize", tree)
    assert "e2e.example.com/fake" in made["spec"]["finalizers"]
    tree = await api.get(path)
    tree["spec"]["finalizers"] = ["kubernetes"]
    made = await api.put(f"{path}/finalize", tree)
    assert made["spec"]["finalizers"] == ["kubernetes"]
    await api.delete(path)


# ---- ResourceQuota ----

QUOTA = {
    "pods": "3", "services": "3", "replicationcontrollers": "3", "secrets": "10", "configmaps": "10",
    "persistentvolumeclaims": "2", "requests.storage": "5Gi", "count/replicasets.apps": "3", "requests.cpu": "1",
}  # fmt: skip


async def quota(api, hard, **spec):
    path = f"{api.base}/resourcequotas"
    await api.post(path, {"metadata": {"name": "q"}, "spec": {"hard": hard, **spec}})
    return await api.comes(f"{path}/q", lambda tree: tree.get("status", {}).get("hard") == hard)


async def used(api, **wanted):
    """Wait until the quota says that so much is used."""
    names = {name.replace("_", "/"): value for name, value in wanted.items()}

    def told(tree):
        found = tree["status"]["used"]
        return all(found.get(name) == value for name, value in names.items())

    return (await api.comes(f"{api.base}/resourcequotas/q", told))["status"]["used"]


THINGS = {
    "services": ("v1", "services", {"spec": {"ports": [{"port": 80}]}}),
    "secrets": ("v1", "secrets", {"data": {"a": "Yg=="}}),
    "configmaps": ("v1", "configmaps", {"data": {"a": "b"}}),
    "persistentvolumeclaims": (
        "v1", "persistentvolumeclaims",
        {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "none"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", THINGS)
async def test_a_quota_captures_the_life_of_a(api, name):
    await quota(api, QUOTA)
    group, plural, content = THINGS[name]
    before = int((await api.get(f"{api.base}/resourcequotas/q"))["status"]["used"][name])
    path = api.within(group, plural)
    await api.post(path, {"metadata": {"name": "thing"}, **content})
    await used(api, **{name: str(before + 1)})
    await api.delete(f"{path}/thing")
    if name == "persistentvolumeclaims":
        await api.gone(f"{path}/thing")
    await used(api, **{name: str(before)})


@pytest.mark.parametrize(
    ("group", "plural", "name"),
    [
        ("v1", "replicationcontrollers", "replicationcontrollers"),
        ("apps/v1", "replicasets", "count_replicasets.apps"),
    ],
)
async def test_a_quota_captures_the_life_of_a_controller(api, pod, group, plural, name):
    await quota(api, QUOTA)
    selector = {"app": "x"} if group == "v1" else SELECTOR
    body = {
        "metadata": {"name": "c"},
        "spec": {"replicas": 0, "selector": selector, "template": template(pod)},
    }
    await api.post(api.within(group, plural), body)
    await used(api, **{name: "1"})
    await api.delete(f"{api.within(group, plural)}/c")
    await used(api, **{name: "0"})


def costly(pod, name, cpu, **spec):
    made = pod(name, schedulingGates=[{"name": "x.io/wait"}], **spec)
    made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
    return made


async def test_a_quota_captures_the_life_of_a_pod(api, pod):
    await quota(api, QUOTA)
    pods = f"{api.base}/pods"
    await api.post(pods, costly(pod, "a", "500m"))
    await used(api, pods="1", **{"requests.cpu": "500m"})
    status = await api.post(pods, costly(pod, "b", "600m"), 403)
    assert (
        "exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=500m, limited: requests.cpu=1"
        in status["message"]
    )
    status = await api.post(pods, pod("b"), 403)
    assert "must specify requests.cpu" in status["message"]
    await api.patch(f"{pods}/a", {"metadata": {"labels": {"a": "b"}}})
    await used(api, pods="1", **{"requests.cpu": "500m"})
    await api.delete(f"{pods}/a", {"gracePeriodSeconds": 0})
    await used(api, pods="0", **{"requests.cpu": "0"})


@pytest.mark.parametrize(
    ("scope", "inside", "outside"),
    [
        ("Terminating", {"activeDeadlineSeconds": 3600}, {}), ("NotTerminating", {}, {"activeDeadlineSeconds": 3600}),
        ("BestEffort", {}, None), ("NotBestEffort", None, {}),
    ],
)  # fmt: skip
async def test_quotas_with_scopes(api, pod, scope, inside, outside):
    await quota(api, {"pods": "5"}, scopes=[scope])
    pods = f"{api.base}/pods"

    def made(name, spec):
        if spec is None:
            return costly(pod, name, "1m")
        return pod(name, schedulingGates=[{"name": "x.io/wait"}], **spec)

    await api.post(pods, made("out", outside))
    await api.post(pods, made("in", inside))
    await used(api, pods="1")
    await api.delete(f"{pods}/in", {"gracePeriodSeconds": 0})
    await used(api, pods="0")


async def test_update_and_delete_a_quota(api):
    await quota(api, {"pods": "5"})
    path = f"{api.base}/resourcequotas/q"
    await api.update(path, lambda tree: tree["spec"]["hard"].update({"pods": "7"}))
    await api.comes(path, lambda tree: tree["status"]["hard"] == {"pods": "7"})
    await api.delete(path)
    await api.get(path, 404)


# ---- LimitRange ----


async def test_limit_ranges_give_defaults_and_bounds(api, pod):
    limit = {
        "type": "Container", "default": {"cpu": "500m", "memory": "500Mi"},
        "defaultRequest": {"cpu": "100m", "memory": "200Mi"}, "min": {"cpu": "50m", "memory": "100Mi"},
        "max": {"cpu": "500m", "memory": "500Mi"},
    }  # fmt: skip
    path = f"{api.base}/limitranges"
    await api.post(path, {"metadata": {"name": "l"}, "spec": {"limits": [limit]}})
    made = await api.post(f"{api.base}/pods", pod("a", schedulingGates=[{"name": "x.io/wait"}]))
    resources = made["spec"]["containers"][0]["resources"]
    assert resources == {
        "limits": {"cpu": "500m", "memory": "500Mi"},
        "requests": {"cpu": "100m", "memory": "200Mi"},
    }
    partial = pod("b", schedulingGates=[{"name": "x.io/wait"}])
    partial["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "300m"}}
    resources = (await api.post(f"{api.base}/pods", partial))["spec"]["containers"][0]["resources"]
    assert resources["requests"] == {"cpu": "300m", "memory": "200Mi"}
    for cpu in ("10m", "600m"):
        wrong = pod("c")
        wrong["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}
        await api.post(f"{api.base}/pods", wrong, 403)
    await api.update(f"{path}/l", lambda tree: tree["spec"]["limits"][0].update({"min": {"cpu": "9m"}}))
    await api.delete(f"{path}/l")
    await api.get(f"{path}/l", 404)


# ---- Garbage collector ----


async def controller(api, pod, replicas=2):
    path = api.within("v1", "replicationcontrollers")
    body = {
        "metadata": {"name": "rc"},
        "spec": {"replicas": replicas, "selector": {"app": "x"}, "template": template(pod)},
    }
    await api.post(path, body)
    await api.comes(f"{path}/rc", lambda tree: tree["status"]["replicas"] == replicas)
    return path


async def test_delete_pods_created_by_rc_when_not_orphaning(api, pod):
    path = await controller(api, pod)
    await api.delete(f"{path}/rc", {"propagationPolicy": "Background"})
    await api.gone(f"{path}/rc")

    async def empty():
        return await api.items(f"{api.base}/pods") == []

    await api.until(empty)


async def test_orphan_pods_created_by_rc_if_delete_options_say_so(api, pod):
    path = await controller(api, pod)
    await api.delete(f"{path}/rc", {"propagationPolicy": "Orphan"})
    await api.gone(f"{path}/rc")
    await asyncio.sleep(0.2)
    found = await api.items(f"{api.base}/pods")
    assert len(found) == 2
    assert all("ownerReferences" not in item["metadata"] for item in found)


async def test_keep_the_rc_around_until_all_its_pods_are_deleted_if_asked(api, pod):
    path = await controller(api, pod)
    held = (await api.items(f"{api.base}/pods"))[0]["metadata"]["name"]
    await api.patch(f"{api.base}/pods/{held}", {"metadata": {"finalizers": ["x.io/hold"]}})
    await api.delete(f"{path}/rc", {"propagationPolicy": "Foreground"})

    async def alone():
        return len(await api.items(f"{api.base}/pods")) == 1

    await api.until(alone)
    waiting = await api.get(f"{path}/rc")
    assert waiting["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert "deletionTimestamp" in waiting["metadata"]
    await api.patch(f"{api.base}/pods/{held}", {"metadata": {"finalizers": None}})
    await api.gone(f"{path}/rc")
    assert await api.items(f"{api.base}/pods") == []


async def test_what_has_another_valid_owner_stays(api):
    maps = f"{api.base}/configmaps"
    owners = [await api.post(maps, {"metadata": {"name": name}}) for name in ("one", "two")]
    references = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": o["metadata"]["name"], "uid": o["metadata"]["uid"]}
        for o in owners
    ]
    await api.post(maps, {"metadata": {"name": "both", "ownerReferences": references}})
    await api.post(maps, {"metadata": {"name": "first", "ownerReferences": references[:1]}})
    await api.delete(f"{maps}/one", {"propagationPolicy": "Background"})
    await api.gone(f"{maps}/first")
    assert (await api.get(f"{maps}/both"))["metadata"]["name"] == "both"


async def test_a_dependency_circle_blocks_nothing(api):
    maps = f"{api.base}/configmaps"
    made = [await api.post(maps, {"metadata": {"name": f"c{n}"}}) for n in range(3)]
    for number, tree in enumerate(made):
        owner = made[number - 1]["metadata"]
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner["name"], "uid": owner["uid"]}
        reference |= {"controller": True, "blockOwnerDeletion": True}
        await api.patch(f"{maps}/{tree['metadata']['name']}", {"metadata": {"ownerReferences": [reference]}})
    await api.delete(f"{maps}/c0", {"propagationPolicy": "Foreground"})
    for number in range(3):
        await api.gone(f"{maps}/c{number}")
