"""
Sets of field paths, in the form in which managedFields keep them (FieldsV1, KEP-555).

A set is a nested dict: keys are path elements (`f:name`, `k:{"name":"a"}`, `v:"x"`), `{}` is a path
that is in the set, and a path that is in it together with paths below it has the key ".". A whole
set begins below the root, which is never a member itself.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

Fields = dict[str, Any]
SELF = "."
Path = tuple[str, ...]


def ordered(fields: Fields) -> Fields:
    """Return the set as it is written down: the path itself first, then by name, key and value."""
    found: Fields = msgspec.json.decode(msgspec.json.encode(fields, order="sorted"))
    return found


def member(node: Fields) -> bool:
    """Tell whether the path of `node` is in the set itself."""
    return not node or SELF in node


def union(left: Fields, right: Fields) -> Fields:
    """Return what is in either of two sets."""
    if not left or not right:
        return left or right
    found = dict(left)
    for key, below in right.items():
        found[key] = _union(found[key], below) if key in found else below
    return found


def _union(left: Fields, right: Fields) -> Fields:
    if left == right:
        return left
    found = union({k: v for k, v in left.items() if k != SELF}, {k: v for k, v in right.items() if k != SELF})
    return {SELF: {}, **found} if found and (member(left) or member(right)) else found


def difference(left: Fields, right: Fields) -> Fields:
    """Return what is in `left` but not in `right`."""
    if not right:
        return left
    found = {}
    for key, below in left.items():
        if key not in right:
            found[key] = below
        elif (rest := _difference(below, right[key])) is not None:
            found[key] = rest
    return found


def _difference(left: Fields, right: Fields) -> Fields | None:
    stays = member(left) and not member(right)
    inner = {k: v for k, v in left.items() if k != SELF}
    rest = difference(inner, {k: v for k, v in right.items() if k != SELF})
    return _joined(rest, itself=stays)


def intersection(left: Fields, right: Fields) -> Fields:
    """Return what is in both sets."""
    found = {}
    for key, below in left.items():
        if key != SELF and key in right and (both := _intersection(below, right[key])) is not None:
            found[key] = both
    return found


def _intersection(left: Fields, right: Fields) -> Fields | None:
    return _joined(intersection(left, right), itself=member(left) and member(right))


def _joined(below: Fields, *, itself: bool) -> Fields | None:
    """Return a node of a set: what is below it, and itself or not; None when neither."""
    if not below:
        return {} if itself else None
    return {SELF: {}, **below} if itself else below


def paths(fields: Fields, before: Path = ()) -> Iterator[Path]:
    """Yield every path of a set, in order."""
    for key in sorted(fields):
        if key == SELF:
            continue
        node, path = fields[key], (*before, key)
        if member(node):
            yield path
        yield from paths(node, path)


def text(path: Path) -> str:
    """Return a path as people read it: `.spec.containers[name="a"].image`."""
    return "".join(_element(element) for element in path)


def _element(element: str) -> str:
    kind, _, rest = element.partition(":")
    if kind == "f":
        return f".{rest}"
    if kind == "k":
        keys = msgspec.json.decode(rest)
        return (
            "["
            + ",".join(f"{key}={msgspec.json.encode(value).decode()}" for key, value in keys.items())
            + "]"
        )
    if kind == "v":
        return f"[={rest}]"
    return f"[{rest}]"


def key_of(keys: dict[str, Any]) -> str:
    """Return the element of an item of a list that is a map."""
    return "k:" + msgspec.json.encode(keys, order="sorted").decode()


def value_of(value: Any) -> str:
    """Return the element of an item of a list that is a set."""
    return "v:" + msgspec.json.encode(value).decode()
