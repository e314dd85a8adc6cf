"""HorizontalPodAutoscaler: the arithmetic as tables and properties, and the loop against the real API server."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.kinds import apps_v1 as apps
from edgekube.api.kinds import autoscaling_v2 as autoscaling
from edgekube.api.kinds import core_v1 as core
from edgekube.api.kinds.metrics_v1beta1 import POD_METRICS
from edgekube.api.resource import Key
from edgekube.api.types import apps_v1, core_v1, meta_v1
from edgekube.api.types import autoscaling_v2 as v2
from edgekube.control.clock import stamp
from edgekube.controllers.autoscale.behavior import Moment, limited, rules_of, steady
from edgekube.controllers.autoscale.plan import Memory, Reading, plan, scaled
from edgekube.controllers.autoscale.samples import NoMetric, Sample, Target, propose

NOW = 100_000.0
METRIC = v2.MetricStatus(type="Resource")


def pod(make, name, *, ready=True, phase="Running", request="1000m", started=NOW - 3600, **meta):
    condition = core_v1.PodCondition(
        type="Ready", status=str(ready), last_transition_time=stamp(started + 10)
    )
    resources = core_v1.ResourceRequirements(requests={"cpu": request} if request else {})
    return core_v1.Pod(
        metadata=make.meta(name, **meta),
        spec=core_v1.PodSpec(containers=(core_v1.Container(name="c", resources=resources),)),
        status=core_v1.PodStatus(phase=phase, conditions=(condition,), start_time=stamp(started)),
    )


def sample(amount, ago=30.0):
    return Sample(NOW - ago, 15.0, {"c": amount})


# The rows are named after those in the Kubernetes replica calculator's own table of behaviours.
@pytest.mark.parametrize(("current", "percent", "usage", "states", "expected"), [
    (3, 30, [300, 500, 700], "RRR", 5),  # scale up
    (3, 30, [300, 500, 700], "URR", 4),  # one is not ready, its sample is left out: (500+700)/2
    (3, 30, [400, 500, 700], "UUR", 3),  # two are not ready: the rest does not tell enough
    (5, 50, [100, 300, 500, 250, 250], "RRRRR", 3),  # scale down
    (3, 100, [1010, 1030, 1020], "RRR", 3),  # near enough
    (4, 100, [1000, 1900], "RRMM", 4),  # missing samples count as idle when growing
    (4, 100, [400, 500], "RRMM", 3),  # and as fully loaded when shrinking
    (2, 100, [2000, 2000, 500], "RRF", 4),  # failed pods do not count
    (2, 100, [2000, 2000, 500], "RRD", 4),  # nor do those on their way out
    (3, 100, [2000, 2200], "RRP", 5),  # pending ones count as idle
])  # fmt: skip
def test_the_calculator(make, current, percent, usage, states, expected):
    pods, samples = [], {}
    for number, state in enumerate(states):
        name = f"p{number}"
        phase = {"P": "Pending", "F": "Failed"}.get(state, "Running")
        young = NOW - 60 if state == "U" else NOW - 3600
        deleted = {"deletion_timestamp": stamp(NOW)} if state == "D" else {}
        pods.append(pod(make, name, ready=state != "U", phase=phase, started=young, **deleted))
        if state not in "MP":
            samples[name] = sample(usage[number])
    target = Target(utilization=percent, resource="cpu")
    assert propose(pods, samples, target, current=current, now=NOW).replicas == expected


def test_what_cannot_be_computed(make):
    target = Target(utilization=50, resource="cpu")
    with pytest.raises(NoMetric, match="no pods"):
        propose([], {}, target, current=1, now=NOW)
    with pytest.raises(NoMetric, match="did not receive metrics"):
        propose([pod(make, "a")], {}, target, current=1, now=NOW)
    with pytest.raises(NoMetric, match="missing request for cpu in container c of Pod a"):
        propose([pod(make, "a", request="")], {"a": sample(5)}, target, current=1, now=NOW)


def test_amounts_instead_of_percents(make):
    pods = [pod(make, name, request="") for name in "ab"]
    found = propose(
        pods, {"a": sample(300), "b": sample(500)}, Target(average=100, resource="cpu"), current=2, now=NOW
    )
    assert (found.replicas, found.average, found.utilization) == (8, 400, None)


@given(
    usage=st.lists(st.integers(0, 4000), min_size=1, max_size=8), percent=st.integers(1, 200),
    missing=st.integers(0, 4),
)  # fmt: skip
def test_unknown_pods_never_turn_the_direction(make_any, usage, percent, missing):
    pods = [pod(make_any, f"p{n}") for n in range(len(usage) + missing)]
    samples = {f"p{n}": sample(amount) for n, amount in enumerate(usage)}
    found = propose(
        pods, samples, Target(utilization=percent, resource="cpu"), current=len(pods), now=NOW
    ).replicas
    ratio = sum(usage) / (10 * percent * len(usage))
    assert found >= len(pods) if ratio > 1 else found <= len(pods)


def rules(direction, *policies, select="Max", window=0):
    made = v2.HPAScalingRules(
        policies=tuple(v2.HPAScalingPolicy(type=t, value=v, period_seconds=p) for t, v, p in policies),
        select_policy=select, stabilization_window_seconds=window,
    )  # fmt: skip
    return rules_of(v2.HorizontalPodAutoscalerBehavior(**{direction: made}))


@pytest.mark.parametrize(("given_rules", "current", "wanted", "changes", "expected"), [
    (rules_of(None), 2, 50, [], (6, "ScaleUpLimit")),
    (rules_of(None), 10, 50, [], (20, "ScaleUpLimit")),
    (rules_of(None), 10, 50, [Moment(NOW - 5, 5)], (10, "ScaleUpLimit")),
    (rules_of(None), 10, 50, [Moment(NOW - 20, 5)], (20, "ScaleUpLimit")),
    (rules_of(None), 10, 1, [], (1, "")),
    (rules_of(None), 60, 100, [], (80, "TooManyReplicas")),
    (rules_of(None), 10, 0, [], (1, "TooFewReplicas")),
    (rules("scale_up", ("Pods", 2, 60)), 10, 50, [], (12, "ScaleUpLimit")),
    (rules("scale_up", ("Pods", 2, 60), ("Percent", 50, 60), select="Min"), 10, 50, [], (12, "ScaleUpLimit")),
    (rules("scale_up", ("Pods", 2, 60), select="Disabled"), 10, 50, [], (10, "ScaleUpLimit")),
    (rules("scale_down", ("Percent", 10, 60)), 10, 1, [], (9, "ScaleDownLimit")),
    (rules("scale_down", ("Pods", 4, 60)), 10, 1, [Moment(NOW - 30, -3)], (9, "ScaleDownLimit")),
    (rules("scale_down", ("Pods", 4, 60), ("Percent", 10, 60)), 10, 1, [], (6, "ScaleDownLimit")),
    (rules("scale_down", ("Pods", 4, 60), select="Disabled"), 10, 1, [], (10, "ScaleDownLimit")),
])  # fmt: skip
def test_the_pace(given_rules, current, wanted, changes, expected):
    found = limited(wanted, given_rules, changes, current=current, low=1, high=80, now=NOW)
    assert (found.pods, found.reason) == expected


def test_it_shrinks_only_to_the_most_that_was_advised_lately():
    advised = [Moment(NOW - 400, 9), Moment(NOW - 200, 6), Moment(NOW - 100, 3)]
    found = steady(2, rules_of(None), advised, current=8, now=NOW)
    assert (found.pods, found.reason) == (6, "ScaleDownStabilized")


def autoscaler(make, *, low=1, high=10, behavior=None):
    return v2.HorizontalPodAutoscaler(
        metadata=make.meta("web"),
        spec=v2.HorizontalPodAutoscalerSpec(
            scale_target_ref=v2.CrossVersionObjectReference(kind="Deployment", name="web", api_version="apps/v1"),
            min_replicas=low, max_replicas=high, behavior=behavior,
        ),
    )  # fmt: skip


GOOD, BAD = "cpu resource utilization (percentage of request)", NoMetric("no", "FailedGetResourceMetric")


@pytest.mark.parametrize(("current", "wishes", "desired", "conditions"), [
    (2, [4], 4, {"ScalingActive": "True", "ScalingLimited": "False"}),
    (2, [4, 3], 4, {"ScalingActive": "True"}),
    (2, [4, None], 4, {"ScalingActive": "True"}),
    (5, [2, None], 5, {"ScalingActive": "False"}),
    (5, [None], 5, {"ScalingActive": "False"}),
    (12, [3], 10, {}),
    (0, [3], 0, {"ScalingActive": "False"}),
    (9, [30], 10, {"ScalingLimited": "True"}),
])  # fmt: skip
def test_what_it_decides(make, current, wishes, desired, conditions):
    readings = [BAD if wish is None else Reading(wish, GOOD, METRIC) for wish in wishes]
    decided = plan(autoscaler(make), current, readings, Memory(), NOW)
    assert decided.desired == desired
    found = {c.type: c.status for c in decided.status.conditions}
    assert found.items() >= {"AbleToScale": "True", **conditions}.items()


def test_a_new_process_does_not_shrink_at_once(make):
    owner, memory = autoscaler(make), Memory()
    for elapsed in range(0, 300, 15):
        decided = plan(owner, 8, [Reading(2, GOOD, METRIC)], memory, NOW + elapsed)
        assert decided.desired == 8
        memory = decided.memory
    assert plan(owner, 8, [Reading(2, GOOD, METRIC)], memory, NOW + 300).desired == 2


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 60)), max_size=30), st.integers(1, 5), st.integers(5, 20)
)  # fmt: skip
def test_it_stays_within_bounds_and_pace(make_any, looks, low, high):
    owner, memory, current, now = autoscaler(make_any, low=low, high=high), Memory(), low, NOW
    for wish, elapsed in looks:
        now += elapsed
        decided = plan(owner, current, [Reading(wish, GOOD, METRIC)], memory, now)
        assert low <= decided.desired <= high
        assert decided.desired <= max(2 * current, current + 4)
        if decided.desired != current:
            decided = scaled(decided, current, now)
            current = decided.desired
        memory, owner = decided.memory, msgspec.structs.replace(owner, status=decided.status)
        kinds = [c.type for c in owner.status.conditions]
        assert len(kinds) == len(set(kinds))


async def test_the_loop_scales_a_deployment(world):
    await world.node("n1")
    resources = core_v1.ResourceRequirements(requests={"cpu": "100m"})
    labels = {"app": "hot"}
    container = core_v1.Container(name="web", image="web:1", resources=resources)
    template = core_v1.PodTemplateSpec(
        metadata=meta_v1.ObjectMeta(labels=labels), spec=core_v1.PodSpec(containers=(container,))
    )
    meta = meta_v1.ObjectMeta(name="hot", namespace="default")
    spec = apps_v1.DeploymentSpec(
        replicas=1, selector=meta_v1.LabelSelector(match_labels=labels), template=template
    )
    await world.client.create(apps.DEPLOYMENTS, apps_v1.Deployment(metadata=meta, spec=spec))
    await world.rolled_out("hot")
    (found,) = await world.list(core.PODS, namespace="default")
    started = {"startTime": "2026-01-01T00:00:00Z"}
    conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:10Z"}]
    patch = {"status": {**started, "conditions": conditions}}
    await world.client.patch(core.PODS, Key("default", found.metadata.name), patch, subresource="status")
    usage = [{"name": "web", "usage": {"cpu": "250m", "memory": "1Mi"}}]
    await world.client.create(POD_METRICS, {
        "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics", "timestamp": stamp(NOW), "window": "15s",
        "metadata": {"name": found.metadata.name, "namespace": "default"}, "containers": usage,
    })  # fmt: skip
    metric = v2.MetricSpec(
        type="Resource",
        resource=v2.ResourceMetricSource(name="cpu", target=v2.MetricTarget(type="Utilization", average_utilization=100)),
    )  # fmt: skip
    await world.client.create(
        autoscaling.HORIZONTAL_POD_AUTOSCALERS,
        v2.HorizontalPodAutoscaler(
            metadata=meta,
            spec=v2.HorizontalPodAutoscalerSpec(
                scale_target_ref=v2.CrossVersionObjectReference(kind="Deployment", name="hot", api_version="apps/v1"),
                min_replicas=1, max_replicas=5, metrics=(metric,),
            ),
        ),
    )  # fmt: skip

    async def grown():
        deployment = await world.client.get(apps.DEPLOYMENTS, Key("default", "hot"))
        return deployment.spec.replicas == 3

    await world.eventually(grown)

    async def told():
        owner = (await world.list(autoscaling.HORIZONTAL_POD_AUTOSCALERS, namespace="default"))[0]
        return owner.status if owner.status and owner.status.last_scale_time else None

    status = await world.eventually(told)
    assert status.current_metrics[0].resource.current.average_utilization == 250
    assert {c.type: c.status for c in status.conditions} == {
        "AbleToScale": "True", "ScalingActive": "True", "ScalingLimited": "False",
    }  # fmt: skip
