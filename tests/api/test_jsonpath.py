"""The JSONPath of printer columns."""

import pytest

from edgekube.api.jsonpath import JsonPathError, fields, parse

TREE = {
    "spec": {"replicas": 3, "a.b": 1, "list": [1, 2, 3]},
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
    "metadata": {"annotations": {"x.y/z": "v"}},
}


@pytest.mark.parametrize(("path", "found"), [
    (".spec.replicas", [3]), ("{.spec.replicas}", [3]), ("$.spec.replicas", [3]), (".spec['a.b']", [1]), (".spec.list[-1]", [3]),
    (".spec.list[1:]", [2, 3]), (".spec.list[*]", [1, 2, 3]), ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
    ('.status.conditions[?(@.type != "Ready")].type', ["Other"]), (".status.conditions[*].type", ["Ready", "Other"]),
    (".metadata.annotations.x\\.y/z", ["v"]), (".nothing.here", []), (".spec.list[9]", []), (".spec.list[?(@ > 1)]", [2, 3]),
])  # fmt: skip
def test_what_it_finds(path, found):
    assert parse(path).find(TREE) == found


@pytest.mark.parametrize("path", [".a[", ".a[?(b)]", ".a]b"])
def test_what_is_no_path(path):
    with pytest.raises(JsonPathError):
        parse(path)


def test_plain_fields():
    assert fields(".spec.replicas") == ("spec", "replicas")
    assert fields(".spec['a.b']") == ("spec", "a.b")
    assert fields(".spec.list[0]") is None
