"""[sig-apps] controllers, [sig-node] pods, [sig-storage] volumes, [sig-scheduling] priorities: what the API shows."""

import pytest

LABELS = {"app": "x"}
SELECTOR = {"matchLabels": LABELS}


def workload(pod, replicas=1, **spec):
    template = {"metadata": {"labels": LABELS}, "spec": pod("t")["spec"]}
    return {"metadata": {"name": "w", "labels": LABELS}, "spec": {"replicas": replicas, "selector": SELECTOR, "template": template, **spec}}  # fmt: skip


async def test_the_lifecycle_of_a_replication_controller(api, pod):
    path = f"{api.base}/replicationcontrollers"
    tree = workload(pod)
    tree["spec"]["selector"] = LABELS
    rv = (await api.get(path))["metadata"]["resourceVersion"]
    async with api.watch(path, resourceVersion=rv) as watch:
        await api.post(path, tree)
        assert (await watch())[0] == "ADDED"
        await api.comes(f"{path}/w", lambda tree: tree["status"].get("readyReplicas") == 1)
        await api.patch(f"{path}/w", {"metadata": {"labels": {"test-rc": "patched"}}})
        await api.patch(f"{path}/w/status", {"status": {"readyReplicas": 0, "availableReplicas": 0}})
        scale = await api.get(f"{path}/w/scale")
        assert (scale["kind"], scale["spec"]["replicas"]) == ("Scale", 1)
        await api.patch(f"{path}/w/scale", {"spec": {"replicas": 2}})
        await api.comes(f"{path}/w", lambda tree: tree["status"].get("readyReplicas") == 2)
        await api.update(f"{path}/w", lambda tree: tree["metadata"]["labels"].update({"test-rc": "updated"}))
        listed = await api.items("/api/v1/replicationcontrollers?labelSelector=test-rc=updated")
        assert [item["metadata"]["namespace"] for item in listed] == [api.namespace]
        await api.delete(f"{path}?labelSelector=test-rc=updated")
        while (await watch())[0] != "DELETED":
            pass


async def test_a_controller_surfaces_a_quota_failure_and_lets_go_of_pods(api, pod):
    quotas = f"{api.base}/resourcequotas"
    await api.post(quotas, {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}}})
    await api.comes(f"{quotas}/q", lambda tree: tree.get("status", {}).get("hard") == {"pods": "1"})
    path = api.within("apps/v1", "replicasets")
    await api.post(path, workload(pod, replicas=2))

    def failed(tree):
        return [c["type"] for c in tree["status"].get("conditions") or ()] == ["ReplicaFailure"]

    await api.comes(f"{path}/w", failed)
    await api.patch(f"{path}/w", {"spec": {"replicas": 1}})
    await api.comes(f"{path}/w", lambda tree: not tree["status"].get("conditions"))
    (mine,) = await api.items(f"{api.base}/pods?labelSelector=app=x")
    name = mine["metadata"]["name"]
    await api.delete(f"{quotas}/q")
    await api.patch(f"{api.base}/pods/{name}", {"metadata": {"labels": {"app": "released"}}})
    released = await api.comes(
        f"{api.base}/pods/{name}", lambda tree: "ownerReferences" not in tree["metadata"]
    )
    assert released["metadata"]["labels"]["app"] == "released"


async def test_a_replica_set_adopts_matching_pods(api, pod):
    await api.post(f"{api.base}/pods", pod("orphan", labels=LABELS))
    await api.post(api.within("apps/v1", "replicasets"), workload(pod))
    adopted = await api.comes(
        f"{api.base}/pods/orphan", lambda tree: bool(tree["metadata"].get("ownerReferences"))
    )
    assert adopted["metadata"]["ownerReferences"][0]["controller"] is True
    assert len(await api.items(f"{api.base}/pods")) == 1


@pytest.mark.parametrize("plural", ["deployments", "replicasets", "statefulsets"])
async def test_scale_subresources(api, pod, plural):
    path = api.within("apps/v1", plural)
    more = {"serviceName": "x"} if plural == "statefulsets" else {}
    await api.post(path, workload(pod, **more))
    scale = await api.get(f"{path}/w/scale")
    assert (scale["apiVersion"], scale["spec"]["replicas"]) == ("autoscaling/v1", 1)
    assert scale["status"]["selector"] == "app=x"
    updated = await api.update(f"{path}/w/scale", lambda tree: tree["spec"].update(replicas=2))
    assert updated["spec"]["replicas"] == 2
    assert (await api.get(f"{path}/w"))["spec"]["replicas"] == 2
    patched = await api.patch(f"{path}/w/scale", {"spec": {"replicas": 3}})
    assert patched["spec"]["replicas"] == 3
    await api.comes(f"{path}/w", lambda tree: tree["status"].get("readyReplicas") == 3)


async def test_the_lifecycle_of_a_deployment(api, pod):
    path = api.within("apps/v1", "deployments")
    tree = workload(pod)
    tree["metadata"]["labels"] = {"test-deployment-static": "true"}
    await api.post(path, tree)
    ready = await api.comes(f"{path}/w", lambda tree: tree["status"].get("readyReplicas") == 1)
    assert ready["status"]["observedGeneration"] == ready["metadata"]["generation"]
    image = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "localhost/pause:2"}]}}}}
    await api.patch(f"{path}/w", image, kind="strategic-merge-patch+json")

    def rolled(tree):
        status = tree["status"]
        return (
            status.get("updatedReplicas") == 1
            and status.get("replicas") == 1
            and status.get("availableReplicas") == 1
        )

    await api.comes(
        f"{path}/w",
        lambda tree: (
            tree["metadata"]["generation"] == tree["status"].get("observedGeneration") and rolled(tree)
        ),
    )
    sets = await api.items(f"{api.within('apps/v1', 'replicasets')}?labelSelector=app=x")
    revisions = sorted(item["metadata"]["annotations"]["deployment.kubernetes.io/revision"] for item in sets)
    assert revisions == ["1", "2"]
    listed = await api.items("/apis/apps/v1/deployments?labelSelector=test-deployment-static=true")
    assert api.namespace in {item["metadata"]["namespace"] for item in listed}
    condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "m"}
    await api.update(f"{path}/w/status", lambda tree: tree["status"]["conditions"].append(condition))
    await api.delete(f"{path}?labelSelector=test-deployment-static=true")
    await api.gone(f"{path}/w")


async def test_a_stateful_set_makes_its_pods_in_order(api, pod):
    path = api.within("apps/v1", "statefulsets")
    await api.post(path, workload(pod, replicas=3, serviceName="x"))
    await api.comes(f"{path}/w", lambda tree: tree["status"].get("readyReplicas") == 3)
    pods = {item["metadata"]["name"]: item for item in await api.items(f"{api.base}/pods")}
    assert sorted(pods) == ["w-0", "w-1", "w-2"]
    assert pods["w-1"]["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "1"
    revisions = await api.items(api.within("apps/v1", "controllerrevisions"))
    assert len(revisions) == 1
    await api.delete(f"{api.base}/pods/w-1")
    uid = pods["w-1"]["metadata"]["uid"]
    await api.comes(f"{api.base}/pods/w-1", lambda tree: tree["metadata"]["uid"] != uid)


async def test_jobs_run_to_completion_and_their_status_is_kept(api, pod):
    path = api.within("batch/v1", "jobs")
    template = {"spec": pod("t", restartPolicy="Never")["spec"]}
    await api.post(
        path, {"metadata": {"name": "j"}, "spec": {"completions": 2, "parallelism": 2, "template": template}}
    )

    def complete(tree):
        return any(
            c["type"] == "Complete" and c["status"] == "True" for c in tree["status"].get("conditions") or ()
        )

    done = await api.comes(f"{path}/j", complete)
    assert done["status"]["succeeded"] == 2
    assert (
        done["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"]
        == done["metadata"]["uid"]
    )
    status = await api.patch(f"{path}/j", {"spec": {"completions": 3}}, 422)
    assert "field is immutable" in status["message"]
    await api.patch(f"{path}/j", {"metadata": {"annotations": {"a": "b"}}})
    await api.delete(f"{path}/j", {"propagationPolicy": "Background"})
    await api.gone(f"{path}/j")


async def test_disruption_budgets_block_evictions(api, pod):
    await api.post(f"{api.base}/pods", pod("p", labels=LABELS))
    await api.comes(f"{api.base}/pods/p", lambda tree: tree["status"]["phase"] == "Running")
    path = api.within("policy/v1", "poddisruptionbudgets")
    await api.post(path, {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": SELECTOR}})
    await api.comes(f"{path}/b", lambda tree: tree["status"].get("currentHealthy") == 1)
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "p", "namespace": api.namespace},
    }
    status = await api.post(f"{api.base}/pods/p/eviction", eviction, 429)
    assert status["reason"] == "TooManyRequests"
    assert status["details"]["causes"][0]["reason"] == "DisruptionBudget"
    await api.patch(f"{path}/b", {"spec": {"minAvailable": 0}})
    await api.comes(f"{path}/b", lambda tree: tree["status"].get("disruptionsAllowed") == 1)
    await api.post(f"{api.base}/pods/p/eviction", eviction)
    await api.gone(f"{api.base}/pods/p")


# ---- pods ----


async def test_the_lifecycle_of_pods_and_pod_status(api, pod):
    path = f"{api.base}/pods"
    rv = (await api.get(path))["metadata"]["resourceVersion"]
    async with api.watch(path, labelSelector="life=1", resourceVersion=rv) as watch:
        await api.post(path, pod("p", labels={"life": "1"}))
        assert (await watch())[0] == "ADDED"
        await api.comes(f"{path}/p", lambda tree: tree["status"]["phase"] == "Running")
        await api.patch(f"{path}/p", {"metadata": {"labels": {"patched": "yes"}}})
        condition = {"type": "x.io/Ready", "status": "True"}
        patched = await api.patch(
            f"{path}/p/status", {"status": {"conditions": [condition]}}, kind="strategic-merge-patch+json"
        )
        assert {"x.io/Ready", "Ready"} <= {c["type"] for c in patched["status"]["conditions"]}
        shown = await api.get(f"{path}/p/status")
        assert shown["status"]["qosClass"] == "BestEffort"
        await api.delete(f"{path}/p", {"gracePeriodSeconds": 1})
        while (await watch())[0] != "DELETED":
            pass
    await api.gone(f"{path}/p")


async def test_what_of_a_pod_may_be_updated(api, pod):
    path = f"{api.base}/pods"
    await api.post(path, pod("p", activeDeadlineSeconds=30, schedulingGates=[{"name": "x.io/wait"}]))
    changed = await api.patch(f"{path}/p", {"spec": {"activeDeadlineSeconds": 5}})
    assert changed["spec"]["activeDeadlineSeconds"] == 5
    status = await api.patch(f"{path}/p", {"spec": {"activeDeadlineSeconds": 50}}, 422)
    assert "must be less than or equal to previous value" in status["message"]
    status = await api.patch(f"{path}/p", {"spec": {"terminationGracePeriodSeconds": 5}}, 422)
    assert "pod updates may not change fields other than" in status["message"]
    await api.delete(f"{path}/p", {"gracePeriodSeconds": 0})


async def test_delete_a_collection_of_pods(api, pod):
    path = f"{api.base}/pods"
    for number in range(3):
        await api.post(
            path, pod(f"p{number}", labels={"kind": "test"}, schedulingGates=[{"name": "x.io/wait"}])
        )
    await api.delete(f"{path}?labelSelector=kind=test&gracePeriodSeconds=0")

    async def empty():
        return await api.items(path) == []

    await api.until(empty)


async def test_unsafe_sysctls_are_refused(api, pod):
    made = pod(
        "p", securityContext={"sysctls": [{"name": "foo-", "value": "bar"}, {"name": "bar..", "value": "42"}]}
    )
    status = await api.post(f"{api.base}/pods", made, 422)
    fields = {cause["field"] for cause in status["details"]["causes"]}
    assert fields == {"spec.securityContext.sysctls[0].name", "spec.securityContext.sysctls[1].name"}


async def test_runtime_classes(api, pod, unique):
    path = "/apis/node.k8s.io/v1/runtimeclasses"
    status = await api.post(f"{api.base}/pods", pod("p", runtimeClassName="nonexistent"), 403)
    assert 'RuntimeClass "nonexistent" not found' in status["message"]
    await api.post(
        path,
        {
            "metadata": {"name": unique},
            "handler": "crun",
            "overhead": {"podFixed": {"cpu": "10m", "memory": "1Mi"}},
        },
    )
    made = await api.post(f"{api.base}/pods", pod("p", runtimeClassName=unique))
    assert made["spec"]["overhead"] == {"cpu": "10m", "memory": "1Mi"}
    status = await api.patch(f"{path}/{unique}", {"handler": "other"}, 422)
    assert "handler" in status["message"]
    await api.delete(f"{path}/{unique}")


# ---- volumes, priorities ----


async def test_the_lifecycle_of_a_volume_and_a_claim(api, unique):
    volumes, claims = "/api/v1/persistentvolumes", f"{api.base}/persistentvolumeclaims"
    spec = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}, "hostPath": {"path": "/x"},
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": unique}  # fmt: skip
    made = await api.post(volumes, {"metadata": {"name": unique, "labels": {"e2e": unique}}, "spec": spec})
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pv-protection"]
    wanted = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": unique,
        "resources": {"requests": {"storage": "1Gi"}},
    }
    made = await api.post(claims, {"metadata": {"name": "c", "labels": {"e2e": unique}}, "spec": wanted})
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    await api.comes(f"{claims}/c", lambda tree: tree["status"]["phase"] == "Bound")
    volume = await api.comes(f"{volumes}/{unique}", lambda tree: tree["status"]["phase"] == "Bound")
    assert volume["spec"]["claimRef"]["name"] == "c"
    patched = await api.patch(
        f"{claims}/c/status", {"status": {"conditions": [{"type": "e2e", "status": "True"}]}}
    )
    assert patched["status"]["conditions"][0]["type"] == "e2e"
    status = await api.patch(f"{claims}/c", {"spec": {"resources": {"requests": {"storage": "3Gi"}}}}, 403)
    assert "must support resize" in status["message"]
    await api.delete(f"{claims}?labelSelector=e2e={unique}")
    await api.gone(f"{claims}/c")
    await api.comes(f"{volumes}/{unique}", lambda tree: tree["status"]["phase"] == "Released")
    await api.delete(f"{volumes}?labelSelector=e2e={unique}")
    await api.gone(f"{volumes}/{unique}")


async def test_priority_class_endpoints_can_be_operated_with_different_methods(api, unique):
    path = "/apis/scheduling.k8s.io/v1/priorityclasses"
    await api.post(path, {"metadata": {"name": unique}, "value": 1})
    await api.patch(f"{path}/{unique}", {"metadata": {"labels": {"a": "b"}}})
    await api.update(f"{path}/{unique}", lambda tree: tree.update(description="d"))
    status = await api.patch(f"{path}/{unique}", {"value": 2}, 422)
    assert "value: Forbidden: may not be changed in an update." in status["message"]
    status = await api.patch(f"{path}/{unique}", {"preemptionPolicy": "Never"}, 422)
    assert "preemptionPolicy: Invalid value" in status["message"]
    await api.delete(f"{path}/{unique}")
