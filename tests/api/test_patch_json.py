"""JSON patch and JSON merge patch."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.errors import BadRequest, Invalid, RequestEntityTooLarge
from edgekube.api.patch import json_patch, merge_patch

# RFC 6902, appendix A, and corners of RFC 6901.
APPLIES = [
    ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
    ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}], {"foo": ["bar", "qux", "baz"]}),
    ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}], {"foo": ["bar", ["abc", "def"]]}),
    ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/1", "value": 1}], {"foo": ["bar", 1]}),
    ({"foo": "bar"}, [{"op": "add", "path": "/foo", "value": None}], {"foo": None}),
    ({"foo": "bar"}, [{"op": "add", "path": "/child", "value": {"grandchild": {}}}], {"foo": "bar", "child": {"grandchild": {}}}),
    ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}], {"foo": "bar", "baz": "qux"}),
    ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
    ({"baz": "qux", "foo": "bar"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo", "foo": "bar"}),
    ({"foo": [1, 2]}, [{"op": "replace", "path": "/foo/1", "value": 3}], {"foo": [1, 3]}),
    ({"foo": 1}, [{"op": "replace", "path": "", "value": {"bar": 2}}], {"bar": 2}),
    (
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    ({"foo": ["all", "grass", "cows", "eat"]}, [{"op": "move", "from": "/foo/1", "path": "/foo/3"}], {"foo": ["all", "cows", "eat", "grass"]}),
    ({"foo": 1}, [{"op": "move", "from": "/foo", "path": "/foo"}], {"foo": 1}),
    ({"foo": {"a": 1}}, [{"op": "copy", "from": "/foo", "path": "/bar"}], {"foo": {"a": 1}, "bar": {"a": 1}}),
    ({"baz": "qux", "foo": ["a", 2, "c"]}, [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}], {"baz": "qux", "foo": ["a", 2, "c"]}),
    ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}, {"op": "test", "path": "/~1", "value": 9}], {"/": 9, "~1": 10}),
    ({"": 1}, [{"op": "test", "path": "/", "value": 1}], {"": 1}),
    ({"foo": 1}, [{"op": "test", "path": "/gone", "value": None}], {"foo": 1}),
    ({"foo": 1}, [{"op": "test", "path": "/foo", "value": 1.0}], {"foo": 1}),
    ({"foo": 1}, [], {"foo": 1}),
    # kubectl rollout undo
    (
        {"spec": {"template": {"a": 1}}, "metadata": {"annotations": {}}},
        [{"op": "replace", "path": "/spec/template", "value": {"b": 2}}, {"op": "replace", "path": "/metadata/annotations", "value": {"x": "y"}}],
        {"spec": {"template": {"b": 2}}, "metadata": {"annotations": {"x": "y"}}},
    ),
]  # fmt: skip

DOES_NOT_APPLY = [
    ({"foo": "bar"}, {"op": "add", "path": "/baz/bat", "value": "qux"}, "missing path: /baz/bat"),
    ({"baz": "qux"}, {"op": "test", "path": "/baz", "value": "bar"}, "testing value /baz failed"),
    ({"a": 1}, {"op": "test", "path": "/a", "value": True}, "test failed"),
    ({"a": 1}, {"op": "test", "path": "/a", "value": "1"}, "test failed"),
    ({"a": 1}, {"op": "remove", "path": "/b"}, "missing path: /b"),
    ({"a": 1}, {"op": "replace", "path": "/b", "value": 1}, "missing path: /b"),
    ({"a": [1]}, {"op": "add", "path": "/a/2", "value": 1}, "invalid index"),
    ({"a": [1]}, {"op": "replace", "path": "/a/1", "value": 1}, "invalid index"),
    ({"a": [1]}, {"op": "remove", "path": "/a/-"}, "invalid index"),
    ({"a": [1]}, {"op": "remove", "path": "/a/-1"}, "invalid index"),
    ({"a": [1, 2]}, {"op": "remove", "path": "/a/01"}, "invalid index"),
    ({"a": [1, 2]}, {"op": "remove", "path": "/a/²"}, "invalid index"),
    ({"a": 1}, {"op": "add", "path": "/a/b", "value": 1}, "missing path"),
    ({"a": 1}, {"op": "add", "path": "a", "value": 1}, "not a JSON pointer"),
    ({"a": 1}, {"op": "add", "path": "/b"}, "missing value"),
    ({"a": 1}, {"op": "add", "value": 1}, "not a JSON pointer"),
    ({"a": 1}, {"op": "frobnicate", "path": "/a"}, "Unexpected kind: frobnicate"),
    ({"a": 1}, {"path": "/a"}, "Unexpected kind"),
    ({"a": 1}, {"op": ["add"], "path": "/a"}, "Unexpected kind"),
    ({"a": {"b": 1}}, {"op": "move", "from": "/a", "path": "/a/b"}, "cannot move into itself"),
    ({"a": 1}, {"op": "copy", "from": "/b", "path": "/c"}, "missing path: /b"),
]  # fmt: skip


@pytest.mark.parametrize(("tree", "operations", "wanted"), APPLIES)
def test_json_patch(tree, operations, wanted):
    before = copy.deepcopy((tree, operations))
    assert json_patch(tree, operations) == wanted
    assert (tree, operations) == before


@pytest.mark.parametrize(("tree", "operation", "says"), DOES_NOT_APPLY)
def test_json_patch_that_does_not_apply(tree, operation, says):
    before = copy.deepcopy(tree)
    with pytest.raises(Invalid) as caught:
        json_patch(tree, [{"op": "add", "path": "/extra", "value": 1}, operation])
    (cause,) = caught.value.causes
    assert says in cause.message
    assert cause.reason == "UnexpectedServerResponse"
    assert tree == before


@pytest.mark.parametrize("patch", [None, {}, "x", [1], [[]], {"op": "add"}])
def test_what_is_no_json_patch(patch):
    with pytest.raises(BadRequest):
        json_patch({}, patch)


def test_too_many_operations():
    with pytest.raises(RequestEntityTooLarge):
        json_patch({}, [{"op": "test", "path": "/a", "value": None}] * 10_001)


def test_results_share_nothing():
    value, tree = {"x": [1]}, {"keep": {"y": [2]}}
    result = json_patch(
        tree, [{"op": "add", "path": "/new", "value": value}, {"op": "copy", "from": "/new", "path": "/twin"}]
    )
    result["new"]["x"].append(0)
    result["keep"]["y"].append(0)
    assert (value, tree) == ({"x": [1]}, {"keep": {"y": [2]}})
    assert result["twin"] == {"x": [1]}


# RFC 7386, appendix A.
MERGES = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("tree", "patch", "wanted"), MERGES)
def test_merge_patch(tree, patch, wanted):
    before = copy.deepcopy((tree, patch))
    assert merge_patch(tree, patch) == wanted
    assert (tree, patch) == before


TREES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc/~"), inner, max_size=3)
    ),
    max_leaves=12,
)


def without_nulls(tree):
    if isinstance(tree, dict):
        return {name: without_nulls(value) for name, value in tree.items() if value is not None}
    return tree


@given(TREES, TREES)
def test_merging_twice_is_merging_once(tree, patch):
    before = copy.deepcopy((tree, patch))
    once = merge_patch(tree, patch)
    assert merge_patch(once, patch) == once
    assert (tree, patch) == before


@given(TREES)
def test_merging_into_nothing_gives_the_patch_without_nulls(patch):
    assert merge_patch({}, patch) == without_nulls(patch)


def pointers(tree, path=""):
    yield path
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from pointers(value, f"{path}/{name.replace('~', '~0').replace('/', '~1')}")
    if isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from pointers(value, f"{path}/{index}")


@given(st.data(), TREES, TREES)
def test_what_is_put_at_a_pointer_is_found_there(data, tree, value):
    path = data.draw(st.sampled_from(list(pointers(tree))))
    before = copy.deepcopy(tree)
    replace, check = (
        {"op": "replace", "path": path, "value": value},
        {"op": "test", "path": path, "value": value},
    )
    once = json_patch(tree, [replace, check])
    assert json_patch(once, [check]) == once
    assert tree == before


@given(st.data(), st.dictionaries(st.sampled_from("ab/~"), TREES, min_size=1))
def test_remove_undoes_add(data, tree):
    path = data.draw(st.sampled_from(list(pointers(tree))[1:]))
    where = path.rpartition("/")[0] + "/new"
    parent_is_list = isinstance(
        json_patch(tree, [{"op": "copy", "from": path.rpartition("/")[0], "path": ""}]), list
    )
    if parent_is_list:
        where = path
    add = {"op": "add", "path": where, "value": 1}
    assert json_patch(tree, [add, {"op": "remove", "path": where}]) == tree


@pytest.mark.parametrize("patch", [merge_patch, json_patch])
def test_endless_nesting(patch):
    deep = {}
    for _ in range(5000):
        deep = {"a": deep}
    with pytest.raises(BadRequest):
        patch(deep, {"a": deep} if patch is merge_patch else [])
