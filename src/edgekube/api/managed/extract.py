"""Which fields an object has, and which differ between two forms of it (structured-merge-diff typed)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from edgekube.api.managed.sets import SELF, Fields, Path, paths
from edgekube.api.managed.shape import Form, Shape
from edgekube.lib.errors import EdgekubeError


class Untyped(EdgekubeError):
    """An object does not fit its schema; the message names the field."""


def fields_of(tree: dict[str, Any], shape: Shape, *, strict: bool = False) -> Fields:
    """Return the set of fields an object has; `strict`: raises Untyped for fields the schema does not know."""
    return _inside(tree, shape, strict=strict)


def _inside(value: Any, shape: Shape, *, strict: bool, path: str = "") -> Fields:
    """Return what is below a value, {} for one that is a leaf."""
    found: Fields = {}
    if isinstance(value, dict) and shape.maps:
        whose_keys, children = shape.form is Form.MAP, shape.children
        for name, item in value.items():
            child = children[name]
            if child is None:
                if strict:
                    raise Untyped(f"{path}.{name}: field not declared in schema")
                continue
            if child.form is Form.WHOLE:
                # Most fields are leaves, and every write comes by here.
                found["f:" + name] = {}
                continue
            inner = _inside(item, child, strict=strict, path=f"{path}.{name}" if strict else "")
            # Keys of maps are owned themselves, named fields only by what is in them.
            found["f:" + name] = {SELF: {}, **inner} if inner and whose_keys else inner
    elif isinstance(value, list) and shape.lists:
        for element, item, child in items_of(value, shape, path=path, strict=strict):
            inner = {}
            if child is not None:
                inner = _inside(item, child, strict=strict, path=f"{path}[{element}]" if strict else "")
            found[element] = {SELF: {}, **inner} if inner else {}
    return found


def items_of(
    value: list[Any], shape: Shape, *, path: str = "", strict: bool = False
) -> Iterator[tuple[str, Any, Shape | None]]:
    """Yield a list's items by path element; of equals only the first."""
    child, seen = shape.item() if shape.item is not None else None, set()
    for item in value:
        element = shape.element(item)
        if element is None or element in seen:
            if strict:
                raise Untyped(
                    f"{path}: {'duplicate entries' if element else 'associative list has a keyless item'}"
                )
            continue
        seen.add(element)
        yield element, item, child


@dataclass(slots=True)
class Change:
    """`changed`: fields that are new or have another value; `removed`: fields that are gone."""

    changed: Fields = field(default_factory=dict)
    removed: Fields = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


def compare(old: dict[str, Any], new: dict[str, Any], shape: Shape) -> Change:
    """Return what changed between two forms of an object."""
    return _compare(old, new, shape)


def unchanged(said: dict[str, Any], live: dict[str, Any], shape: Shape) -> set[Path]:
    """Return the paths of `said` that `live` has with the same value."""
    fields = fields_of(said, shape)
    differ = set(paths(compare(live, said, shape).changed))
    return {path for path in paths(fields) if path not in differ}


def _compare(old: Any, new: Any, shape: Shape) -> Change:
    """Compare two different values that are both maps, or both lists with items of their own."""
    change = Change()
    before, after = _children(old, shape), _children(new, shape)
    for element, (item, child) in after.items():
        if element not in before:
            change.changed[element] = _added(item, child, shape)
        elif item != (was := before[element][0]):
            if not _walkable(was, child) or not _walkable(item, child):
                change.changed[element] = _added(item, child, shape) if _walkable(item, child) else {}
                continue
            inner = _compare(was, item, child) if child is not None else Change()
            if inner.changed:
                change.changed[element] = inner.changed
            if inner.removed:
                change.removed[element] = inner.removed
    for element, (item, child) in before.items():
        if element not in after:
            inner_fields = _inside(item, child, strict=False) if child is not None else {}
            change.removed[element] = {SELF: {}, **inner_fields} if inner_fields else {}
    return change


def _added(item: Any, child: Shape | None, parent: Shape) -> Fields:
    inner = _inside(item, child, strict=False) if child is not None else {}
    own = parent.form is not Form.STRUCT or (child is not None and child.form is Form.MAP)
    return {SELF: {}, **inner} if inner and own else inner


def _walkable(value: Any, shape: Shape | None) -> bool:
    """Tell whether a value has parts that are owned apart from it."""
    if shape is None:
        return False
    return (isinstance(value, dict) and shape.maps) or (isinstance(value, list) and shape.lists)


def _children(value: Any, shape: Shape) -> dict[str, tuple[Any, Shape | None]]:
    if isinstance(value, dict):
        children = shape.children
        return {
            f"f:{name}": (item, child)
            for name, item in value.items()
            if (child := children[name]) is not None
        }
    return {element: (item, child) for element, item, child in items_of(value, shape)}
