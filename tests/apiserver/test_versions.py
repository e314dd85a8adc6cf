"""One object in two API versions: what one writes, the other reads."""

import pytest

from edgekube.api.conversion import convert

EVENTS, OLD = "/apis/events.k8s.io/v1/namespaces/default/events", "/api/v1/namespaces/default/events"
V2 = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
V1 = V2.replace("v2", "v1")


def happened(name="e1"):
    return {
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "action": "Binding", "reason": "Scheduled", "type": "Normal",
        "note": "assigned", "reportingController": "example.com/s", "reportingInstance": "s-1",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
    }  # fmt: skip


async def test_events_in_both_groups(api):
    made = await api.post(EVENTS, happened())
    assert (made["apiVersion"], made["note"]) == ("events.k8s.io/v1", "assigned")
    old = await api.get(f"{OLD}/e1")
    assert (old["message"], old["involvedObject"]["name"], old["reportingComponent"]) == (
        "assigned",
        "p",
        "example.com/s",
    )
    assert "note" not in old
    changed = await api.patch(
        f"{EVENTS}/e1", {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}}
    )
    assert changed["series"]["count"] == 2
    await api.patch(f"{OLD}/e1", {"count": 5})
    listed = await api.get(EVENTS)
    assert listed["kind"] == "EventList"
    assert listed["items"][0]["deprecatedCount"] == 5
    status = await api.post(f"{EVENTS}?fieldValidation=Strict", {**happened("e2"), "message": "x"}, 400)
    assert 'unknown field "message"' in status["message"]


async def test_a_watch_of_the_newer_group(api):
    events = await api.watch(
        f"{EVENTS}?watch=true&timeoutSeconds=5&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    )
    await api.post(OLD, {
        "metadata": {"name": "e", "namespace": "default"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "message": "hello", "reason": "R", "type": "Normal",
    })  # fmt: skip
    async for batch in events:
        added = [event.raw for event in batch if event.type == "ADDED"]
        if added:
            assert b'"note":"hello"' in added[0]
            assert b'"apiVersion":"events.k8s.io/v1"' in added[0]
            break
    await events.aclose()


async def test_autoscalers_in_both_versions(api):
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    made = await api.post(V1, {
        "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
        "spec": {"scaleTargetRef": target, "maxReplicas": 5, "targetCPUUtilizationPercentage": 60},
    })  # fmt: skip
    assert made["spec"]["targetCPUUtilizationPercentage"] == 60
    newer = await api.get(f"{V2}/web")
    assert newer["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 60
    await api.patch(f"{V2}/web", {"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}}}})
    older = await api.get(f"{V1}/web")
    assert "behavior" not in older["spec"]
    older["spec"]["maxReplicas"] = 7
    await api.put(f"{V1}/web", older)
    newer = await api.get(f"{V2}/web")
    assert newer["spec"]["maxReplicas"] == 7
    assert newer["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 5
    groups = await api.get("/apis/autoscaling")
    assert groups["preferredVersion"]["version"] == "v2"


@pytest.mark.parametrize(("tree", "other"), [
    (happened(), "v1"),
    ({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "x", "annotations": {"a": "b"}},
      "spec": {"maxReplicas": 3, "behavior": {"scaleUp": {"selectPolicy": "Min"}}, "metrics": [
          {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 9}}},
          {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}}]},
      "status": {"currentReplicas": 1, "desiredReplicas": 2, "conditions": [{"type": "AbleToScale", "status": "True"}],
                 "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 3}}}]}},
     "autoscaling/v1"),
])  # fmt: skip
def test_there_and_back_again(tree, other):
    assert convert(convert(tree, other), tree["apiVersion"]) == tree


def test_annotations_somebody_wrote_by_hand_are_no_trouble():
    tree = {
        "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "spec": {},
        "metadata": {"annotations": {"autoscaling.alpha.kubernetes.io/metrics": "{"}},
    }  # fmt: skip
    assert convert(tree, "autoscaling/v2")["spec"] == {}
