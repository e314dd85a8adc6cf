"""Copying and comparing JSON trees."""

from typing import Any


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
