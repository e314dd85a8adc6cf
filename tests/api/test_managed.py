"""Field ownership and apply: set algebra by laws, the KEP's rules as properties, examples in its words."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekube.api import managed
from edgekube.api.managed import Manager, sets
from edgekube.api.managed.extract import compare, fields_of

SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {"type": "object", "properties": {
            "replicas": {"type": "integer"}, "image": {"type": "string"},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                      "items": {"type": "object", "properties": {"name": {"type": "string"}, "a": {"type": "string"}, "b": {"type": "string"}}}},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "args": {"type": "array", "items": {"type": "string"}},
            "nested": {"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "string"}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        }},
    },
}  # fmt: skip
SHAPE = managed.of_schema(SCHEMA)
ME, YOU = Manager(managed.APPLY, "me"), Manager(managed.APPLY, "you")
EDITOR = Manager(managed.UPDATE, "editor", "v1")
TEXT = st.sampled_from(["p", "q", "r"])


def unique_items(keys):
    item = st.fixed_dictionaries({"name": keys}, optional={"a": TEXT, "b": TEXT})
    return st.lists(item, max_size=3, unique_by=lambda one: one["name"])


SPEC = st.fixed_dictionaries({}, optional={
    "replicas": st.integers(0, 2), "image": TEXT, "labels": st.dictionaries(TEXT, TEXT, min_size=1, max_size=3),
    "items": unique_items(TEXT).filter(bool), "tags": st.lists(TEXT, unique=True, min_size=1), "args": st.lists(TEXT, min_size=1, max_size=2),
    "nested": st.fixed_dictionaries({}, optional={"x": TEXT, "y": TEXT}).filter(bool),
    "free": st.dictionaries(TEXT, TEXT, min_size=1, max_size=2),
})  # fmt: skip
OBJECT = SPEC.map(lambda spec: {"spec": spec} if spec else {})
FIELDS = OBJECT.map(lambda tree: fields_of(tree, SHAPE))


def flat(fields):
    return set(sets.paths(fields))


@given(FIELDS, FIELDS)
def test_sets_are_sets(left, right):
    a, b = flat(left), flat(right)
    assert flat(sets.union(left, right)) == a | b
    assert flat(sets.difference(left, right)) == a - b
    assert flat(sets.intersection(left, right)) == a & b


@given(OBJECT, OBJECT)
def test_comparing_tells_what_differs(old, new):
    change = compare(old, new, SHAPE)
    assert bool(change) == (normal(old) != normal(new))
    gone, here = flat(fields_of(old, SHAPE)), flat(fields_of(new, SHAPE))
    assert flat(change.removed) >= gone - here
    assert flat(change.changed) >= here - gone
    assert not flat(change.removed) & here


def normal(value):
    """Lists with keys say nothing by their order."""
    if isinstance(value, dict):
        return {
            k: sorted(map(repr, map(normal, v))) if k in {"items", "tags"} else normal(v)
            for k, v in value.items()
        }
    return value


def apply(managers, live, config, who=ME, *, force=True, now="t"):
    found = managed.applied(managers, live, config, shape=SHAPE, who=who, version="v1", now=now, force=force)
    return found.tree, found.managers


@settings(max_examples=300)
@given(OBJECT, OBJECT)
def test_what_is_applied_is_there_and_is_mine(live, config):
    before = (copy.deepcopy(live), copy.deepcopy(config))
    tree, owners = apply({}, live, config)
    assert (live, config) == before
    assert flat(fields_of(config, SHAPE)) == (flat(owners[ME].fields) if ME in owners else set())
    # Applying again changes nothing, and everything wished for holds.
    assert apply(owners, tree, config, now="later") == (tree, owners)
    assert not flat(compare(tree, apply({}, tree, config)[0], SHAPE).changed)


@settings(max_examples=300)
@given(OBJECT, OBJECT, OBJECT)
def test_what_i_apply_no_longer_goes_unless_somebody_else_owns_it(first, second, theirs):
    tree, owners = apply({}, {}, first)
    tree, owners = apply(owners, tree, theirs, YOU)
    tree, owners = apply(owners, tree, second)
    here, yours = flat(fields_of(tree, SHAPE)), flat(owners[YOU].fields) if YOU in owners else set()
    assert here == flat(fields_of(second, SHAPE)) | yours
    assert flat(sets.union(*(owners[w].fields if w in owners else {} for w in (ME, YOU)))) == here


@settings(max_examples=300)
@given(OBJECT, OBJECT)
def test_conflicts_are_about_other_values_only(mine, theirs):
    tree, owners = apply({}, {}, mine)
    try:
        merged, after = apply(owners, tree, theirs, YOU, force=False)
    except managed.Conflicts as error:
        taken = {conflict.path for conflict in error.found}
        assert taken <= flat(owners[ME].fields) & flat(fields_of(theirs, SHAPE))
        forced, after = apply(owners, tree, theirs, YOU)
        assert not flat(compare(forced, apply({}, forced, theirs)[0], SHAPE).changed)
        assert not taken & flat(after[ME].fields if ME in after else {})
        assert taken <= flat(after[YOU].fields)
        return
    # Nothing of mine changed, and it is still mine.
    assert not flat(compare(tree, merged, SHAPE).changed) & flat(
        owners.get(ME).fields if ME in owners else {}
    )
    assert after.get(ME) == owners.get(ME)


@settings(max_examples=300)
@given(OBJECT, OBJECT)
def test_an_ordinary_write_takes_what_it_changes(mine, wished):
    tree, owners = apply({}, {}, mine)
    after = managed.updated(owners, tree, wished, shape=SHAPE, who=EDITOR, now="t2")
    change = compare(tree, wished, SHAPE)
    editors = flat(after[EDITOR].fields) if EDITOR in after else set()
    assert editors == flat(change.changed)
    left = flat(after[ME].fields) if ME in after else set()
    assert left == (flat(owners[ME].fields) if ME in owners else set()) - flat(change.changed) - flat(
        change.removed
    )
    assert managed.decode(managed.encode(after)) == after


def test_an_object_from_before_anybody_kept_track():
    live = {"metadata": {"uid": "u"}, "spec": {"replicas": 1, "image": "p"}}
    shape = managed.of_schema(
        {**SCHEMA, "properties": {**SCHEMA["properties"], "metadata": {"type": "object"}}}
    )
    with pytest.raises(managed.Conflicts) as error:
        managed.applied(
            {}, live, {"spec": {"replicas": 2}}, shape=shape, who=ME, version="v1", now="t", force=False
        )
    assert [managed.text(one.path) for one in error.value.found] == [".spec.replicas"]
    found = managed.applied(
        {}, live, {"spec": {"replicas": 1}}, shape=shape, who=ME, version="v1", now="t", force=False
    )
    assert {who.name for who in found.managers} == {"me", "before-first-apply"}


def test_only_so_many_updaters_are_remembered():
    tree, owners = {"spec": {}}, {}
    for number in range(30):
        new = {"spec": {"labels": {**tree["spec"].get("labels", {}), f"l{number:02}": "x"}}}
        who = Manager(managed.UPDATE, f"w{number:02}", "v1")
        owners = managed.updated(
            owners, tree, new, shape=SHAPE, who=who, now=f"2026-01-01T00:00:{number:02}Z"
        )
        tree = new
    assert len(owners) == 10
    ancient = next(owned for who, owned in owners.items() if who.name == "ancient-changes")
    assert len(flat(ancient.fields)) >= 20


def test_unknown_fields_cannot_be_applied():
    with pytest.raises(managed.Untyped, match=r"\.spec\.colour: field not declared in schema"):
        apply({}, {}, {"spec": {"colour": "red"}})


def test_new_items_come_where_the_configuration_has_them():
    live = {"spec": {"items": [{"name": "p"}, {"name": "r"}]}}
    tree, _ = apply({}, live, {"spec": {"items": [{"name": "q"}, {"name": "r", "a": "p"}]}})
    assert tree["spec"]["items"] == [{"name": "p"}, {"name": "q"}, {"name": "r", "a": "p"}]


def test_paths_as_people_read_them():
    path = ("f:spec", "f:ports", 'k:{"containerPort":80,"protocol":"TCP"}', "f:name")
    assert managed.text(path) == '.spec.ports[containerPort=80,protocol="TCP"].name'
    assert managed.text(("f:tags", 'v:"x"')) == '.tags[="x"]'


@pytest.mark.parametrize("spoil", [
    {"fieldsV1": {"f:data": 5}}, {"fieldsV1": {"data": {}}}, {"apiVersion": ""}, {"fieldsType": "FieldsV2"}, {"operation": "Take"},
])  # fmt: skip
def test_entries_that_say_nothing(spoil):
    entry = {
        "manager": "m",
        "operation": "Update",
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {},
    }
    assert managed.decode([entry])
    with pytest.raises(managed.BadEntries):
        managed.decode([{**entry, **spoil}])
