"""
Strategic merge patch (Kubernetes docs, "Strategic Merge Patch"; apimachinery strategicpatch).

Objects merge field by field. A list is replaced unless its field says `merge`: then plain values
are united, and objects are paired by the merge key. Directives:

* `$patch: replace | delete | merge` in an object or, but for merge, as an item in a list;
* `$deleteFromPrimitiveList/<field>`: plain values to take out;
* `$setElementOrder/<field>`: the order wished for, by value or by merge key;
* `$retainKeys`: the only members an object may keep.
"""

from collections.abc import Callable, Mapping
from typing import Any

from edgekube.api.errors import BadRequest
from edgekube.api.patch.order import arrange, check_order
from edgekube.api.patch.shape import FieldShape, Shape
from edgekube.api.patch.tree import bounded, clone, same

DIRECTIVE = "$patch"
RETAIN = "$retainKeys"
DELETE_FROM = "$deleteFromPrimitiveList/"
SET_ORDER = "$setElementOrder/"
ATOMIC = FieldShape((), "", None)

Tree = dict[str, Any]


@bounded
def strategic_patch(tree: Any, patch: Any, shape: Shape | None) -> Tree:
    """
    Return `tree` after `patch`; the result shares nothing with the arguments. Nulls in the patch remove.

    `shape` None means that nothing is known of the fields: objects merge and lists are replaced.
    Raises BadRequest for malformed patches.
    """
    if not isinstance(patch, dict):
        raise BadRequest("error decoding patch: a strategic merge patch is an object")
    return _merge(clone(tree) if isinstance(tree, dict) else {}, clone(patch), shape)


def _merge(tree: Tree, patch: Tree, shape: Shape | None) -> Tree:
    """Merge into `tree`, which is ours to change, as is `patch`."""
    directive = patch.pop(DIRECTIVE, None)
    if directive is not None:
        handler = ON_OBJECT.get(directive) if isinstance(directive, str) else None
        if handler is None:
            raise _unknown(directive)
        replaced = handler(patch)
        if replaced is not None:
            return replaced
    _retain(tree, patch)
    for name in [name for name in patch if name.startswith(SET_ORDER)]:
        _ordered(tree, patch, name, shape)
    for name, value in patch.items():
        if name.startswith(DELETE_FROM):
            _take_out(tree, name.removeprefix(DELETE_FROM), value)
        elif value is None:
            tree.pop(name, None)
        else:
            tree[name] = _field(tree.get(name), value, _shape(shape, name))
    return tree


def _field(before: Any, value: Any, field: FieldShape) -> Any:
    """Return the new value of a field that the patch sets."""
    if isinstance(before, dict) and isinstance(value, dict) and "replace" not in field.strategies:
        return _merge(before, value, field.shape)
    if isinstance(before, list) and isinstance(value, list) and "merge" in field.strategies:
        return _merge_lists(before, value, field)
    return _plain(value)


def _merge_lists(before: list[Any], patch: list[Any], field: FieldShape) -> list[Any]:
    items = (*before, *patch)
    if any(isinstance(item, list) for item in items):
        raise BadRequest("invalid patch: lists of lists cannot be merged")
    if not any(isinstance(item, dict) for item in items):
        return arrange(_distinct([*before, *patch]), patch, before, "")
    if not all(isinstance(item, dict) for item in items):
        raise BadRequest("invalid patch: a list holds objects and plain values")
    if not field.merge_key:
        raise BadRequest("cannot merge lists without merge key")
    return _merge_objects(before, patch, field)


def _merge_objects(before: list[Tree], patch: list[Tree], field: FieldShape) -> list[Tree]:
    key = field.merge_key
    kept, wished, replace = list(before), [], False
    for item in patch:
        directive = item.get(DIRECTIVE)
        if directive == "delete":
            gone = _key_of(item, key)
            kept = [old for old in kept if not (key in old and same(old[key], gone))]
        elif directive == "replace":
            replace = True
        elif directive is None:
            wished.append(item)
        else:
            raise _unknown(directive)
    if replace:
        return [_plain(item) for item in wished]
    return _paired(kept, wished, before, field)


def _paired(kept: list[Tree], wished: list[Tree], before: list[Tree], field: FieldShape) -> list[Tree]:
    """Merge every item wished for into the one with the same key, or add it."""
    key, merged = field.merge_key, list(kept)
    for item in wished:
        value = _key_of(item, key)
        at = next((i for i, old in enumerate(merged) if key in old and same(old[key], value)), None)
        if at is None:
            merged.append(_plain(item))
        else:
            merged[at] = _merge(merged[at], dict(item), field.shape)
    return arrange(merged, wished, before, key)


def _ordered(tree: Tree, patch: Tree, directive: str, shape: Shape | None) -> None:
    """Merge the list of a `$setElementOrder` together with its patch, in the order wished for."""
    name = directive.removeprefix(SET_ORDER)
    order = patch.pop(directive)
    if not isinstance(order, list):
        raise BadRequest(f"invalid patch: {directive} is not a list")
    if name in patch and not isinstance(patch[name], list):
        return  # the list goes, or becomes something else: there is nothing to order
    field = _shape(shape, name)
    before, changes = tree.get(name), patch.pop(name, None)
    if changes is not None:
        present = [item for item in changes if not (isinstance(item, dict) and DIRECTIVE in item)]
        check_order(present, order, field.merge_key, name)
    if not isinstance(before, list):
        if changes is None:
            return
        tree[name] = _plain(changes)
        before = []
    elif changes is not None:
        tree[name] = _field(clone(before), changes, field)
    tree[name] = arrange(tree[name], order, before, field.merge_key)


def _retain(tree: Tree, patch: Tree) -> None:
    keep = patch.pop(RETAIN, None)
    if keep is None:
        return
    if not isinstance(keep, list):
        raise BadRequest(f"invalid patch: {RETAIN} is not a list")
    stray = [name for name, value in patch.items() if value is not None and _bare(name) not in keep]
    if stray:
        raise BadRequest(f"invalid patch: {stray[0]} is set but not in {RETAIN}")
    for name in [name for name in tree if name not in keep]:
        del tree[name]


def _take_out(tree: Tree, name: str, values: Any) -> None:
    if not isinstance(values, list):
        raise BadRequest(f"invalid patch: {DELETE_FROM}{name} is not a list")
    before = tree.get(name)
    if isinstance(before, list):
        tree[name] = [item for item in before if not any(same(item, value) for value in values)]


def _plain(value: Any) -> Any:
    """Return a value that meets nothing to merge with: directives and nulls fall away."""
    if isinstance(value, list):
        return [_plain(item) for item in value if not _only_says(item)]
    if not isinstance(value, dict):
        return value
    if value.get(DIRECTIVE) == "delete":
        return {}
    return {
        name: _plain(member) for name, member in value.items() if member is not None and not _directs(name)
    }


def _only_says(item: Any) -> bool:
    """Whether an item of a list only says what to do with others."""
    return isinstance(item, dict) and (item.get(DIRECTIVE) == "delete" or item.keys() == {DIRECTIVE})


def _directs(name: str) -> bool:
    return name in {DIRECTIVE, RETAIN} or name.startswith((DELETE_FROM, SET_ORDER))


def _bare(name: str) -> str:
    return name.removeprefix(DELETE_FROM).removeprefix(SET_ORDER)


def _shape(shape: Shape | None, name: str) -> FieldShape:
    return (shape.field(name) if shape is not None else None) or ATOMIC


def _key_of(item: Tree, key: str) -> Any:
    if item.get(key) is None:
        raise BadRequest(f"map: {item} does not contain declared merge key: {key}")
    return item[key]


def _distinct(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if not any(same(value, other) for other in found):
            found.append(value)
    return found


def _unknown(directive: Any) -> BadRequest:
    return BadRequest(f"unknown patch type found: {directive}")


ON_OBJECT: Mapping[str, Callable[[Tree], Tree | None]] = {
    "replace": _plain,
    "delete": lambda _patch: {},
    "merge": lambda _patch: None,
}
"""What `$patch` in an object makes of it; None: go on merging."""
