"""
Label and field selectors (Kubernetes docs, "Labels and Selectors", "Field Selectors").

Grammar and wording of errors follow apimachinery's `labels.Parse` and `fields.ParseSelector`,
because people see them. Matchers are values: frozen, comparable, and `str()` gives canonical text
that parses to an equal matcher.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from edgekube.api.errors import BadRequest
from edgekube.api.types import meta_v1

LABEL_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
INTEGER = re.compile(r"[+-]?[0-9]+")
NAME_LENGTH, PREFIX_LENGTH = 63, 253

NAME_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
PREFIX_RULE = (
    "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation "
    "is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)

TOKEN = re.compile(r"\s*(==|!=|[=!(),<>]|[^\s=!(),<>]+|$)")
SYMBOLS = frozenset({"==", "!=", "=", "!", "(", ")", ",", "<", ">", ""})
OPERATORS = {"=": "=", "==": "=", "!=": "!=", "in": "in", "notin": "notin", ">": ">", "<": "<"}
OF_KIND = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}
EXPECTED_OPERATORS = "in, notin, =, ==, !=, gt, lt"


def _greater(value: str, values: tuple[str, ...]) -> bool:
    return INTEGER.fullmatch(value) is not None and int(value) > int(values[0])


def _less(value: str, values: tuple[str, ...]) -> bool:
    return INTEGER.fullmatch(value) is not None and int(value) < int(values[0])


PRESENT: Mapping[str, Callable[[str, tuple[str, ...]], bool]] = {
    "=": lambda value, values: value == values[0],
    "!=": lambda value, values: value != values[0],
    "in": lambda value, values: value in values,
    "notin": lambda value, values: value not in values,
    "exists": lambda _value, _values: True,
    "!": lambda _value, _values: False,
    ">": _greater,
    "<": _less,
}
"""What an operator says of a label that is there."""
ABSENT = frozenset({"!=", "notin", "!"})
"""Operators that hold for a label that is not there."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label; `values` are sorted and distinct."""

    key: str
    operator: str
    """`=`, `!=`, `in`, `notin`, `exists`, `!`, `>` or `<`."""
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels satisfy it."""
        value = labels.get(self.key)
        if value is None:
            return self.operator in ABSENT
        return PRESENT[self.operator](value, self.values)

    def __str__(self) -> str:
        if self.operator == "exists":
            return self.key
        if self.operator == "!":
            return f"!{self.key}"
        if self.operator in {"in", "notin"}:
            # "()" would be no value at all, not the empty one.
            return f"{self.key} {self.operator} ({','.join(self.values) or ','})"
        return f"{self.key}{self.operator}{self.values[0]}"


@dataclass(frozen=True, slots=True)
class LabelMatcher:
    """All of `requirements`; `nothing` matches no object at all (the nil selector)."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    @property
    def empty(self) -> bool:
        """Whether it matches everything."""
        return not self.requirements and not self.nothing

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels satisfy every requirement."""
        if self.nothing:
            return False
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """`key` is (or, when `negated`, is not) `value`; a missing field is ""."""

    key: str
    value: str
    negated: bool = False

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")
        return f"{self.key}{'!=' if self.negated else '='}{escaped}"


@dataclass(frozen=True, slots=True)
class FieldMatcher:
    """All of `terms`."""

    terms: tuple[FieldTerm, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether it matches everything."""
        return not self.terms

    @property
    def keys(self) -> frozenset[str]:
        """The field labels it asks for; a server rejects those the kind does not support."""
        return frozenset(term.key for term in self.terms)

    def exact(self, key: str) -> str | None:
        """Return the value that `key` must have; None if it may have several."""
        return next((term.value for term in self.terms if term.key == key and not term.negated), None)

    def matches(self, fields: Mapping[str, str]) -> bool:
        """Whether fields satisfy every term."""
        return all((fields.get(term.key, "") == term.value) is not term.negated for term in self.terms)

    def __str__(self) -> str:
        return ",".join(map(str, self.terms))


EVERYTHING = LabelMatcher()
NOTHING = LabelMatcher(nothing=True)
ANY_FIELDS = FieldMatcher()


def parse_labels(text: str) -> LabelMatcher:
    """Read a label selector; "" matches everything. Raises BadRequest."""
    return _conjunction(_Parser(text).requirements())


def label_matcher(selector: meta_v1.LabelSelector | None) -> LabelMatcher:
    """Return what an object's selector means: None matches nothing, an empty one everything. Raises BadRequest."""
    if selector is None:
        return NOTHING
    requirements = [requirement(key, "=", (value,)) for key, value in selector.match_labels.items()]
    for expression in selector.match_expressions:
        operator = OF_KIND.get(expression.operator)
        if operator is None:
            raise BadRequest(f'"{expression.operator}" is not a valid label selector operator')
        requirements.append(requirement(expression.key, operator, tuple(expression.values)))
    return _conjunction(requirements)


def label_matcher_of(labels: Mapping[str, str]) -> LabelMatcher:
    """Return the matcher of a plain map (ReplicationController, Service): every label must be equal."""
    return _conjunction([Requirement(key, "=", (value,)) for key, value in labels.items()])


def _conjunction(requirements: list[Requirement]) -> LabelMatcher:
    unique = dict.fromkeys(requirements)
    return LabelMatcher(tuple(sorted(unique, key=lambda r: (r.key, r.operator, r.values))))


def requirement(key: str, operator: str, values: tuple[str, ...]) -> Requirement:
    """Return a checked requirement. Raises BadRequest."""
    check_key(key)
    if operator in {"exists", "!"} and values:
        raise BadRequest("values: Invalid value: values set must be empty for exists and does not exist")
    if operator in {"in", "notin"} and not values:
        raise BadRequest("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
    if operator in {">", "<"} and not INTEGER.fullmatch(values[0]):
        raise BadRequest(
            f"values[0]: Invalid value: \"{values[0]}\": for 'Gt', 'Lt' operators, the value must be an integer"
        )
    for index, value in enumerate(values):
        if len(value) > NAME_LENGTH:
            raise BadRequest(
                f'values[{index}][{key}]: Invalid value: "{value}": must be no more than 63 bytes'
            )
        if not LABEL_VALUE.fullmatch(value):
            raise BadRequest(f'values[{index}][{key}]: Invalid value: "{value}": {VALUE_RULE}')
    return Requirement(key, operator, tuple(sorted(set(values))))


def check_key(key: str) -> None:
    """Check a label's key: `[prefix/]name`. Raises BadRequest."""
    prefix, slash, name = key.rpartition("/")
    if slash and not prefix:
        raise BadRequest(f'key: Invalid value: "{key}": prefix part must be non-empty')
    if slash and (len(prefix) > PREFIX_LENGTH or not SUBDOMAIN.fullmatch(prefix)):
        raise BadRequest(f'key: Invalid value: "{key}": {PREFIX_RULE}')
    if not name:
        raise BadRequest(f'key: Invalid value: "{key}": name part must be non-empty')
    if len(name) > NAME_LENGTH:
        raise BadRequest(f'key: Invalid value: "{key}": name part must be no more than 63 bytes')
    if not LABEL_NAME.fullmatch(name):
        raise BadRequest(f'key: Invalid value: "{key}": {NAME_RULE}')


class _Parser:
    """Recursive descent over the tokens of one label selector."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0

    def requirements(self) -> list[Requirement]:
        found: list[Requirement] = []
        while (token := self._peek()) != "":
            if token in SYMBOLS and token != "!":  # noqa: S105 - a token of the grammar
                raise BadRequest(f"found '{token}', expected: !, identifier, or 'end of string'")
            found.append(self._requirement())
            token = self._take()
            if token == "":
                break
            if token != ",":  # noqa: S105
                raise BadRequest(f"found '{token}', expected: ',' or 'end of string'")
            following = self._peek()
            if following in SYMBOLS and following != "!":
                raise BadRequest(f"found '{following}', expected: identifier after ','")
        return found

    def _peek(self) -> str:
        return self._tokens[self._at]

    def _take(self) -> str:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _requirement(self) -> Requirement:
        try:
            return self._checked()
        except BadRequest as error:
            raise BadRequest(f"unable to parse requirement: {error.message}") from error

    def _checked(self) -> Requirement:
        negated = self._peek() == "!"
        if negated:
            self._take()
        key = self._identifier()
        check_key(key)
        if self._peek() in {"", ","}:
            return requirement(key, "!" if negated else "exists", ())
        if negated:
            return requirement(key, "!", ())
        token = self._take()
        operator = OPERATORS.get(token)
        if operator is None:
            raise BadRequest(f"found '{token}', expected: {EXPECTED_OPERATORS}")
        values = self._set() if operator in {"in", "notin"} else (self._value(),)
        return requirement(key, operator, values)

    def _identifier(self) -> str:
        token = self._take()
        if token in SYMBOLS:
            raise BadRequest(f"found '{token}', expected: identifier")
        return token

    def _value(self) -> str:
        return "" if self._peek() in {"", ","} else self._identifier()

    def _set(self) -> tuple[str, ...]:
        if (token := self._take()) != "(":
            raise BadRequest(f"found '{token}' expected: '('")
        if self._peek() == ")":
            self._take()
            return ()
        values: list[str] = []
        while True:
            values.append("" if self._peek() in {",", ")"} else self._identifier())
            token = self._take()
            if token == ")":  # noqa: S105
                return tuple(values)
            if token != ",":  # noqa: S105
                raise BadRequest(f"found '{token}', expected: ',' or ')'")


def _tokens(text: str) -> list[str]:
    """Return the tokens, the last one being "" for the end."""
    return [match.group(1) for match in TOKEN.finditer(text.rstrip())] or [""]


def parse_fields(text: str) -> FieldMatcher:
    r"""Read a field selector; values escape `,`, `=` and `\` with a backslash. Raises BadRequest."""
    terms = [_term(part, text) for part in _split(text) if part]
    return FieldMatcher(tuple(sorted(dict.fromkeys(terms), key=lambda t: (t.key, t.negated, t.value))))


def _split(text: str) -> Iterator[str]:
    """Split at commas that no backslash precedes."""
    start, escaped = 0, False
    for index, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == ",":
            yield text[start:index]
            start = index + 1
    yield text[start:]


def _term(part: str, whole: str) -> FieldTerm:
    match = re.match(r"([^=!]*)(!=|==|=)(.*)", part, re.DOTALL)
    if match is None:
        raise BadRequest(f"invalid selector: '{whole}'; can't understand '{part}'")
    key, operator, value = match.groups()
    return FieldTerm(key, _unescape(value), operator == "!=")


def _unescape(value: str) -> str:
    plain: list[str] = []
    chars = iter(value)
    for char in chars:
        if char == "\\":
            escaped = next(chars, "")
            if escaped not in {"\\", ",", "="} or not escaped:
                raise BadRequest(f"invalid field selector: invalid escape sequence: \\{escaped}")
            plain.append(escaped)
        elif char == "=":
            raise BadRequest(f"invalid field selector: unescaped character in value: {char}")
        else:
            plain.append(char)
    return "".join(plain)
