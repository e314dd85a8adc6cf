"""PodDisruptionBudgets: the plan as tables, and the status through the whole control plane."""

import msgspec
import pytest

from edgekube.api.kinds import policy_v1 as policy
from edgekube.api.resource import Key
from edgekube.api.types import meta_v1, policy_v1
from edgekube.control.clock import stamp
from edgekube.controllers.disruption.plan import Goal, goal, plan, unknown

NOW = 1000.0


def budget(make, status=None, **spec):
    selector = meta_v1.LabelSelector(match_labels={"app": "web"})
    return policy_v1.PodDisruptionBudget(
        metadata=make.meta("b"),
        spec=policy_v1.PodDisruptionBudgetSpec(selector=selector, **spec),
        status=status or policy_v1.PodDisruptionBudgetStatus(),
    )


@pytest.mark.parametrize(
    ("spec", "expected", "desired"),
    [
        ({"min_available": 2}, 4, 2),
        ({"min_available": "50%"}, 5, 3),
        ({"max_unavailable": 1}, 5, 4),
        ({"max_unavailable": "30%"}, 5, 3),
        ({"max_unavailable": 9}, 5, 0),
        ({}, 0, 0),
    ],
)
def test_goals(spec, expected, desired):
    found = goal(policy_v1.PodDisruptionBudgetSpec(**spec), pods=4, scale=5)
    assert found == Goal(expected, desired)


def test_evicted_pods_are_not_healthy_until_they_are_late(make):
    pods = [make.pod(f"p{n}", ready=1.0) for n in range(4)]
    disrupted = {"p0": stamp(NOW - 10), "p1": stamp(NOW - 500), "gone": stamp(NOW - 10)}
    old = policy_v1.PodDisruptionBudgetStatus(disrupted_pods=disrupted)
    found = plan(budget(make, old, min_available=2), pods, Goal(4, 2), now=NOW)
    assert found.status.current_healthy == 3
    assert found.status.disruptions_allowed == 1
    assert found.status.disrupted_pods == {"p0": stamp(NOW - 10)}
    assert [pod.metadata.name for pod in found.late] == ["p1"]
    assert found.again == 110.0
    (condition,) = found.status.conditions
    assert (condition.type, condition.status, condition.reason) == (
        "DisruptionAllowed", "True", "SufficientPods",
    )  # fmt: skip


def test_too_few_pods_allow_nothing_and_the_transition_time_stays(make):
    pods = [make.pod("a", ready=1.0), make.pod("b")]
    first = plan(budget(make, min_available=2), pods, Goal(2, 2), now=NOW).status
    assert (first.current_healthy, first.disruptions_allowed) == (1, 0)
    again = plan(budget(make, first, min_available=2), pods, Goal(2, 2), now=NOW + 50).status
    assert again == first


def test_when_nothing_is_known_nobody_goes(make):
    old = policy_v1.PodDisruptionBudgetStatus(disruptions_allowed=3, current_healthy=4)
    found = unknown(budget(make, old), "why", now=NOW)
    assert (found.disruptions_allowed, found.current_healthy) == (0, 4)
    assert (found.conditions[0].reason, found.conditions[0].message) == ("SyncFailed", "why")


async def test_a_budget_over_a_deployment(world):
    await world.node("n1")
    meta = meta_v1.ObjectMeta(name="b", namespace="default")
    selector = meta_v1.LabelSelector(match_labels={"app": "web"})
    spec = policy_v1.PodDisruptionBudgetSpec(selector=selector, max_unavailable=1)
    await world.client.create(
        policy.POD_DISRUPTION_BUDGETS, policy_v1.PodDisruptionBudget(metadata=meta, spec=spec)
    )
    await world.deploy(replicas=3)
    await world.rolled_out()

    async def check():
        status = (await world.client.get(policy.POD_DISRUPTION_BUDGETS, Key("default", "b"))).status
        return (status.expected_pods, status.desired_healthy, status.current_healthy) == (3, 2, 3) and status

    status = await world.eventually(check)
    assert status.disruptions_allowed == 1
    before = len(await world.quiet())
    reader = world.informers.of(policy.POD_DISRUPTION_BUDGETS)
    for obj in reader:
        reader._tell(obj, msgspec.structs.replace(obj))
    assert len(await world.quiet()) == before
