"""Preemption: who goes for whom, as a table of cases and by properties."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.types import core_v1, meta_v1, policy_v1
from edgekube.control.clock import stamp
from edgekube.scheduler.decide import Placement, Unfit, decide
from edgekube.scheduler.infos import pod_info
from edgekube.scheduler.plugins import Plugins
from edgekube.scheduler.preempt import preempt, waits

PLUGINS = Plugins()


def started(pod, at):
    return msgspec.structs.replace(pod, status=msgspec.structs.replace(pod.status, start_time=stamp(at)))


def room(pod, cache, *budgets):
    why = decide(pod, cache.snapshot(), PLUGINS)
    assert isinstance(why, Unfit)
    return preempt(pod, cache.snapshot(), PLUGINS, candidates=why.candidates, budgets=budgets)


def names(found):
    return found and (found.node, sorted(victim.key.name for victim in found.victims))


def budget(allowed, **labels):
    return policy_v1.PodDisruptionBudget(
        metadata=meta_v1.ObjectMeta(name="b", namespace="default"),
        spec=policy_v1.PodDisruptionBudgetSpec(selector=meta_v1.LabelSelector(match_labels=labels)),
        status=policy_v1.PodDisruptionBudgetStatus(
            disruptions_allowed=allowed, current_healthy=1, desired_healthy=1, expected_pods=1
        ),
    )  # fmt: skip


def small(make, name, node, *, cpu="1", priority=0, at=1000.0, labels=None, **spec):
    pod = make.pod(name, node_name=node, requests={"cpu": cpu}, priority=priority, labels=labels, **spec)
    return started(pod, at)


def test_the_least_important_go_and_only_as_many_as_must(make):
    cache = make.cache(make.node("n1", cpu="4"), pods=[
        small(make, "a", "n1", priority=5), small(make, "b", "n1", priority=1), small(make, "c", "n1", priority=3),
        small(make, "d", "n1", priority=100),
    ])  # fmt: skip
    assert names(room(make.info(requests={"cpu": "2"}, priority=10), cache)) == ("n1", ["b", "c"])


def test_equals_and_betters_stay(make):
    cache = make.cache(make.node("n1", cpu="1"), pods=[small(make, "a", "n1", priority=10)])
    assert room(make.info(requests={"cpu": "1"}, priority=10), cache) is None


def test_of_equally_important_ones_the_younger_goes(make):
    cache = make.cache(
        make.node("n1", cpu="2"), pods=[small(make, "old", "n1", at=10.0), small(make, "new", "n1", at=20.0)]
    )
    assert names(room(make.info(requests={"cpu": "1"}, priority=1), cache)) == ("n1", ["new"])


def test_which_node_suffers(make):
    nodes = [make.node(name, cpu="2") for name in ("important", "many", "few", "young")]
    pods = [
        small(make, "i", "important", cpu="2", priority=9),
        small(make, "m1", "many", priority=1), small(make, "m2", "many", priority=1),
        small(make, "f", "few", cpu="2", priority=1, at=10.0),
        small(make, "y", "young", cpu="2", priority=1, at=20.0),
    ]  # fmt: skip
    wish = make.info(requests={"cpu": "2"}, priority=10)
    assert names(room(wish, make.cache(*nodes, pods=pods))) == ("young", ["y"])
    assert names(room(wish, make.cache(*nodes[:3], pods=pods[:4]))) == ("few", ["f"])
    assert names(room(wish, make.cache(*nodes[:2], pods=pods[:3]))) == ("many", ["m1", "m2"])


def test_a_budget_is_broken_only_when_nothing_else_helps(make):
    guarded = small(make, "guarded", "n1", priority=1, labels={"app": "db"})
    other = small(make, "other", "n1", priority=5)
    wish = make.info(requests={"cpu": "1"}, priority=10)
    cache = make.cache(make.node("n1", cpu="2"), pods=[guarded, other])
    assert names(room(wish, cache, budget(0, app="db"))) == ("n1", ["other"])
    assert names(room(wish, cache, budget(1, app="db"))) == ("n1", ["guarded"])
    alone = make.cache(make.node("n1", cpu="1"), pods=[guarded])
    found = room(wish, alone, budget(0, app="db"))
    assert (names(found), found.broken) == (("n1", ["guarded"]), 1)


def test_no_use_where_something_else_is_wrong(make):
    cache = make.cache(make.node("n1", cpu="1", unschedulable=True), pods=[small(make, "a", "n1")])
    why = decide(make.info(requests={"cpu": "1"}, priority=10), cache.snapshot(), PLUGINS)
    assert why.candidates == ()
    assert "Preemption is not helpful" in str(why)


def test_a_pod_goes_for_its_anti_affinity(make):
    term = core_v1.PodAffinityTerm(
        topology_key="kubernetes.io/hostname",
        label_selector=meta_v1.LabelSelector(match_labels={"app": "noisy"}),
    )
    apart = core_v1.Affinity(
        pod_anti_affinity=core_v1.PodAntiAffinity(required_during_scheduling_ignored_during_execution=(term,))
    )
    pods = [small(make, "noisy", "n1", labels={"app": "noisy"}), small(make, "calm", "n1")]
    cache = make.cache(make.node("n1"), pods=pods)
    assert names(room(make.info(priority=1, affinity=apart), cache)) == ("n1", ["noisy"])


def test_room_that_was_made_is_kept_for_whom_it_was_made(make):
    cache = make.cache(make.node("n1", cpu="1"))
    first = make.info("first", requests={"cpu": "1"}, priority=5)
    cache.nominate(first, "n1")
    assert isinstance(
        decide(make.info("low", requests={"cpu": "1"}, priority=1), cache.snapshot(), PLUGINS), Unfit
    )
    more = make.info("more", requests={"cpu": "1"}, priority=9)
    assert decide(more, cache.snapshot(), PLUGINS) == Placement("n1", 1)
    promised = msgspec.structs.replace(first.pod, status=core_v1.PodStatus(nominated_node_name="n1"))
    assert decide(pod_info(promised), cache.snapshot(), PLUGINS) == Placement("n1", 0)
    cache.nominate(first, "")
    assert cache.nominated("n1") == ()


def test_it_waits_for_those_already_on_their_way_out(make):
    victim = small(make, "v", "n1")
    leaving = msgspec.structs.replace(
        victim, metadata=msgspec.structs.replace(victim.metadata, deletion_timestamp=stamp(5.0))
    )
    pod = make.pod(priority=1)
    pod = pod_info(msgspec.structs.replace(pod, status=core_v1.PodStatus(nominated_node_name="n1")))
    assert waits(pod, make.cache(make.node("n1"), pods=[leaving]).snapshot())
    assert not waits(pod, make.cache(make.node("n1"), pods=[victim]).snapshot())


@given(
    crowd=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9)), max_size=8),
    cpu=st.integers(1, 6), priority=st.integers(0, 9),
)  # fmt: skip
def test_after_it_the_pod_fits_and_nobody_went_in_vain(make_any, crowd, cpu, priority):
    pods = [small(make_any, f"p{n}", "n1", cpu=str(c), priority=p) for n, (c, p) in enumerate(crowd)]
    cache = make_any.cache(make_any.node("n1", cpu="6"), pods=pods)
    wish = make_any.info("wish", requests={"cpu": str(cpu)}, priority=priority)
    why = decide(wish, cache.snapshot(), PLUGINS)
    if isinstance(why, Placement):
        return
    found = preempt(wish, cache.snapshot(), PLUGINS, candidates=why.candidates)
    held = sum(c for c, p in crowd if p >= priority)
    assert (found is None) == (held + cpu > 6)
    if found is None:
        return
    assert all(victim.priority < priority for victim in found.victims)
    for victim in found.victims:
        cache.drop_pod(victim.uid)
    assert decide(wish, cache.snapshot(), PLUGINS) == Placement("n1", 1)
    for victim in found.victims:
        cache.set_pod(victim.pod)
        assert isinstance(decide(wish, cache.snapshot(), PLUGINS), Unfit)
        cache.drop_pod(victim.uid)
