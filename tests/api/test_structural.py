"""Structural schemas by properties, and patterns as RE2 reads them."""

from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekube.api import structural
from edgekube.api.structural.validating import matches
from edgekube.api.validation.problems import Problems

names = st.sampled_from(["a", "b", "c", "d", "metadata", "kind"])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(-2, 2), st.text("ab\n", max_size=3)
)
values = st.recursive(
    scalars, lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(names, v, max_size=4)), max_leaves=12
)  # fmt: skip
leaf = st.one_of(
    st.fixed_dictionaries({"type": st.just("string")}, optional={"default": st.text("ab", max_size=2), "nullable": st.booleans(), "maxLength": st.integers(0, 3)}),
    st.fixed_dictionaries({"type": st.just("integer")}, optional={"default": st.integers(-3, 3), "minimum": st.integers(-2, 0)}),
    st.just({"x-kubernetes-int-or-string": True}),
    st.just({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
    st.just({"type": "object", "x-kubernetes-embedded-resource": True}),
)  # fmt: skip


def struct(inner):
    more = {
        "x-kubernetes-preserve-unknown-fields": st.just(True),
        "nullable": st.booleans(),
        "default": st.just({}),
    }
    fields = st.dictionaries(names, inner, max_size=4)
    return st.fixed_dictionaries({"type": st.just("object"), "properties": fields}, optional=more)


schemas = st.recursive(leaf, lambda s: st.one_of(
    struct(s), st.builds(lambda i: {"type": "array", "items": i}, s),
    st.builds(lambda i: {"type": "object", "additionalProperties": i}, s),
), max_leaves=8)  # fmt: skip
roots, trees = struct(schemas), st.dictionaries(names, values, max_size=5)


def verdict(value, schema):
    problems = Problems()
    structural.validate(value, schema, "spec", problems)
    return problems.causes


@settings(max_examples=200)
@given(trees, roots)
def test_pruning_twice_prunes_nothing_more(tree, schema):
    structural.prune(tree, schema)
    once = deepcopy(tree)
    assert structural.prune(tree, schema) == []
    assert tree == once


@settings(max_examples=200)
@given(trees, roots)
def test_defaulting_twice_changes_nothing_more(tree, schema):
    structural.fill(tree, schema)
    once = deepcopy(tree)
    structural.fill(tree, schema)
    assert tree == once


@settings(max_examples=200)
@given(trees, roots)
def test_what_is_pruned_was_never_judged(tree, schema):
    before = len(verdict(tree, schema))
    structural.prune(tree, schema)
    assert len(verdict(tree, schema)) == before


@pytest.mark.parametrize(("pattern", "text", "fits"), [
    ("^a$", "a\n", False), ("^[[:alpha:]]+$", "a", True), ("x(?i)a", "xA", True), (r"^\pL$", "é", True), (r"^\d$", "٣", False),
    (r"^[\d_]+$", "1_2", True), (r"^\D+$", "ab", True), (r"\w", "é", False), (r"^\s$", " ", True), ("b", "abc", True), (r"^\.$", ".", True),
    (r"a\z", "a", True),
])  # fmt: skip
def test_patterns_are_read_as_re2_reads_them(pattern, text, fits):
    assert matches(text, pattern) == fits


def test_a_pattern_cannot_stop_the_server():
    # Takes for ever where engines backtrack; the test's own time limit would end it.
    assert not matches("a" * 4000 + "!", "^(a+)+$")


def test_numbers():
    assert verdict(float("inf"), {"type": "number", "multipleOf": 0.1})
    assert not verdict(1.0, {"type": "number", "enum": [1]})
    assert not verdict(0.3, {"type": "number", "multipleOf": 0.1})


def test_embedded_objects_keep_what_makes_them_objects():
    tree = {"t": {"apiVersion": "v1", "kind": "X", "metadata": {"name": "a"}, "zap": 1}}
    schema = {
        "type": "object",
        "properties": {"t": {"type": "object", "x-kubernetes-embedded-resource": True}},
    }
    assert structural.prune(tree, schema) == ["t.zap"]
