"""
The order of a merged list (KEP-334, strategic merge patch's `$setElementOrder`).

Items that the patch knows come in the patch's order; those only the server knows keep their
place relative to the others as they were.
"""

from collections.abc import Sequence
from typing import Any

from edgekube.api.errors import BadRequest
from edgekube.api.patch.tree import same


def arrange(merged: Sequence[Any], wished: Sequence[Any], before: Sequence[Any], key: str) -> list[Any]:
    """Return `merged` in the order of `wished`, mixed with the rest in the order of `before`."""
    known = sorted(
        (item for item in merged if _find(wished, item, key) is not None),
        key=lambda item: _place(wished, item, key),
    )
    others = sorted(
        (item for item in merged if _find(wished, item, key) is None),
        key=lambda item: _place(before, item, key),
    )
    result: list[Any] = []
    while known and others:
        left, right = _find(before, others[0], key), _find(before, known[0], key)
        first = others if left is not None and right is not None and left < right else known
        result.append(first.pop(0))
    return [*result, *known, *others]


def check_order(patch: Sequence[Any], order: Sequence[Any], key: str, name: str) -> None:
    """Raise BadRequest unless the items of `patch` occur in `order`, in that order."""
    at = 0
    for item in patch:
        while at < len(order) and not _same(order[at], item, key):
            at += 1
        if at == len(order):
            raise BadRequest(f"the order in patch list {name} doesn't match its $setElementOrder list")
        at += 1


def _find(items: Sequence[Any], wanted: Any, key: str) -> int | None:
    return next((index for index, item in enumerate(items) if _same(item, wanted, key)), None)


def _place(items: Sequence[Any], wanted: Any, key: str) -> int:
    found = _find(items, wanted, key)
    return -1 if found is None else found


def _same(left: Any, right: Any, key: str) -> bool:
    if key and isinstance(left, dict) and isinstance(right, dict):
        return key in left and key in right and same(left[key], right[key])
    return same(left, right)
