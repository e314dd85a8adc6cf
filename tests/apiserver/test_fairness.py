"""Priority and fairness: who is served when one client asks for everything."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.errors import TooManyRequests
from edgekube.apiserver.authz import Access
from edgekube.apiserver.fairness import defaults
from edgekube.apiserver.fairness.gate import Gate
from edgekube.apiserver.fairness.queues import Level, Shape, hand
from edgekube.apiserver.fairness.schemas import priorities_of, schema_of
from edgekube.apiserver.identity import User

SHAPE = Shape(seats=4, queues=64, hand=6, length=50)
FLOWS = "/apis/flowcontrol.apiserver.k8s.io/v1"
PODS = Access(verb="list", plural="pods", namespace="a")


@given(st.text(), st.integers(1, 128), st.integers(1, 8))
def test_a_hand_has_distinct_queues_and_is_always_the_same(flow, queues, size):
    shape = Shape(1, queues, size, 1)
    drawn = hand(flow, shape)
    assert drawn == hand(flow, shape)
    assert len(set(drawn)) == len(drawn) == min(size, queues)
    assert all(0 <= index < queues for index in drawn)


def test_hands_are_spread():
    used = Counter(index for number in range(500) for index in hand(f"flow-{number}", SHAPE))
    assert len(used) == 64
    assert max(used.values()) < 3 * min(used.values())


def test_quiet_flows_are_served_at_once_beside_a_noisy_one():
    level = Level(SHAPE)
    for _ in range(4):
        assert level.try_start()
    accepted = sum(level.enqueue("noisy", "noisy") for _ in range(1000))
    assert accepted == 6 * 50, "its hand, and no more"
    quiet = [f"quiet-{number}" for number in range(10)]
    assert all(level.enqueue(flow, flow) for flow in quiet)
    served = [item for _ in range(40) for item in level.finished()]
    assert set(quiet) <= set(served), "the noisy one had 300 requests before them"


def test_two_greedy_flows_share_alike():
    level = Level(Shape(seats=1, queues=64, hand=1, length=200))
    level.try_start()
    for _ in range(100):
        level.enqueue("a", "a")
    for _ in range(100):
        level.enqueue("b", "b")
    served = Counter(item for _ in range(60) for item in level.finished())
    assert abs(served["a"] - served["b"]) <= 1


def test_no_seat_is_lost():
    level = Level(SHAPE)
    waiting = [object() for _ in range(20)]
    for _ in range(4):
        level.try_start()
    for item in waiting:
        level.enqueue("x", item)
    level.leave(waiting[3])
    done = []
    while level.running:
        done += level.finished()
    assert len(done) == 19
    assert waiting[3] not in done
    assert level.waiting == 0


def classify(user, access):
    schemas = sorted(map(schema_of, defaults.schemas()), key=lambda each: each.precedence)
    found = next(each for each in schemas if each.matches(user, access))
    return found.name, found.level, found.flow(user, access)


KNOWN = "system:authenticated"


@pytest.mark.parametrize(
    ("user", "access", "wanted"),
    [
        (User("a", ("system:masters", KNOWN)), PODS, ("exempt", "exempt", "")),
        (User("a", ("system:unauthenticated",)), Access(verb="get", path="/livez"), ("probes", "exempt", "")),
        (User("joe", (KNOWN,)), PODS, ("global-default", "global-default", "joe")),
        (User("joe", (KNOWN,)), Access(verb="get", path="/api"), ("global-default", "global-default", "joe")),
        (User("system:node:x", ("system:nodes", KNOWN)), PODS, ("system-nodes", "system", "system:node:x")),
        (
            User("system:node:x", ("system:nodes", KNOWN)), Access(verb="update", plural="nodes", subresource="status"),
            ("system-node-high", "node-high", "system:node:x"),
        ),
        (
            User("system:kube-scheduler", (KNOWN,)), Access(verb="get", group="coordination.k8s.io", plural="leases", namespace="kube-system"),
            ("system-leader-election", "leader-election", "system:kube-scheduler"),
        ),
        (User("system:kube-scheduler", (KNOWN,)), PODS, ("kube-scheduler", "workload-high", "a")),
        (
            User("system:serviceaccount:kube-system:x", ("system:serviceaccounts", KNOWN)), PODS,
            ("kube-system-service-accounts", "workload-high", "a"),
        ),
        (
            User("system:serviceaccount:a:x", ("system:serviceaccounts", KNOWN)), PODS,
            ("service-accounts", "workload-low", "system:serviceaccount:a:x"),
        ),
    ],
)  # fmt: skip
def test_whose_request_goes_where(user, access, wanted):
    assert classify(user, access) == wanted


def test_seats_are_divided_by_shares():
    found = {each.name: each.shape for each in priorities_of(list(defaults.levels()), 245)}
    assert found["exempt"] is None
    assert {name: shape.seats for name, shape in found.items() if shape} == {
        "system": 30, "node-high": 40, "leader-election": 10, "workload-high": 40, "workload-low": 100,
        "global-default": 20, "catch-all": 5,
    }  # fmt: skip
    assert found["catch-all"].queues == 0


async def test_objects_are_there_and_answers_name_them(api):
    schema = await api.get(f"{FLOWS}/flowschemas/global-default")
    level = await api.get(f"{FLOWS}/prioritylevelconfigurations/global-default")
    joe = User("joe", (KNOWN,))
    headers = dict((await api.send("GET", "/api", user=joe)).headers)
    assert headers["X-Kubernetes-PF-FlowSchema-UID"] == schema["metadata"]["uid"]
    assert headers["X-Kubernetes-PF-PriorityLevel-UID"] == level["metadata"]["uid"]


async def test_a_gate_lets_quiet_clients_pass(api):
    gate = Gate(api.server._caches, seats=13)  # One seat for the level of everybody.
    served = []

    async def ask(name):
        ticket = gate.ticket(User(name, (KNOWN,)), PODS)
        await gate.enter(ticket)
        served.append(name)
        gate.leave(ticket)

    async with asyncio.TaskGroup() as group:
        for _ in range(200):
            group.create_task(ask("noisy"))
        for number in range(5):
            group.create_task(ask(f"quiet-{number}"))
    assert len(served) == 205
    last = max(index for index, name in enumerate(served) if name.startswith("quiet"))
    assert last < 60, "and not behind all 200"


async def test_who_waits_too_long_is_told_to_come_again(api):
    gate = Gate(api.server._caches, seats=13, patience=0.01)
    ticket = gate.ticket(User("joe", (KNOWN,)), PODS)
    while ticket.level.try_start():
        pass
    with pytest.raises(TooManyRequests) as caught:
        await gate.enter(ticket)
    assert caught.value.retry_after == 1
    assert ticket.level.waiting == 0
    running = ticket.level.running
    gate.leave(ticket)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert ticket.level.running == running - 1


async def test_a_full_level_answers_429(api):
    joe = User("joe", (KNOWN,))
    none = {
        "type": "Limited",
        "limited": {"nominalConcurrencyShares": 0, "limitResponse": {"type": "Reject"}},
    }
    await api.post(f"{FLOWS}/prioritylevelconfigurations", {"metadata": {"name": "none"}, "spec": none})
    subject = {"kind": "User", "user": {"name": "joe"}}
    everything = {
        "verbs": ["*"],
        "apiGroups": ["*"],
        "resources": ["*"],
        "clusterScope": True,
        "namespaces": ["*"],
    }
    rules = [{"subjects": [subject], "resourceRules": [everything]}]
    spec = {"matchingPrecedence": 50, "priorityLevelConfiguration": {"name": "none"}, "rules": rules}
    await api.post(f"{FLOWS}/flowschemas", {"metadata": {"name": "joe"}, "spec": spec})
    await api.get(f"{FLOWS}/flowschemas")
    response = await api.send("GET", "/api/v1/namespaces/default/pods", user=joe)
    assert response.code == 429
    assert dict(response.headers)["Retry-After"] == "1"
    assert b'"reason":"TooManyRequests"' in response.body
    assert (await api.send("GET", "/api", user=joe)).code == 200


async def test_metrics_tell_of_levels_and_of_who_was_refused(api):
    await api.get("/version")
    gate = api.server.handler.passages.gate
    gate._refused["catch-all", "concurrency-limit"] += 2
    text = (await api.send("GET", "/metrics")).body.decode()
    assert 'apiserver_flowcontrol_current_inqueue_requests{priority_level="workload-low"} 0' in text
    assert 'apiserver_flowcontrol_nominal_limit_seats{priority_level="workload-low"}' in text
    refused = "apiserver_flowcontrol_rejected_requests_total"
    assert f'{refused}{{priority_level="catch-all",reason="concurrency-limit"}} 2' in text
    assert 'authentication_attempts{result="failure"} 0' in text
