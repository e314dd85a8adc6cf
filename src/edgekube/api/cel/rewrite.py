"""
Expressions as the library can run them: object literals become maps, loops count their turns.

`Object.spec{replicas: 1}` is `{"replicas": 1}` (KEP-3962: the types only say what is meant), and
`list.all(x, p)` is `list.all(x, __turn__() && (p))`, which lets whoever runs it end it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

TURN = "__turn__"
ESCAPE_KEY = "jsonpatch_escapeKey"
LOOPS = frozenset({"all", "exists", "exists_one", "existsOne", "filter", "map"})
_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
    |(?P<text>(?:[rR][bB]?|[bB][rR]?)?(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''
        |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>\d[\w.]*)
    |(?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
_OPEN, _CLOSE = "([{", ")]}"


@dataclass(slots=True)
class _Token:
    kind: str
    text: str
    space: str


def rewritten(text: str) -> str:
    """Return an expression that means the same; one that cannot be read comes back as it is."""
    tokens: list[_Token] = []
    space = ""
    for match in _TOKEN.finditer(text):
        if match.lastgroup == "space":
            space = " "
            continue
        tokens.append(_Token(match.lastgroup or "mark", match.group(), space))
        space = ""
    _literals(tokens)
    _keys(tokens)
    _loops(tokens)
    return "".join(token.space + token.text for token in tokens)


def has_loops(text: str) -> bool:
    """Whether an expression that was rewritten counts anything."""
    return TURN in text


def has_literals(text: str) -> bool:
    """Whether an expression may make objects or patches, which the library does not know."""
    return "Object" in text or "JSONPatch" in text or "jsonpatch" in text


def _literals(tokens: list[_Token]) -> None:
    """Make map literals of objects and patches."""
    stack: list[bool] = []
    for index, token in enumerate(tokens):
        if token.kind == "mark" and token.text in _OPEN:
            stack.append(token.text == "{" and _untyped(tokens, index))
        elif token.kind == "mark" and token.text in _CLOSE and stack:
            stack.pop()
        elif token.kind == "name" and stack and stack[-1] and _is_field(tokens, index):
            token.text = f'"{_unescaped(token.text)}"'


def _untyped(tokens: list[_Token], index: int) -> bool:
    """Take away the type before a brace; whether there was one."""
    start = index
    while start > 0 and (tokens[start - 1].kind == "name" or tokens[start - 1].text == "."):
        start -= 1
    path = [token.text for token in tokens[start:index]]
    if not path or path[0] not in {"Object", "JSONPatch"}:
        return False
    for token in tokens[start:index]:
        token.text = ""
    return True


def _is_field(tokens: Sequence[_Token], index: int) -> bool:
    follows = index + 1 < len(tokens) and tokens[index + 1].text == ":"
    return follows and tokens[index - 1].text in {"{", ","}


_ESCAPES = {"__dot__": ".", "__dash__": "-", "__slash__": "/", "__underscores__": "__"}


def _unescaped(name: str) -> str:
    for escaped, plain in _ESCAPES.items():
        name = name.replace(escaped, plain)
    return name.removeprefix("__").removesuffix("__") if name.startswith("__") else name


def _keys(tokens: list[_Token]) -> None:
    for index in range(len(tokens) - 2):
        if [token.text for token in tokens[index : index + 3]] == ["jsonpatch", ".", "escapeKey"]:
            tokens[index].text, tokens[index + 1].text, tokens[index + 2].text = "", "", ESCAPE_KEY


def _loops(tokens: list[_Token]) -> None:
    marks = [token.text if token.kind == "mark" else "" for token in tokens]
    for index in range(1, len(tokens) - 3):
        name, _, variable, comma = tokens[index : index + 4]
        is_loop = marks[index - 1] == "." and name.text in LOOPS and marks[index + 1] == "("
        if not is_loop or variable.kind != "name" or marks[index + 3] != ",":
            continue
        second, end = _end_of(marks, index + 4, ",)"), _end_of(marks, index + 4, ")")
        if end == len(tokens):
            continue
        if name.text == "map" and second == end:
            comma.text += f"{TURN}(),"
        else:
            comma.text += f"{TURN}() && ("
            tokens[second].text = ")" + tokens[second].text


def _end_of(marks: Sequence[str], start: int, ends: str) -> int:
    """Return where the first of `ends` is that belongs to the call whose argument begins at `start`."""
    depth = 0
    for index in range(start, len(marks)):
        mark = marks[index]
        if not depth and mark and mark in ends:
            return index
        if mark and mark in _OPEN:
            depth += 1
        elif mark and mark in _CLOSE:
            depth -= 1
    return len(marks)
