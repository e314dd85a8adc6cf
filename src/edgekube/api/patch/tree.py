"""Copying and comparing JSON trees."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from edgekube.api.errors import BadRequest

P = ParamSpec("P")
R = TypeVar("R")


def bounded(function: Callable[P, R]) -> Callable[P, R]:
    """Make trees nested too deep for the interpreter's stack a BadRequest."""

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except RecursionError as error:
            raise BadRequest("json: exceeded max depth") from error

    return checked


def clone(tree: Any) -> Any:
    """Return a deep copy; several times faster than `copy.deepcopy`, for trees have no cycles and few types."""
    if isinstance(tree, dict):
        return {
            name: clone(value) if isinstance(value, dict | list) else value for name, value in tree.items()
        }
    if isinstance(tree, list):
        return [clone(value) if isinstance(value, dict | list) else value for value in tree]
    return tree


def same(left: Any, right: Any) -> bool:
    """Whether two trees are equal as JSON: true is not 1, but 1 is 1.0."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(value, right[name]) for name, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)
