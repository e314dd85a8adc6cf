"""One expression: compiled once, evaluated with variables. The library is loaded with the first expression."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Any

from edgekube.api.cel.functions import FUNCTIONS
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


class CelError(EdgekubeError):
    """An expression that cannot be compiled or evaluated; the message is for people."""


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled expression."""

    text: str
    _compiled: Any

    def evaluate(self, variables: Mapping[str, Any], functions: Functions | None = None) -> Any:
        """Return the value; raises CelError."""
        try:
            context = engine().Context(variables=dict(variables))
        except (ValueError, OverflowError) as error:
            # Numbers of more than 64 bits, which JSON may have and CEL has not.
            raise CelError(str(error)) from error
        for name, function in FUNCTIONS.items():
            context.add_function(name, function)
        for name, function in (functions or {}).items():
            context.add_function(name, function)
        try:
            return self._compiled.execute(context)
        except KeyError as error:
            raise CelError(f"no such key: {error.args[0] if error.args else error}") from error
        except (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError, AttributeError) as error:
            raise CelError(str(error)) from error

    def holds(self, variables: Mapping[str, Any], functions: Functions | None = None) -> bool:
        """Return the value, which must be a bool; raises CelError."""
        value = self.evaluate(variables, functions)
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
        program = Program(text, engine().compile(text))
    except (ValueError, TypeError, RuntimeError) as error:
        raise CelError(f"compilation failed: {error}") from error
    for name in sorted(program.calls()):
        if name[0] not in "_@!-" and name not in FUNCTIONS and name not in STANDARD:
            raise CelError(f"compilation failed: undeclared reference to '{name}' (in container '')")
    return program
