"""
Strategic merge patch (Kubernetes' strategic-merge-patch.md).

Objects merge by field. Lists merge by the merge key their shape names, or as sets of plain values;
other lists are replaced. Directives: `$patch: delete | replace | merge`, `$retainKeys`,
`$deleteFromPrimitiveList/<field>` and `$setElementOrder/<field>`.
"""

from typing import Any

from edgekube.api.errors import BadRequest
from edgekube.api.patch.order import arrange, check_order
from edgekube.api.patch.shape import FieldShape, Shape
from edgekube.api.patch.tree import clone

DIRECTIVE = "$patch"
RETAIN = "$retainKeys"
DELETE_VALUES = "$deleteFromPrimitiveList/"
ORDER = "$setElementOrder/"


def strategic_patch(tree: Any, patch: Any, shape: Shape | None) -> Any:
    """Return `tree` with `patch` merged in, as `shape` says; neither is changed. Raises BadRequest."""
    if not isinstance(patch, dict):
        raise BadRequest("strategic merge patch: must be an object")
    return _merge_object(tree if isinstance(tree, dict) else {}, patch, shape)


def _merge_object(tree: dict[str, Any], patch: dict[str, Any], shape: Shape | None) -> dict[str, Any]:
    directive = patch.get(DIRECTIVE, "merge")
    if directive == "replace":
        return {name: clone(value) for name, value in patch.items() if name != DIRECTIVE}
    if directive == "delete":
        return {}
    if directive != "merge":
        raise BadRequest(f"strategic merge patch: unknown $patch {directive!r}")
    result = _retained(tree, patch)
    for name, values in patch.items():
        if name.startswith(DELETE_VALUES):
            _delete_values(result, name.removeprefix(DELETE_VALUES), values)
    for name, value in patch.items():
        if not name.startswith("$"):
            _merge_field(result, name, value, shape)
    for directive_name, order in patch.items():
        if directive_name.startswith(ORDER):
            name = directive_name.removeprefix(ORDER)
            field = shape.field(name) if shape is not None else None
            key = field.merge_key if field is not None else ""
            check_order(_present(patch.get(name)), order if isinstance(order, list) else (), key, name)
            _order(tree, result, name, order, key)
    return result


def _retained(tree: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    if RETAIN not in patch:
        return dict(tree)
    if not isinstance(patch[RETAIN], list):
        raise BadRequest("strategic merge patch: $retainKeys must be a list")
    return {name: value for name, value in tree.items() if name in patch[RETAIN]}


def _present(items: Any) -> list[Any]:
    """Return the items of a patch list that stay, without those it deletes."""
    return (
        [i for i in items or () if not (isinstance(i, dict) and DIRECTIVE in i)]
        if isinstance(items, list)
        else []
    )


def _merge_field(result: dict[str, Any], name: str, value: Any, shape: Shape | None) -> None:
    field = shape.field(name) if shape is not None else None
    if value is None:
        result.pop(name, None)
    elif isinstance(value, dict):
        result[name] = _merge_map(result.get(name), value, field)
    elif isinstance(value, list) and field is not None and "merge" in field.strategies:
        old = result.get(name)
        result[name] = _merge_list(old if isinstance(old, list) else [], value, field)
    else:
        result[name] = _clean(value)


def _merge_map(old: Any, value: dict[str, Any], field: FieldShape | None) -> dict[str, Any]:
    if field is not None and "replace" in field.strategies and DIRECTIVE not in value:
        return dict(value)
    return _merge_object(old if isinstance(old, dict) else {}, value, field.shape if field else None)


def _merge_list(old: list[Any], patch: list[Any], field: FieldShape) -> list[Any]:
    if not field.merge_key:
        return [*old, *(value for value in patch if value not in old)]
    items = list(old)
    key = field.merge_key
    if any(isinstance(item, dict) and item.get(DIRECTIVE) == "replace" for item in patch):
        return [_clean(item) for item in patch if not (isinstance(item, dict) and set(item) == {DIRECTIVE})]
    for change in patch:
        if not isinstance(change, dict) or key not in change:
            raise BadRequest(f"map: {change} does not contain declared merge key: {key}")
        found = next(
            (i for i, item in enumerate(items) if isinstance(item, dict) and item.get(key) == change[key]),
            None,
        )
        if change.get(DIRECTIVE) == "delete":
            items = [item for item in items if not (isinstance(item, dict) and item.get(key) == change[key])]
        elif found is None:
            items.append(_merge_object({}, change, field.shape))
        else:
            items[found] = _merge_object(items[found], change, field.shape)
    return items


def _delete_values(result: dict[str, Any], name: str, values: Any) -> None:
    if not isinstance(values, list):
        raise BadRequest(f"strategic merge patch: {DELETE_VALUES}{name} must be a list")
    if isinstance(result.get(name), list):
        result[name] = [value for value in result[name] if value not in values]


def _order(tree: dict[str, Any], result: dict[str, Any], name: str, order: Any, key: str) -> None:
    """Bring a merged list into the order wished."""
    items = result.get(name)
    if isinstance(order, list) and isinstance(items, list):
        before = tree.get(name)
        result[name] = arrange(items, order, before if isinstance(before, list) else (), key)


def _clean(value: Any) -> Any:
    """Return a value taken over whole, without the directives and nulls in it."""
    if isinstance(value, dict):
        return {
            name: _clean(inner)
            for name, inner in value.items()
            if not name.startswith("$") and inner is not None
        }
    if isinstance(value, list):
        return [
            _clean(item) for item in value if not (isinstance(item, dict) and item.get(DIRECTIVE) == "delete")
        ]
    return value
