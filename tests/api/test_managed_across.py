"""Owners in several versions of a kind: `size` of v1 is `dimensions.size` in v2, `colors` of v1 a map in v2."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api import managed
from edgekube.api.managed import DEDUCED, Manager, across

NAMES = ("size", "width", "depth")


async def to_v1(tree):
    if tree["apiVersion"] == "v1":
        return tree
    spec = dict(tree.get("spec") or {})
    spec |= spec.pop("dimensions", {})
    return {**tree, "apiVersion": "v1", "spec": spec}


async def to_v2(tree):
    if tree["apiVersion"] == "v2":
        return tree
    spec = dict(tree.get("spec") or {})
    sizes = {name: spec.pop(name) for name in NAMES if name in spec}
    return {**tree, "apiVersion": "v2", "spec": {**spec, **({"dimensions": sizes} if sizes else {})}}


FORMS = {"v1": across.Form(DEDUCED, to_v1), "v2": across.Form(DEDUCED, to_v2)}


def config(version, **sizes):
    tree = {"apiVersion": "v1", "kind": "Box", "metadata": {"name": "b"}, "spec": sizes}
    return asyncio.run(FORMS[version].convert(tree))


def apply(managers, live, wish, name, *, force=False, now="t"):
    """Apply `wish` to `live`, which is kept in v1; return both as kept."""
    version = wish["apiVersion"]

    async def run():
        shown = await FORMS[version].convert(live) if live else {}
        found = await across.applied(
            managers, shown, wish, forms=FORMS, who=managed.manager(managed.APPLY, name, version),
            version=version, now=now, force=force,
        )  # fmt: skip
        return found.managers, await to_v1(found.tree)

    return asyncio.run(run())


def owned(managers, name):
    return next((one for who, one in managers.items() if who.name == name), None)


@pytest.mark.parametrize(("first", "second"), [("v1", "v2"), ("v2", "v1"), ("v1", "v1"), ("v2", "v2")])
def test_what_is_applied_no_longer_goes_whatever_the_version(first, second):
    managers, live = apply({}, {}, config(first, size=1, width=2), "me")
    managers, live = apply(managers, live, config(second, size=1), "me")
    assert live["spec"] == {"size": 1}
    assert [one.api_version for one in managers.values()] == [second]
    wanted = {"f:size": {}} if second == "v1" else {"f:dimensions": {"f:size": {}}}
    assert (
        owned(managers, "me").fields["f:spec"] == wanted
        or owned(managers, "me").fields["f:spec"].keys() == wanted.keys()
    )


@pytest.mark.parametrize(("theirs", "mine"), [("v1", "v2"), ("v2", "v1")])
def test_conflicts_are_found_and_told_in_the_owner_s_version(theirs, mine):
    managers, live = apply({}, {}, config(theirs, size=1), "they")
    with pytest.raises(managed.Conflicts) as caught:
        apply(managers, live, config(mine, size=2), "me")
    path = ".spec.size" if theirs == "v1" else ".spec.dimensions.size"
    assert [managed.text(one.path) for one in caught.value.found] == [path]
    managers, live = apply(managers, live, config(mine, size=2), "me", force=True)
    assert live["spec"] == {"size": 2}
    assert "size" not in str(owned(managers, "they"))


@pytest.mark.parametrize(("theirs", "mine"), [("v1", "v2"), ("v2", "v1")])
def test_the_same_value_is_owned_by_both(theirs, mine):
    managers, live = apply({}, {}, config(theirs, size=1), "they")
    managers, live = apply(managers, live, config(mine, size=1, width=3), "me")
    managers, live = apply(managers, live, config(mine, width=3), "me")
    assert live["spec"] == {"size": 1, "width": 3}, "what they own stays"
    managers, live = apply(managers, live, config(theirs), "they")
    assert live["spec"] == {"width": 3}


@pytest.mark.parametrize(("theirs", "version"), [("v1", "v2"), ("v2", "v1")])
def test_an_ordinary_write_takes_what_it_changes_in_any_version(theirs, version):
    managers, live = apply({}, {}, config(theirs, size=1, width=2), "they")
    new = {**live, "spec": {"size": 5, "width": 2}}
    who = Manager(managed.UPDATE, "me", version)
    found = asyncio.run(across.updated(managers, live, new, forms=FORMS, who=who, now="u"))
    assert "size" not in str(owned(found, "they").fields)
    assert "width" in str(owned(found, "they").fields)
    assert owned(found, "they").api_version == theirs
    assert owned(found, "me").api_version == version
    inner = {"f:size": {}} if version == "v1" else {"f:dimensions": {"f:size": {}}}
    assert owned(found, "me").fields["f:spec"] == inner
    gone = {**live, "spec": {"size": 1}}
    found = asyncio.run(across.updated(managers, live, gone, forms=FORMS, who=who, now="u"))
    assert "width" not in str(owned(found, "they").fields)


def test_owners_of_a_version_there_is_no_more_are_forgotten():
    managers, live = apply({}, {}, config("v1", size=1), "they")
    stale = {who: managed.entries.Owned(one.fields, one.time, "v0") for who, one in managers.items()}
    found, live = apply(stale, live, config("v2", size=2), "me")
    assert (live["spec"], [who.name for who in found]) == ({"size": 2}, ["me"])


SIZES = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2))
STEPS = st.lists(st.tuples(st.sampled_from("ab"), SIZES, st.sampled_from(["v1", "v2"])), max_size=6)


@given(STEPS)
def test_versions_that_say_the_same_lead_to_the_same(steps):
    """Objects and owners are what they would be if everybody used one version."""
    managers, live, single, alone = {}, {}, {}, {}
    for name, sizes, version in steps:
        managers, live = apply(managers, live, config(version, **sizes), name, force=True)
        single, alone = apply(single, alone, config("v1", **sizes), name, force=True)
        assert (live.get("spec") or {}) == (alone.get("spec") or {})
        for who in "ab":
            leaves = [
                {part for part in NAMES if f"f:{part}" in str(found.fields)}
                if (found := owned(all_, who))
                else set()
                for all_ in (managers, single)
            ]
            assert leaves[0] == leaves[1]
