"""
Finding RE2 patterns in texts, in bounded time whatever the pattern.

CEL's own engine tells whether a pattern matches, not what. RE2 does; on boards it is not built for,
Python's engine does, for patterns that cannot take it long.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any

Find = Callable[[str], Iterator[str]]
"""Yields the matches of a pattern in a text, leftmost first."""

MEMORY = 1 << 20
"""Bytes that one compiled pattern may take."""
MOST_STEPS = 4_000_000
"""Ways that Python's engine may have to try: a few tenths of a second on a small board."""
ENDLESS = 1 << 62


def found(text: str, pattern: str) -> Iterator[str]:
    """Yield the matches, lazily; raises ValueError for what is no pattern, or takes too long here."""
    return _compiled(pattern)(text)


@lru_cache(maxsize=128)
def _compiled(pattern: str) -> Find:
    try:
        engine: Any = import_module("re2")
    except ImportError:
        return bounded(pattern)
    options = engine.Options()
    options.log_errors, options.max_mem = False, MEMORY
    try:
        compiled = engine.compile(pattern, options)
    except engine.error as error:
        raise ValueError(f"error parsing regexp: {_told(error)}") from error

    def find(text: str) -> Iterator[str]:
        return (match[0] for match in compiled.finditer(text))

    return find


def _told(error: Exception) -> str:
    told = error.args[0] if error.args else ""
    return told.decode(errors="replace") if isinstance(told, bytes) else str(told)


def bounded(pattern: str) -> Find:
    """Return what finds a pattern with Python's engine; texts for which it may take long raise ValueError."""
    try:
        compiled = re.compile(pattern, re.ASCII)
        parsed: Any = import_module("re._parser").parse(pattern, re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"error parsing regexp: {error}") from error
    steps(parsed, 1)

    def find(text: str) -> Iterator[str]:
        if (len(text) + 1) ** 2 * steps(parsed, len(text)) > MOST_STEPS:
            raise ValueError("the pattern may take too long for a text of this length")
        return (match[0] for match in compiled.finditer(text))

    return find


def steps(parsed: Any, length: int) -> int:
    """Return how many ways there are, at most, to match a part of a text; raises ValueError for what RE2 has not."""
    ways = 1
    for operator, argument in parsed:
        ways = min(ways * _ways(str(operator), argument, length), ENDLESS)
    return ways


_SINGLE = frozenset({"LITERAL", "NOT_LITERAL", "ANY", "IN", "AT"})


def _ways(operator: str, argument: Any, length: int) -> int:
    if operator in _SINGLE:
        return 1
    if operator == "SUBPATTERN":
        return steps(argument[3], length)
    if operator == "BRANCH":
        return sum(steps(one, length) for one in argument[1])
    if operator in {"MAX_REPEAT", "MIN_REPEAT"}:
        least, most, inner = argument
        most = min(int(most), max(length, int(least)))
        once = steps(inner, length)
        if once > 1 and most >= 62:
            return ENDLESS
        return int(min((most - least + 1) * once**most, ENDLESS))
    raise ValueError("invalid or unsupported Perl syntax")
