"""Workloads as the API server fills, refuses and shows them."""

import msgspec
import pytest

from edgekube.api.scheme import Scheme

LABELS = {"app": "a"}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": "localhost/x:1"}]}}
ONCE = {"spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}
SELECTED = {"selector": {"matchLabels": LABELS}, "template": TEMPLATE}
KINDS = {
    ("apps/v1", "ReplicaSet"): SELECTED,
    ("apps/v1", "Deployment"): SELECTED,
    ("apps/v1", "StatefulSet"): {**SELECTED, "serviceName": "a"},
    ("apps/v1", "DaemonSet"): SELECTED,
    ("v1", "ReplicationController"): {"template": TEMPLATE},
    ("batch/v1", "Job"): {"template": ONCE},
    ("batch/v1", "CronJob"): {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": ONCE}}},
    ("autoscaling/v2", "HorizontalPodAutoscaler"): {
        "maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"},
    },
    ("policy/v1", "PodDisruptionBudget"): {"maxUnavailable": "50%", "selector": {}},
    ("v1", "ResourceQuota"): {"hard": {"pods": "4"}},
    ("v1", "LimitRange"): {"limits": [{"type": "Container", "max": {"cpu": "1"}}]},
}  # fmt: skip
WIDE = "application/json;as=Table;v=v1;g=meta.k8s.io"
JOBS = "/apis/batch/v1/namespaces/default/jobs"


def row_of(kind):
    return Scheme().by_kind(*kind)


def made(kind, name="a", **more):
    api_version, word = kind
    return {
        "apiVersion": api_version,
        "kind": word,
        "metadata": {"name": name},
        "spec": {**KINDS[kind], **more},
    }


async def shown(api, kind):
    table = msgspec.json.decode((await api.send("GET", row_of(kind).path("default", "a"), accept=WIDE)).body)
    names = [c["name"] for c in table["columnDefinitions"]]
    (row,) = table["rows"]
    return dict(zip(names, row["cells"], strict=True))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[1])
async def test_what_is_made_can_be_read_and_changes_nothing_twice(api, kind):
    path = row_of(kind).path("default")
    first = await api.post(path, made(kind))
    msgspec.convert(first, row_of(kind).type)
    again = await api.put(f"{path}/a", first)
    assert again == first
    assert len(await shown(api, kind)) >= 2


async def test_a_job_gets_its_selector(api):
    job = await api.post(JOBS, made(("batch/v1", "Job")))
    uid = job["metadata"]["uid"]
    assert job["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert job["spec"]["template"]["metadata"]["labels"] == {
        "batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": "a", "controller-uid": uid,
        "job-name": "a",
    }  # fmt: skip
    filled = {
        "completions": 1, "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": False,
        "manualSelector": False, "podReplacementPolicy": "TerminatingOrFailed",
    }  # fmt: skip
    assert {name: job["spec"][name] for name in filled} == filled


async def test_a_job_may_choose_for_itself(api):
    own = {
        "manualSelector": True,
        "selector": {"matchLabels": LABELS},
        "template": {**ONCE, "metadata": {"labels": LABELS}},
    }
    job = await api.post(JOBS, made(("batch/v1", "Job"), **own))
    assert job["spec"]["selector"] == {"matchLabels": LABELS}
    assert job["metadata"]["labels"] == LABELS
    wrong = {"template": {**ONCE, "metadata": {"labels": {"job-name": "b"}}}}
    refused = await api.post(JOBS, made(("batch/v1", "Job"), "b2", **wrong), code=422)
    assert [c["field"] for c in refused["details"]["causes"]] == ["spec.template.metadata.labels[job-name]"]


@pytest.mark.parametrize(("change", "field"), [
    ({"completions": 4}, "spec.completions"),
    ({"template": {"spec": {"restartPolicy": "OnFailure"}}}, "spec.template"),
    ({"completionMode": "Indexed"}, "spec.completionMode"),
    ({"selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "x"}}}, "spec.selector"),
    ({"parallelism": -1}, "spec.parallelism"),
])  # fmt: skip
async def test_what_may_not_change_in_a_job(api, change, field):
    await api.post(JOBS, made(("batch/v1", "Job")))
    refused = await api.patch(f"{JOBS}/a", {"spec": change}, code=422)
    assert refused["details"]["causes"][0]["field"] == field


async def test_an_indexed_job_grows_with_its_parallelism(api):
    await api.post(JOBS, made(("batch/v1", "Job"), completionMode="Indexed", completions=2, parallelism=2))
    await api.patch(f"{JOBS}/a", {"spec": {"completions": 3}}, code=422)
    await api.patch(f"{JOBS}/a", {"spec": {"completions": 3, "parallelism": 3}})


async def test_a_suspended_job_may_be_placed_elsewhere(api):
    await api.post(JOBS, made(("batch/v1", "Job"), suspend=True))
    there = {"spec": {"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}}}
    await api.patch(f"{JOBS}/a", there)
    await api.patch(f"{JOBS}/a", {"spec": {"suspend": False}})
    await api.patch(f"{JOBS}/a", {"spec": {"template": {"spec": {"nodeSelector": {"disk": "sd"}}}}}, code=422)


@pytest.mark.parametrize(("kind", "spec", "field"), [
    (("batch/v1", "Job"), {"template": TEMPLATE}, "spec.template.spec.restartPolicy"),
    (("batch/v1", "Job"), {"completionMode": "Indexed", "completions": None, "parallelism": 2}, "spec.completions"),
    (("batch/v1", "Job"), {"backoffLimitPerIndex": 1}, "spec.backoffLimitPerIndex"),
    (("batch/v1", "Job"), {"successPolicy": {"rules": []}}, "spec.successPolicy"),
    (("batch/v1", "Job"), {"podFailurePolicy": {"rules": [{"action": "Ignore"}]}}, "spec.podFailurePolicy.rules[0]"),
    (("batch/v1", "CronJob"), {"schedule": "61 * * * *"}, "spec.schedule"),
    (("batch/v1", "CronJob"), {"schedule": "TZ=UTC 0 * * * *"}, "spec.schedule"),
    (("batch/v1", "CronJob"), {"timeZone": "Mars/Olympus"}, "spec.timeZone"),
    (("batch/v1", "CronJob"), {"timeZone": "Local"}, "spec.timeZone"),
    (("apps/v1", "StatefulSet"), {"podManagementPolicy": "Quick"}, "spec.podManagementPolicy"),
    (("apps/v1", "DaemonSet"), {"updateStrategy": {"type": "Slow"}}, "spec.updateStrategy.type"),
    (("v1", "ReplicationController"), {"selector": {"app": "b"}}, "spec.template.metadata.labels"),
    (("autoscaling/v2", "HorizontalPodAutoscaler"), {"maxReplicas": 0}, "spec.maxReplicas"),
    (("policy/v1", "PodDisruptionBudget"), {"minAvailable": 1}, "spec"),
    (("v1", "ResourceQuota"), {"hard": {"bananas": "1"}}, "spec.hard[bananas]"),
])  # fmt: skip
async def test_what_is_refused(api, kind, spec, field):
    body = made(kind, **spec)
    body["spec"] = {name: value for name, value in body["spec"].items() if value is not None}
    refused = await api.post(row_of(kind).path("default"), body, code=422)
    assert field in [cause["field"] for cause in refused["details"]["causes"]]


async def test_columns(api):
    await api.post(JOBS, made(("batch/v1", "Job"), completions=3, parallelism=2))
    job = await shown(api, ("batch/v1", "Job"))
    assert (job["Status"], job["Completions"], job["Duration"], job["Images"]) == (
        "Running",
        "0/3",
        "",
        "localhost/x:1",
    )
    started = {"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:30Z", "succeeded": 3}
    done = [{"type": "Complete", "status": "True"}]
    await api.patch(f"{JOBS}/a/status", {"status": {**started, "conditions": done}})
    job = await shown(api, ("batch/v1", "Job"))
    assert (job["Status"], job["Completions"], job["Duration"]) == ("Complete", "3/3", "90s")
    await api.post("/apis/batch/v1/namespaces/default/cronjobs", made(("batch/v1", "CronJob")))
    cron = await shown(api, ("batch/v1", "CronJob"))
    assert (cron["Suspend"], cron["Active"], cron["Last Schedule"], cron["Timezone"]) == (
        "False",
        0,
        "<none>",
        "<none>",
    )
    await api.post("/apis/apps/v1/namespaces/default/statefulsets", made(("apps/v1", "StatefulSet")))
    assert (await shown(api, ("apps/v1", "StatefulSet")))["Ready"] == "0/1"
    await api.post("/apis/apps/v1/namespaces/default/daemonsets", made(("apps/v1", "DaemonSet")))
    daemons = await shown(api, ("apps/v1", "DaemonSet"))
    assert list(daemons) == [
        "Name", "Desired", "Current", "Ready", "Up-to-date", "Available", "Node Selector", "Age", "Containers",
        "Images", "Selector",
    ]  # fmt: skip
    assert (daemons["Desired"], daemons["Node Selector"]) == (0, "<none>")


async def test_columns_of_limits(api):
    hpas = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
    await api.post(hpas, made(("autoscaling/v2", "HorizontalPodAutoscaler")))
    scaler = await shown(api, ("autoscaling/v2", "HorizontalPodAutoscaler"))
    assert (scaler["Reference"], scaler["Targets"]) == ("Deployment/a", "cpu: <unknown>/80%")
    current = {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12}}}
    await api.patch(f"{hpas}/a/status", {"status": {"desiredReplicas": 1, "currentMetrics": [current]}})
    assert (await shown(api, ("autoscaling/v2", "HorizontalPodAutoscaler")))["Targets"] == "cpu: 12%/80%"
    await api.post(
        "/apis/policy/v1/namespaces/default/poddisruptionbudgets", made(("policy/v1", "PodDisruptionBudget"))
    )
    budget = await shown(api, ("policy/v1", "PodDisruptionBudget"))
    assert (budget["Min Available"], budget["Max Unavailable"], budget["Allowed Disruptions"]) == (
        "N/A",
        "50%",
        0,
    )
    quotas = "/api/v1/namespaces/default/resourcequotas"
    await api.post(quotas, made(("v1", "ResourceQuota")))
    counted = {"hard": {"pods": "4", "limits.cpu": "2"}, "used": {"pods": "1"}}
    await api.patch(f"{quotas}/a/status", {"status": counted})
    quota = await shown(api, ("v1", "ResourceQuota"))
    assert (quota["Request"], quota["Limit"]) == ("pods: 1/4", "limits.cpu: 0/2")


async def test_pods_are_resized_in_place(api, pod, account):
    pods = "/api/v1/namespaces/default/pods"
    asked = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}
    await api.post(pods, pod("p", containers=[{"name": "c", "image": "x:1", "resources": asked}]))
    more = {"name": "c", "image": "y:2", "resources": {"requests": {"cpu": "200m"}}}
    wish = {"spec": {"containers": [more], "priority": 7}}
    changed = await api.patch(f"{pods}/p/resize", wish, kind="strategic-merge-patch+json")
    container = changed["spec"]["containers"][0]
    assert (container["image"], container["resources"]["requests"]["cpu"]) == ("x:1", "200m")
    assert changed["metadata"]["generation"] == 2
    for resources, why in (
        ({"limits": {"cpu": "200m"}, "requests": {"memory": "128Mi"}}, "QOS Class may not change"),
        ({"requests": {"cpu": None}}, "requests cannot be removed"),
        ({"requests": {"ephemeral-storage": "1Gi"}}, "only cpu and memory resources are mutable"),
    ):
        body = {"spec": {"containers": [{"name": "c", "resources": resources}]}}
        refused = await api.patch(f"{pods}/p/resize", body, code=422, kind="strategic-merge-patch+json")
        assert why in refused["message"]
    again = await api.patch(f"{pods}/p", wish, code=422, kind="strategic-merge-patch+json")
    assert "pod updates may not change fields" in again["message"]


async def test_workloads_are_found_by_their_counts(api):
    await api.post(JOBS, made(("batch/v1", "Job")))
    found = await api.get(f"{JOBS}?fieldSelector=status.successful=0")
    assert [item["metadata"]["name"] for item in found["items"]] == ["a"]
    sets = "/apis/apps/v1/namespaces/default/replicasets"
    await api.post(sets, made(("apps/v1", "ReplicaSet")))
    assert (await api.get(f"{sets}?fieldSelector=status.replicas=1"))["items"] == []
    assert len((await api.get(f"{sets}?fieldSelector=status.replicas=0"))["items"]) == 1


async def test_a_gated_pod_is_not_bound(api, pod, account):
    await api.post("/api/v1/namespaces/default/pods", pod("p", schedulingGates=[{"name": "g"}]))
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
    refused = await api.post("/api/v1/namespaces/default/pods/p/binding", binding, code=409)
    assert "non-empty .spec.schedulingGates" in refused["message"]
