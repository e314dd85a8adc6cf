"""Label and field selectors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.errors import BadRequest
from edgekube.api.selectors import (
    FieldMatcher,
    FieldTerm,
    LabelMatcher,
    Requirement,
    label_matcher,
    label_matcher_of,
    parse_fields,
    parse_labels,
)
from edgekube.api.types import meta_v1

LABELS = {"app": "web", "tier": "front", "example.com/zone": "a", "replicas": "3", "empty": ""}

MATCHING = [
    ("", True),
    ("  ", True),
    ("app=web", True),
    ("app==web", True),
    (" app = web , tier=front ", True),
    ("app=db", False),
    ("app=web,tier=back", False),
    ("app!=db", True),
    ("app!=web", False),
    ("missing!=x", True),
    ("missing=x", False),
    ("app in (web,db)", True),
    ("app in(web)", True),
    ("app in ( db , cache )", False),
    ("missing in (x)", False),
    ("app notin (db)", True),
    ("app notin (web,db)", False),
    ("missing notin (x)", True),
    ("app", True),
    ("missing", False),
    ("!missing", True),
    ("! missing", True),
    ("!app", False),
    ("example.com/zone=a", True),
    ("replicas>2", True),
    ("replicas > 3", False),
    ("replicas<4", True),
    ("app>2", False),
    ("missing>2", False),
    ("empty=", True),
    ("app=", False),
    ("app=,tier=front", False),
    ("empty in (,a)", True),
    ("empty in (a,)", True),
    ("empty in (,)", True),
    ("app in (,web)", True),
    ("in in (in,notin)", False),
    ("notin", False),
    ("app=web,", True),
]


@pytest.mark.parametrize(("text", "matches"), MATCHING)
def test_matching(text, matches):
    if text.endswith(","):
        with pytest.raises(BadRequest):
            parse_labels(text)
        return
    assert parse_labels(text).matches(LABELS) is matches


REFUSED = [
    ("app web", "unable to parse requirement: found 'web', expected: in, notin, =, ==, !=, gt, lt"),
    ("app=web tier", "found 'tier', expected: ',' or 'end of string'"),
    (",", "found ',', expected: !, identifier, or 'end of string'"),
    ("app,,tier", "found ',', expected: identifier after ','"),
    ("app,", "found '', expected: identifier after ','"),
    ("=web", "found '=', expected: !, identifier, or 'end of string'"),
    ("app=(", "unable to parse requirement: found '(', expected: identifier"),
    ("!", "unable to parse requirement: found '', expected: identifier"),
    ("app in web", "unable to parse requirement: found 'web' expected: '('"),
    ("app in (web", "unable to parse requirement: found '', expected: ',' or ')'"),
    ("app in (web db)", "unable to parse requirement: found 'db', expected: ',' or ')'"),
    ("app in ()", "for 'in', 'notin' operators, values set can't be empty"),
    ("app>-1", "a valid label must be"),
    ("app>x", "for 'Gt', 'Lt' operators, the value must be an integer"),
    ("app=a/b", "a valid label must be an empty string or consist of alphanumeric characters"),
    ("app='web'", "a valid label must be"),
    ("app=-web", "a valid label must be"),
    (f"app={'x' * 64}", "must be no more than 63 bytes"),
    ("-app", "name part must consist of alphanumeric characters"),
    ("a/b/c=1", "prefix part a lowercase RFC 1123 subdomain"),
    ("Example.com/zone", "prefix part"),
    ("/zone", "prefix part must be non-empty"),
    ("example.com/", "name part must be non-empty"),
    (f"{'x' * 64}", "name part must be no more than 63 bytes"),
    ("!app=web", "expected: ',' or 'end of string'"),
]


@pytest.mark.parametrize(("text", "says"), REFUSED)
def test_refused(text, says):
    with pytest.raises(BadRequest) as caught:
        parse_labels(text)
    assert says in caught.value.message


NAMES = st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,8}[A-Za-z0-9])?", fullmatch=True)
KEYS = st.one_of(NAMES, st.builds("{}/{}".format, st.sampled_from(["example.com", "a.b-c"]), NAMES))
VALUES = st.one_of(st.just(""), NAMES)
REQUIREMENTS = st.one_of(
    st.builds(lambda key, operator, value: Requirement(key, operator, (value,)), KEYS, st.sampled_from(["=", "!="]), VALUES),
    st.builds(
        lambda key, operator, values: Requirement(key, operator, tuple(sorted(values))),
        KEYS, st.sampled_from(["in", "notin"]), st.sets(VALUES, min_size=1, max_size=4),
    ),
    st.builds(Requirement, KEYS, st.sampled_from(["exists", "!"])),
    st.builds(lambda key, operator, value: Requirement(key, operator, (str(value),)), KEYS, st.sampled_from("<>"), st.integers(0, 10**12)),
)  # fmt: skip


@given(st.lists(REQUIREMENTS, max_size=4), st.dictionaries(KEYS, VALUES, max_size=4))
def test_canonical_text_means_the_same(requirements, labels):
    parsed = parse_labels(",".join(map(str, requirements)))
    assert parse_labels(str(parsed)) == parsed
    assert set(parsed.requirements) == set(requirements)
    assert parsed.matches(labels) == all(requirement.matches(labels) for requirement in requirements)


@given(st.text(alphabet="ab1=!<>(), \tin/.-", max_size=12))
def test_any_text_is_a_selector_or_a_bad_request(text):
    try:
        parsed = parse_labels(text)
    except BadRequest:
        return
    assert parse_labels(str(parsed)) == parsed


def test_canonical_text():
    assert (
        str(parse_labels("tier  notin (b,a,b),app==web , !gone, here,n>1"))
        == "app=web,!gone,here,n>1,tier notin (a,b)"
    )
    assert parse_labels("a=1,b=2") == parse_labels("b=2,a==1,a=1")
    assert parse_labels("").empty
    assert not parse_labels("a").empty


def expression(key, operator, *values):
    return meta_v1.LabelSelectorRequirement(key=key, operator=operator, values=values)


def test_label_selectors_of_objects():
    assert not label_matcher(None).matches({})
    assert not label_matcher(None).empty
    assert label_matcher(meta_v1.LabelSelector()).empty
    selector = meta_v1.LabelSelector(
        match_labels={"app": "web"},
        match_expressions=(
            expression("tier", "In", "front", "back"),
            expression("gone", "DoesNotExist"),
            expression("replicas", "Exists"),
            expression("zone", "NotIn", "b"),
        ),
    )
    matcher = label_matcher(selector)
    assert matcher.matches(LABELS)
    assert not matcher.matches({**LABELS, "gone": ""})
    assert not matcher.matches({**LABELS, "zone": "b"})
    assert str(matcher) == "app=web,!gone,replicas,tier in (back,front),zone notin (b)"


@pytest.mark.parametrize(
    "wrong", [expression("a", "Near", "b"), expression("a", "In"), expression("a", "Exists", "b")]
)
def test_wrong_label_selectors_of_objects(wrong):
    with pytest.raises(BadRequest):
        label_matcher(meta_v1.LabelSelector(match_expressions=(wrong,)))


def test_plain_maps():
    assert label_matcher_of({"app": "web", "tier": "front"}).matches(LABELS)
    assert not label_matcher_of({"app": "web", "tier": "back"}).matches(LABELS)
    assert label_matcher_of({}) == LabelMatcher()


FIELDS = {"metadata.name": "a", "spec.nodeName": "", "odd": "x,y=z\\"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("metadata.name=a", True),
        ("metadata.name==a", True),
        ("metadata.name!=a", False),
        ("metadata.name=a,spec.nodeName=", True),
        ("metadata.name=a,,", True),
        ("spec.nodeName!=", False),
        ("missing=", True),
        ("missing!=x", True),
        (r"odd=x\,y\=z\\", True),
        (r"odd!=x\,y", True),
    ],
)
def test_field_matching(text, matches):
    assert parse_fields(text).matches(FIELDS) is matches


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
        ("a=b=c", "unescaped character in value"),
        (r"a=\x", "invalid escape sequence"),
        ("a=b\\", "invalid escape sequence"),
    ],
)
def test_refused_fields(text, says):
    with pytest.raises(BadRequest) as caught:
        parse_fields(text)
    assert says in caught.value.message


def test_what_a_field_selector_asks_for():
    matcher = parse_fields("spec.nodeName=n1,status.phase!=Failed,metadata.name=x")
    assert matcher.keys == {"spec.nodeName", "status.phase", "metadata.name"}
    assert matcher.exact("spec.nodeName") == "n1"
    assert matcher.exact("status.phase") is None
    assert matcher.exact("other") is None
    assert str(matcher) == "metadata.name=x,spec.nodeName=n1,status.phase!=Failed"
    assert FieldMatcher().empty


@given(
    st.lists(
        st.builds(
            FieldTerm, st.from_regex("[a-z.]{1,8}", fullmatch=True), st.text(max_size=8), st.booleans()
        ),
        max_size=4,
    )
)
def test_canonical_field_text_means_the_same(terms):
    parsed = parse_fields(",".join(map(str, terms)))
    assert set(parsed.terms) == set(terms)
    assert parse_fields(str(parsed)) == parsed
