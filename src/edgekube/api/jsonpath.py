"""
The JSONPath of printer columns, scale paths and selectable fields (Kubernetes docs, "JSONPath Support").

Read are fields (`.spec.replicas`, `['a.b']`), indexes (`[0]`, `[-1]`), `[*]`, slices and filters
(`[?(@.type=="Ready")]`); the leading `$`, braces and dot may be left out.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from edgekube.lib.errors import EdgekubeError

Step = Callable[[Any], Iterator[Any]]
_TOKEN = re.compile(
    r"""\.\.|\.?(?P<name>(?:[A-Za-z_]|\\.)(?:[\w/-]|\\.)*|\*)|\.(?P<dotted>[^.\[\]]+)
    |\[\s*(?P<index>-?\d+)\s*\]|\[\s*(?P<slice>-?\d*:-?\d*)\s*\]|\[\s*\*\s*\]
    |\[\s*(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*\]
    |\[\s*\?\(\s*(?P<filter>.*?)\s*\)\s*\]""",
    re.VERBOSE,
)
_FILTER = re.compile(r"@(?P<path>\S*?)\s*(?:(?P<op>==|!=|<=|>=|<|>)\s*(?P<value>'[^']*'|\"[^\"]*\"|[^\s]+))?")
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b, ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b, ">=": lambda a, b: a >= b,
}  # fmt: skip


class JsonPathError(EdgekubeError, ValueError):
    """Not a path we read."""


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A parsed path."""

    text: str
    steps: tuple[Step, ...]

    def find(self, tree: Any) -> list[Any]:
        """Return every value the path leads to."""
        found = [tree]
        for step in self.steps:
            found = [value for node in found for value in step(node)]
        return found

    def first(self, tree: Any) -> Any:
        """Return the first value, None when there is none."""
        return next(iter(self.find(tree)), None)


def fields(text: str) -> tuple[str, ...] | None:
    """Return the fields of a path that has nothing but fields, e.g. `.spec.replicas`; None for any other."""
    simple = re.fullmatch(r"(\.[A-Za-z_][\w-]*|\['[^']+'\])+", text)
    if simple is None:
        return None
    return tuple(plain or quoted for plain, quoted in re.findall(r"\.([A-Za-z_][\w-]*)|\['([^']+)'\]", text))


@lru_cache(maxsize=256)
def parse(text: str) -> JsonPath:
    """Read a path; raises JsonPathError."""
    inner = text.strip()
    if inner.startswith("{") and inner.endswith("}"):
        inner = inner[1:-1].strip()
    inner = inner.removeprefix("$")
    steps: list[Step] = []
    at = 0
    while at < len(inner):
        match = _TOKEN.match(inner, at)
        if match is None or match.end() == at:
            if inner[at:] == ".":
                break
            raise JsonPathError(f"unrecognized character in {text!r} at {at}")
        steps.append(_step(match, text))
        at = match.end()
    return JsonPath(text, tuple(steps))


def _step(match: re.Match[str], text: str) -> Step:
    found = {name: value for name, value in match.groupdict().items() if value is not None}
    for kind, make in _STEPS.items():
        if kind in found:
            return make(found[kind], text)
    return _deep if match[0] == ".." else _every


def _field(name: str) -> Step:
    def step(node: Any) -> Iterator[Any]:
        if isinstance(node, dict) and name in node:
            yield node[name]

    return step


def _index(number: int) -> Step:
    def step(node: Any) -> Iterator[Any]:
        if isinstance(node, list) and -len(node) <= number < len(node):
            yield node[number]

    return step


def _slice(part: slice) -> Step:
    def step(node: Any) -> Iterator[Any]:
        if isinstance(node, list):
            yield from node[part]

    return step


def _every(node: Any) -> Iterator[Any]:
    if isinstance(node, list):
        yield from node
    elif isinstance(node, dict):
        yield from node.values()


def _deep(node: Any) -> Iterator[Any]:
    yield node
    for below in _every(node):
        yield from _deep(below)


def _filter(condition: str, text: str) -> Step:
    match = _FILTER.fullmatch(condition)
    if match is None:
        raise JsonPathError(f"unrecognized filter in {text!r}: {condition}")
    path = parse(match["path"])
    compare, wanted = _COMPARE.get(match["op"] or ""), _literal(match["value"] or "")

    def step(node: Any) -> Iterator[Any]:
        for item in _every(node):
            for value in path.find(item):
                if compare is None or _holds(compare, value, wanted):
                    yield item
                    break

    return step


def _holds(compare: Callable[[Any, Any], bool], value: Any, wanted: Any) -> bool:
    try:
        return compare(value, wanted)
    except TypeError:
        return False


def _slice_of(text: str) -> Step:
    low, _, high = text.partition(":")
    return _slice(slice(int(low) if low else None, int(high) if high else None))


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


_STEPS: Mapping[str, Callable[[str, str], Step]] = {
    "name": lambda found, _: _every if found == "*" else _field(_plain(found)),
    "dotted": lambda found, _: _field(found),
    "quoted": lambda found, _: _field(_plain(found[1:-1])),
    "index": lambda found, _: _index(int(found)),
    "slice": lambda found, _: _slice_of(found),
    "filter": _filter,
}


def _literal(text: str) -> Any:
    if text[:1] in {"'", '"'}:
        return text[1:-1]
    if text in {"true", "false"}:
        return text == "true"
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text
