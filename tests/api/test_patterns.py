"""Patterns that clients write: none may keep the server busy."""

import builtins
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.cel import patterns
from edgekube.api.cel.functions import FUNCTIONS
from edgekube.api.cel.program import CelError, compile_expression
from edgekube.api.structural.validating import matches

EVIL = ["(a+)+$", "(a|a)*b", "(a|aa)+$", "(.*a){30}$", "(a?){40}a{40}$", "a*a*a*a*a*a*a*b", "(x+x+)+y"]
TEXT = "a" * 20_000 + "!"
ENGINES = [patterns.found, lambda text, pattern: patterns.bounded(pattern)(text)]


@pytest.mark.parametrize("pattern", EVIL)
def test_none_takes_long(pattern):
    """Each of them would outlast the test's time limit by ages in an engine that goes back."""
    assert not matches(TEXT, pattern) or "{40}" in pattern
    assert FUNCTIONS["find"](TEXT, pattern) == "" or "{40}" in pattern
    assert len(FUNCTIONS["findAll"](TEXT, pattern)) <= 1


@pytest.mark.parametrize("pattern", EVIL)
def test_nor_without_the_library(pattern):
    with pytest.raises(ValueError, match="too long"):
        list(patterns.bounded(pattern)(TEXT))


@pytest.mark.parametrize("expression", ["t.matches(p)", "t.find(p) == ''", "t.findAll(p).size() == 0"])
@pytest.mark.parametrize("pattern", EVIL[:4])
def test_nor_in_cel(expression, pattern):
    program = compile_expression(expression)
    assert program.holds({"t": TEXT, "p": pattern}) is ("matches" not in expression)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("text", "pattern", "found"), [
    ("abc 123", "[0-9]+", ["123"]), ("1 22 333", r"\d+", ["1", "22", "333"]), ("none", "[0-9]", []),
    ("aXbX", "(?i)x", ["X", "X"]), ("foobar", "foo|foobar", ["foo"]), ("äöü", ".", ["ä", "ö", "ü"]),
    ("٣", r"\d", []), ("a.b", r"\.", ["."]), ("abab", "(ab)+?", ["ab", "ab"]),
])  # fmt: skip
def test_what_is_found(engine, text, pattern, found):
    assert list(engine(text, pattern)) == found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("pattern", ["(", "a{2,1}", r"(a)\1", "(?=a)", "(?<!a)b", "[z-a]"])
def test_what_is_no_pattern(engine, pattern):
    with pytest.raises(ValueError, match=r".+"):
        engine("x", pattern)


def test_cel_says_so():
    with pytest.raises(CelError):
        compile_expression("'x'.find('(')").evaluate({})


@given(st.from_regex(r"(\(?[ab.]\)?[*+?]?\|?){1,6}", fullmatch=True), st.text("ab", max_size=12))
def test_both_engines_agree(pattern, text):
    try:
        expected = next(patterns.bounded(pattern)(text), None)
    except ValueError:
        return
    assert next(patterns.found(text, pattern), None) == expected


def test_the_library_is_loaded_only_when_something_is_sought(monkeypatch):
    real, asked = builtins.__import__, []
    monkeypatch.delitem(sys.modules, "re2", raising=False)

    def note(name, *more, **others):
        asked.append(name)
        return real(name, *more, **others)

    monkeypatch.setattr(builtins, "__import__", note)
    assert matches("abc", "^a")
    assert compile_expression("'a'.matches('a')").holds({})
    assert "re2" not in sys.modules
    assert "re2" not in asked


def test_boards_without_it_do_as_well(monkeypatch):
    monkeypatch.setitem(sys.modules, "re2", None)
    patterns._compiled.cache_clear()
    assert FUNCTIONS["findAll"]("a1b22", "[0-9]+") == ["1", "22"]
    with pytest.raises(ValueError, match="too long"):
        FUNCTIONS["find"](TEXT, "(a+)+$")
    patterns._compiled.cache_clear()
