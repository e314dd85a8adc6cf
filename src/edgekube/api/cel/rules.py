"""x-kubernetes-validations of a structural schema: checked at definition, run on every write (KEP-2876)."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import msgspec

from edgekube.api.cel.functions import moment
from edgekube.api.cel.program import Budget, CelError, CostExceeded, Program, compile_expression
from edgekube.api.structural.schema import LIST_TYPE, MAP_KEYS, RULES, below, field_path
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
REASONS = ("FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate")
_ESCAPED = {"__dot__": ".", "__dash__": "-", "__slash__": "/", "__underscores__": "__"}
_WORDS = frozenset({
    "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
    "let", "loop", "package", "namespace", "return",
})  # fmt: skip
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DURATION = re.compile(r"(-?\d+(?:\.\d+)?)(h|ms|us|µs|ns|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, ready to run."""

    text: str
    program: Program
    message: str = ""
    message_program: Program | None = None
    reason: str = REASONS[0]
    path: str = ""
    transition: bool = False
    optional_old: bool = False


@dataclass(slots=True)
class _Node:
    """The rules of one schema node, and of those below it that have any."""

    type: str
    convert: bool
    schema: Tree
    rules: tuple[Rule, ...] = ()
    fields: "dict[str, _Node]" = field(default_factory=dict)
    items: "_Node | None" = None
    keys: tuple[str, ...] | None = None
    """What tells items apart, so that an item's old form can be found; None: nothing does."""
    more: "_Node | None" = None


def compiled_rules(schema: Tree) -> Callable[[Tree, Tree | None, Problems], None] | None:
    """Return what runs a schema's rules; None when it has none."""
    node = _compile(schema)
    if node is None:
        return None

    def check(tree: Tree, old: Tree | None, problems: Problems) -> None:
        try:
            _Run(problems, Budget()).node(node, tree, old, "", had=old is not None)
        except CostExceeded as error:
            problems.invalid("", "", str(error))

    return check


def check_rules(schema: Tree, path: str, problems: Problems) -> None:
    """Note the rules of a definition that cannot be compiled."""
    for where, rule in _rules_in(schema, path):
        if not rule.get("rule", "").strip():
            problems.required(f"{where}.rule")
            continue
        if rule.get("reason", REASONS[0]) not in REASONS:
            problems.unsupported(f"{where}.reason", rule["reason"], REASONS)
        for name in ("rule", "messageExpression"):
            if name in rule:
                try:
                    compile_expression(rule[name])
                except CelError as error:
                    problems.invalid(f"{where}.{name}", rule[name], str(error))


def _rules_in(schema: Tree, path: str) -> Iterator[tuple[str, Tree]]:
    for number, rule in enumerate(schema.get(RULES) or ()):
        yield f"{path}.{RULES}[{number}]", rule
    for name, inner in (schema.get("properties") or {}).items():
        yield from _rules_in(inner, f"{path}.properties[{name}]")
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from _rules_in(schema[word], f"{path}.{word}")


def _compile(schema: Tree) -> _Node | None:
    fields = {n: node for n, inner in (schema.get("properties") or {}).items() if (node := _compile(inner))}
    items = _compile(schema["items"]) if isinstance(schema.get("items"), dict) else None
    more = schema.get("additionalProperties")
    others = _compile(more) if isinstance(more, dict) else None
    rules = tuple(_rule(rule) for rule in schema.get(RULES) or ())
    if not (fields or items or others or rules):
        return None
    keys = tuple(schema.get(MAP_KEYS) or ()) if schema.get(LIST_TYPE) == "map" else None
    return _Node(schema.get("type", ""), _needs(schema), schema, rules, fields, items, keys, others)


def _rule(rule: Tree) -> Rule:
    program, told = compile_expression(rule["rule"]), rule.get("messageExpression")
    return Rule(
        rule["rule"].strip(), program, rule.get("message", ""), compile_expression(told) if told else None,
        rule.get("reason") or REASONS[0], rule.get("fieldPath", ""), "oldSelf" in program.names(),
        bool(rule.get("optionalOldSelf")),
    )  # fmt: skip


def _needs(schema: Tree) -> bool:
    """Tell whether values have to be brought into CEL's types: times, doubles, names that are no identifiers."""
    if schema.get("type") == "number" or schema.get("format") in _FORMATS:
        return True
    names = schema.get("properties") or {}
    if any(_escape(name) != name for name in names):
        return True
    inner = [
        *names.values(),
        *(schema[w] for w in ("items", "additionalProperties") if isinstance(schema.get(w), dict)),
    ]
    return any(map(_needs, inner))


@dataclass(frozen=True, slots=True)
class _Run:
    """The rules of one object, run within one budget."""

    problems: Problems
    budget: Budget

    def node(self, node: _Node, value: Any, old: Any, path: str, *, had: bool) -> None:
        """Run a node's rules and those below it; raises CostExceeded."""
        if value is None:
            return
        for rule in node.rules:
            if not rule.transition or had or rule.optional_old:
                self._judge(node, rule, value, old if had else None, path)
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            for name, item in value.items():
                inner = node.fields.get(name) or node.more
                if inner is not None:
                    where = field_path(path, name) if name in node.fields else f"{path}[{name}]"
                    self.node(inner, item, before.get(name), where, had=had and name in before)
        elif isinstance(value, list) and node.items is not None:
            known = _by_key(node, old)
            for number, item in enumerate(value):
                mark = _mark(node, item)
                self.node(node.items, item, known.get(mark), f"{path}[{number}]", had=mark in known)

    def _judge(self, node: _Node, rule: Rule, value: Any, old: Any, path: str) -> None:
        variables = {"self": _cel(value, node.schema) if node.convert else value}
        if rule.transition:
            variables["oldSelf"] = _cel(old, node.schema) if node.convert else old
        where = path + rule.path if rule.path else path
        try:
            if rule.program.holds(variables, budget=self.budget):
                return
            message = _message(rule, variables, self.budget)
        except CostExceeded as error:
            if self.budget.spent:
                why = f"no further validation rules will be run due to call cost exceeds limit for rule: {rule.text}"
                raise CostExceeded(why) from error
            raise
        except CelError as error:
            self.problems.invalid(where, node.type, f'rule "{rule.text}" failed: {error}')
            return
        _note(self.problems, rule.reason, where.removeprefix("."), node.type, message)


def _by_key(node: _Node, old: Any) -> dict[bytes | None, Any]:
    if node.keys is None or not isinstance(old, list):
        return {}
    return {_mark(node, item): item for item in old}


def _mark(node: _Node, item: Any) -> bytes | None:
    if node.keys is None or not isinstance(item, dict):
        return None
    return msgspec.json.encode([item.get(key) for key in node.keys])


def _message(rule: Rule, variables: Mapping[str, Any], budget: Budget) -> str:
    if rule.message_program is not None:
        try:
            told = rule.message_program.evaluate(variables, budget=budget)
        except CelError:
            told = ""
        if isinstance(told, str) and told.strip():
            return told.strip()
    return rule.message or f"failed rule: {rule.text}"


def _note(problems: Problems, reason: str, path: str, kind: str, message: str) -> None:
    if reason == "FieldValueForbidden":
        problems.forbidden(path, message)
    elif reason == "FieldValueRequired":
        problems.required(path, message)
    elif reason == "FieldValueDuplicate":
        problems.duplicate(path, kind)
    else:
        problems.invalid(path, kind, message)


def _cel(value: Any, schema: Tree | None) -> Any:
    if value is None or schema is None:
        return value
    if isinstance(value, dict):
        known = schema.get("properties") or {}
        return {(_escape(k) if k in known else k): _cel(item, below(schema, k)) for k, item in value.items()}
    if isinstance(value, list):
        items = schema.get("items")
        return [_cel(item, items) for item in value]
    if isinstance(value, str):
        parse = _FORMATS.get(schema.get("format", ""))
        return parse(value) if parse else value
    if schema.get("type") == "number" and not isinstance(value, bool):
        return float(value)
    return value


def _duration(text: str) -> timedelta:
    return timedelta(seconds=sum(float(amount) * _SECONDS[unit] for amount, unit in _DURATION.findall(text)))


def _day(text: str) -> Any:
    return moment(f"{date.fromisoformat(text).isoformat()}T00:00:00+00:00")


_FORMATS: Mapping[str, Callable[[str], Any]] = {
    "date-time": moment, "datetime": moment, "date": _day, "duration": _duration,
}  # fmt: skip


def _escape(name: str) -> str:
    """Return a property's name as rules write it."""
    if name in _WORDS:
        return f"__{name}__"
    if _IDENTIFIER.fullmatch(name) and "__" not in name:
        return name
    escaped = name.replace("__", "__underscores__")
    for mark, plain in _ESCAPED.items():
        if plain != "__":
            escaped = escaped.replace(plain, mark)
    return escaped
