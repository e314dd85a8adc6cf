"""Ownership: what may be deleted, and never more."""

from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import meta_v1
from edgekube.controllers.garbage.graph import FOREGROUND, ORPHAN, Decision, Graph, Item, Owner, decide

GONE = "2026-01-01T00:00:00Z"


def item(uid, *owners, block=True, **fields):
    references = tuple(
        meta_v1.OwnerReference(
            api_version="v1", kind="ConfigMap", name=owner, uid=owner, block_owner_deletion=block
        )
        for owner in owners
    )
    return Item(
        core.CONFIG_MAPS,
        Key("default", uid),
        meta_v1.ObjectMeta(name=uid, uid=uid, owner_references=references, **fields),
    )


owners = st.dictionaries(st.sampled_from("abcde"), st.sampled_from(list(Owner)))


@given(
    owners=owners,
    has_dependents=st.booleans(),
    finalizers=st.sets(st.sampled_from([FOREGROUND, ORPHAN, "x"])),
)
def test_nothing_with_a_live_owner_is_deleted(owners, has_dependents, finalizers):
    decided = decide(item("it", *owners, finalizers=tuple(finalizers)), owners, has_dependents=has_dependents)
    solid = {uid for uid, state in owners.items() if state is Owner.SOLID}
    if solid or not owners:
        assert decided.propagation == ""
        assert decided.drop.isdisjoint(solid)
    else:
        assert decided.propagation


def test_dead_owners_are_forgotten_while_a_live_one_is_left():
    decided = decide(item("it", "a", "b"), {"a": Owner.SOLID, "b": Owner.GONE}, has_dependents=False)
    assert decided == Decision(drop=frozenset({"b"}))


def test_foreground_goes_down_the_tree():
    assert decide(item("it", "a"), {"a": Owner.WAITING}, has_dependents=True).propagation == "Foreground"
    assert decide(item("it", "a"), {"a": Owner.WAITING}, has_dependents=False).propagation == "Background"


def test_an_object_being_deleted_is_left_alone():
    assert (
        decide(item("it", "a", deletion_timestamp=GONE), {"a": Owner.GONE}, has_dependents=False)
        == Decision()
    )


links = st.lists(
    st.tuples(st.sampled_from(["set", "drop"]), st.sampled_from("abc"), st.sets(st.sampled_from("abcd")))
)


@given(links)
def test_the_graph_knows_the_dependents_after_any_history(script):
    graph, model = Graph(), {}
    for step, uid, owners in script:
        if step == "set":
            graph.set(item(uid, *owners))
            model[uid] = owners
        else:
            graph.drop(uid)
            model.pop(uid, None)
    for owner in "abcd":
        assert {i.uid for i in graph.dependents(owner)} == {
            uid for uid, owners in model.items() if owner in owners
        }


def test_only_blocking_dependents_hold_up():
    graph = Graph()
    graph.set(item("x", "a"))
    graph.set(item("y", "a", block=False))
    assert [i.uid for i in graph.blocking("a")] == ["x"]
