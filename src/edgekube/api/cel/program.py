"""One expression: compiled once, evaluated with variables. The library is loaded with the first expression."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Any

from edgekube.api.cel.functions import FUNCTIONS
from edgekube.api.cel.rewrite import TURN, has_literals, has_loops, rewritten
from edgekube.lib.errors import EdgekubeError

LONGEST = 16 * 1024
"""Characters of an expression; evaluation cannot be interrupted, so what is evaluated is bounded."""
STANDARD = frozenset({
    "size", "startsWith", "endsWith", "contains", "matches", "int", "uint", "double", "string", "bytes", "bool", "type",
    "dyn", "duration", "timestamp", "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek",
    "getDayOfYear", "getHours", "getMinutes", "getSeconds", "getMilliseconds", "optional", "of", "none", "ofNonZeroValue",
    "hasValue", "value", "orValue", "or", "all", "exists", "exists_one", "map", "filter", "has", "optional.of",
    "optional.none", "optional.ofNonZeroValue",
    # Kubernetes' authorizer, given with the variables where there is one.
    "group", "resource", "subresource", "namespace", "name", "path", "serviceAccount", "check", "allowed", "reason",
    "errored", "error", "fieldSelector", "labelSelector",
})  # fmt: skip
"""Functions of CEL itself and those that some expressions are given besides."""
Functions = Mapping[str, Callable[..., Any]]
TURNS, SECONDS = 500_000, 1.0
"""What the expressions of one request may do (Kubernetes counts costs of operations; these are about as much)."""
LOOK = 0x3F
"""Every so many turns (less one) the clock is read."""
TOO_LONG = "operation cancelled: actual cost limit exceeded"
OVERALL = "validation failed due to running out of cost budget, no further validation rules will be run"


class CelError(EdgekubeError):
    """An expression that cannot be compiled or evaluated; the message is for people."""


class CostExceeded(CelError):
    """An expression that took too long, or one that came after others had used up everything."""


class Budget:
    """
    How much expressions may do: `turns` of loops all together, and `seconds` of the thread's time each.

    The library cannot be interrupted, but what a loop does in each turn can end it.
    """

    __slots__ = ("_deadline", "seconds", "spent", "turns")

    def __init__(self, turns: int = TURNS, *, seconds: float = SECONDS) -> None:
        self.turns, self.seconds = turns, seconds
        self.spent = False
        self._deadline = 0.0

    def begin(self) -> None:
        """Begin one expression; raises CostExceeded when nothing is left."""
        if self.turns <= 0:
            raise CostExceeded(OVERALL)
        self.turns -= 1
        self.spent, self._deadline = False, 0.0

    def turn(self) -> bool:
        """Take one turn; raises ValueError, which ends the expression."""
        self.turns -= 1
        if not self.turns & LOOK:
            now = time.thread_time()
            if not self._deadline:
                self._deadline = now + self.seconds
            elif now > self._deadline:
                self.turns = 0
        if self.turns <= 0:
            self.spent = True
            raise ValueError(TOO_LONG)
        return True


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled expression."""

    text: str
    _compiled: Any
    _loops: bool = False

    def evaluate(
        self,
        variables: Mapping[str, Any],
        functions: Functions | None = None,
        *,
        budget: Budget | None = None,
    ) -> Any:
        """Return the value; raises CelError, and CostExceeded when it takes more than `budget`."""
        budget = budget or Budget()
        budget.begin()
        try:
            context = engine().Context(variables=dict(variables))
        except (ValueError, OverflowError) as error:
            # Numbers of more than 64 bits, which JSON may have and CEL has not.
            raise CelError(str(error)) from error
        for name, function in FUNCTIONS.items():
            context.add_function(name, function)
        for name, function in (functions or {}).items():
            context.add_function(name, function)
        if self._loops:
            context.add_function(TURN, budget.turn)
        try:
            return self._compiled.execute(context)
        except KeyError as error:
            raise CelError(f"no such key: {error.args[0] if error.args else error}") from error
        except (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError, AttributeError) as error:
            if budget.spent:
                raise CostExceeded(TOO_LONG) from error
            raise CelError(str(error)) from error

    def holds(
        self,
        variables: Mapping[str, Any],
        functions: Functions | None = None,
        *,
        budget: Budget | None = None,
    ) -> bool:
        """Return the value, which must be a bool; raises CelError."""
        value = self.evaluate(variables, functions, budget=budget)
        if not isinstance(value, bool):
            raise CelError(f"expression must evaluate to a bool, and not to {type(value).__name__}")
        return value

    def names(self) -> frozenset[str]:
        """Return the variables the expression speaks of."""
        return frozenset(self._compiled.variables())

    def calls(self) -> frozenset[str]:
        """Return the functions it calls, operators included."""
        return frozenset(self._compiled.functions())


@cache
def engine() -> Any:
    """
    Load the library's compiled module alone, with the first expression.

    Its package would bring its command line along (typer, rich, prompt_toolkit), 20 MB of it.
    """
    package = find_spec("cel")
    assert package is not None
    spec = PathFinder.find_spec("cel.cel", package.submodule_search_locations)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@lru_cache(maxsize=512)
def compile_expression(text: str) -> Program:
    """Compile; raises CelError with the place of the mistake."""
    if not text.strip():
        raise CelError("expression is empty")
    if len(text) > LONGEST:
        raise CelError(f"expression is longer than {LONGEST} characters")
    try:
        changed = rewritten(text)
        if not has_loops(changed) and not has_literals(text):
            program = Program(text, engine().compile(text))
        else:
            if not has_literals(text):
                # Mistakes are told of what people wrote.
                engine().compile(text)
            program = Program(text, engine().compile(changed), has_loops(changed))
    except (ValueError, TypeError, RuntimeError) as error:
        raise CelError(f"compilation failed: {error}") from error
    for name in sorted(program.calls()):
        if name[0] not in "_@!-" and name not in FUNCTIONS and name not in STANDARD:
            raise CelError(f"compilation failed: undeclared reference to '{name}' (in container '')")
    return program
