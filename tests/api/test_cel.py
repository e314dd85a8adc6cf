"""CEL with Kubernetes' functions, and validation rules of schemas."""

import pytest

from edgekube.api.cel import Budget, CelError, CostExceeded, check_rules, compile_expression, compiled_rules
from edgekube.api.validation.problems import Problems


@pytest.mark.parametrize("text", [
    "'TacoCat'.lowerAscii() == 'tacocat'", "'a,b,c'.split(',') == ['a', 'b', 'c']", "['a', 'b'].join('-') == 'a-b'",
    "'a,b,c'.split(',', 2) == ['a', 'b,c']", "'hello'.substring(1, 3) == 'el'", "'hello'.charAt(4) == 'o'",
    "'hello mellow'.indexOf('ello', 2) == 7", "'hello mellow'.lastIndexOf('l') == 9", "' x '.trim() == 'x'",
    "'wello hello'.replace('he', 'we') == 'wello wello'", "'%s has %d of %.1f'.format(['x', 3, 1.25]) == 'x has 3 of 1.2'",
    "[1, 2, 3].sum() == 6", "[1, 3, 2].max() == 3", "!['b', 'a'].isSorted()", "[1, 2, 2].lastIndexOf(2) == 2",
    "'abc 123'.find('[0-9]+') == '123'", "'a1b22'.findAll('[0-9]+') == ['1', '22']",
    "quantity('1Gi').isGreaterThan(quantity('1G'))", "quantity('1500m').add(quantity('500m')).asInteger() == 2",
    "quantity('200M').compareTo(quantity('0.2G')) == 0", "!isQuantity('2x')", "quantity('1') == quantity('1000m')",
    "url('https://example.com:8080/a?b=c').getPort() == '8080'", "url('https://u@example.com/a').getHostname() == 'example.com'",
    "ip('127.0.0.1').isLoopback()", "ip('::1').family() == 6", "cidr('10.0.0.0/8').containsIP('10.1.2.3')",
    "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')", "!isCIDR('10.0.0.0')", "cidr('10.1.2.3/8').prefixLength() == 8",
    "self.items.all(i, i.size > 0) && self.items.exists_one(i, i.name == 'a')", "has(self.a) && !has(self.b)",
    "self.a in [1, 2] ? true : false", "duration('1h') > duration('59m')", "timestamp('2026-01-01T00:00:00Z').getFullYear() == 2026",
])  # fmt: skip
def test_what_holds(text):
    variables = {"self": {"a": 1, "items": [{"name": "a", "size": 1}, {"name": "b", "size": 2}]}}
    assert compile_expression(text).holds(variables)


@pytest.mark.parametrize(("text", "why"), [
    ("self.", "compilation failed"), ("", "expression is empty"), ("nonsense(1)", "undeclared reference to 'nonsense'"),
    ("'" + "x" * 20000 + "'", "longer than"),
])  # fmt: skip
def test_what_cannot_be_compiled(text, why):
    with pytest.raises(CelError, match=why):
        compile_expression(text)


@pytest.mark.parametrize(("text", "why"), [
    ("self.missing == 1", "no such key: missing"), ("1 / 0 == 1", "division by zero"), ("self.a", "must evaluate to a bool"),
    ("'a'.substring(3) == ''", "index out of range"),
])  # fmt: skip
def test_what_cannot_be_evaluated(text, why):
    with pytest.raises(CelError, match=why):
        compile_expression(text).holds({"self": {"a": 1}})


def schema(**spec):
    return {"type": "object", "properties": {"spec": {"type": "object", **spec}}}


def rule(text, **more):
    return [{"rule": text, **more}]


RULES = [
    (schema(properties={"a": {"type": "integer"}}, **{"x-kubernetes-validations": rule("self.a > 1", message="too few")}),
     {"spec": {"a": 1}}, None, [("spec", 'Invalid value: "object": too few')]),
    (schema(**{"x-kubernetes-validations": rule("self.a > 1", messageExpression="'got ' + string(self.a)", fieldPath=".a", reason="FieldValueForbidden")}, properties={"a": {"type": "integer"}}),
     {"spec": {"a": 1}}, None, [("spec.a", "Forbidden: got 1")]),
    (schema(properties={"a": {"type": "string", "x-kubernetes-validations": rule("self == oldSelf", message="fixed")}}),
     {"spec": {"a": "y"}}, {"spec": {"a": "x"}}, [("spec.a", 'Invalid value: "string": fixed')]),
    (schema(properties={"a": {"type": "string", "x-kubernetes-validations": rule("self == oldSelf")}}), {"spec": {"a": "y"}}, None, []),
    (schema(properties={"items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"], "items": {
        "type": "object", "properties": {"n": {"type": "string"}, "v": {"type": "integer"}}, "x-kubernetes-validations": rule("self.v >= oldSelf.v")}}}),
     {"spec": {"items": [{"n": "b", "v": 1}, {"n": "a", "v": 1}]}}, {"spec": {"items": [{"n": "a", "v": 2}]}},
     [("spec.items[1]", 'Invalid value: "object": failed rule: self.v >= oldSelf.v')]),
    (schema(properties={"when": {"type": "string", "format": "date-time"}}, **{"x-kubernetes-validations": rule("self.when < timestamp('2026-01-01T00:00:00Z')")}),
     {"spec": {"when": "2027-01-01T00:00:00Z"}}, None, [("spec", "Invalid value: \"object\": failed rule: self.when < timestamp('2026-01-01T00:00:00Z')")]),
    (schema(properties={"a-b": {"type": "number"}, "in": {"type": "string"}}, **{"x-kubernetes-validations": rule("self.a__dash__b > 1.5 && self.__in__ == 'x'")}),
     {"spec": {"a-b": 2, "in": "x"}}, None, []),
    (schema(additionalProperties={"type": "integer", "x-kubernetes-validations": rule("self > 0", message="positive")}),
     {"spec": {"k": 0}}, None, [("spec[k]", 'Invalid value: "integer": positive')]),
    (schema(**{"x-kubernetes-validations": rule("self.nothing == 1")}), {"spec": {}}, None,
     [("spec", 'Invalid value: "object": rule "self.nothing == 1" failed: no such key: nothing')]),
]  # fmt: skip


@pytest.mark.parametrize(("tree_schema", "new", "old", "expected"), RULES)
def test_rules(tree_schema, new, old, expected):
    problems = Problems()
    compiled_rules(tree_schema)(new, old, problems)
    assert [(cause.field, cause.message) for cause in problems.causes] == expected


def test_a_schema_without_rules_costs_nothing():
    assert compiled_rules(schema(properties={"a": {"type": "string"}})) is None


def test_rules_that_cannot_be_compiled_are_found_with_the_definition():
    problems = Problems()
    check_rules(
        schema(properties={"a": {"type": "string", "x-kubernetes-validations": rule("self.(")}}),
        "s",
        problems,
    )
    assert [cause.field for cause in problems.causes] == [
        "s.properties[spec].properties[a].x-kubernetes-validations[0].rule"
    ]


# ---- what takes too long ----

NESTED = "self.l.all(x, self.l.all(y, self.l.all(z, z >= 0)))"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("self.l.all(x, x >= 0 && x < 10)", True),
        ("self.l.exists(x, x == 3) && !self.l.exists(x, x == 30)", True),
        ("self.l.exists_one(x, x == 3)", True),
        ("self.l.map(x, x * 2) == [0, 2, 4, 6]", True),
        ("self.l.map(x, x > 1, x * 2) == [4, 6]", True),
        ("self.l.filter(x, x > 1 || x == 0).size() == 3", True),
        ("self.m.all(k, self.m[k].exists(v, v == k))", True),
        ("self.l.map(x, [x, x].map(y, y + 1)).all(p, p[0] == p[1])", True),
        ("['a,b)', \"c(\"].all(t, t.contains(',') || t == 'c(') // (", True),
        ("self.l.map(x, {'a': x}).all(o, o.a >= 0 ? true : false)", True),
    ],
)
def test_loops_mean_what_they_mean(text, expected):
    variables = {"self": {"l": [0, 1, 2, 3], "m": {"a": ["a"], "b": ["c", "b"]}}}
    program = compile_expression(text)
    assert program.text == text
    assert program.evaluate(variables) == expected


def test_what_takes_too_long_is_ended():
    variables = {"self": {"l": list(range(300))}}
    with pytest.raises(CostExceeded, match="actual cost limit exceeded"):
        compile_expression(NESTED).holds(variables, budget=Budget(10_000))
    budget = Budget(1000)
    assert compile_expression("self.l.all(x, x >= 0)").holds(variables, budget=budget)
    assert 600 < budget.turns < 1000
    with pytest.raises(CostExceeded):
        compile_expression("self.l.map(x, self.l.map(y, y)).size() > 0").holds(variables, budget=budget)
    with pytest.raises(CostExceeded, match="running out of cost budget"):
        compile_expression("true").holds({}, budget=budget)


def test_rules_that_take_too_long_are_told_and_end_the_others():
    schema = {"type": "object", "x-kubernetes-validations": [{"rule": NESTED}, {"rule": "false"}]}
    problems = Problems()
    compiled_rules(schema)({"l": list(range(300))}, None, problems)
    (cause,) = problems.causes
    assert (
        "no further validation rules will be run due to call cost exceeds limit for rule: " + NESTED
        in cause.message
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Object{spec: Object.spec{replicas: size('ab'), names: ['a']}}", {"spec": {"replicas": 2, "names": ["a"]}}),
        ("Object{metadata: Object.metadata{labels: {'a/b': 'c', \"d\": self}}}", {"metadata": {"labels": {"a/b": "c", "d": "x"}}}),
        ("[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c~'), value: Object.b{c: 1}}]",
         [{"op": "add", "path": "/a/b~1c~0", "value": {"c": 1}}]),
        ("self == 'x' ? [JSONPatch{op: 'remove', path: '/a'}] : []", [{"op": "remove", "path": "/a"}]),
        ("['a'].map(n, Object.item{name: n, x__dash__y: true})", [{"name": "a", "x-y": True}]),
    ],
)  # fmt: skip
def test_objects_and_patches_are_written_down(text, value):
    assert compile_expression(text).evaluate({"self": "x"}) == value
