"""Applying a configuration to an object, and taking away what is applied no longer."""

from typing import Any

from edgekube.api.managed.extract import items_of
from edgekube.api.managed.sets import SELF, Fields
from edgekube.api.managed.shape import Form, Shape

_MAPS = frozenset({Form.STRUCT, Form.MAP, Form.DEDUCED})


def merge(live: Any, config: Any, shape: Shape | None) -> Any:
    """Return `live` with everything `config` says; neither is changed."""
    if shape is None or config is None:
        return config
    if shape.form in _MAPS and isinstance(config, dict) and isinstance(live, dict):
        merged = dict(live)
        for name, item in config.items():
            child = shape.children[name]
            merged[name] = merge(live[name], item, child) if name in live else item
        return merged
    if shape.form in {Form.KEYED, Form.SET} and isinstance(config, list) and isinstance(live, list):
        return _merge_list(live, config, shape)
    return config


def _merge_list(live: list[Any], config: list[Any], shape: Shape) -> list[Any]:
    """Items keep the order of the live list; those that are new come where the configuration has them."""
    here = {element: item for element, item, _ in items_of(live, shape)}
    wished = {element: item for element, item, _ in items_of(config, shape)}
    child = shape.item() if shape.item is not None else None
    merged: list[Any] = []
    queue = list(wished)
    for element, item in here.items():
        if element not in wished:
            merged.append(item)
            continue
        while queue and queue[0] not in here:
            merged.append(wished[queue.pop(0)])
        if element in queue:
            queue.remove(element)
        merged.append(merge(item, wished[element], child))
    return merged + [wished[element] for element in queue]


def remove(tree: Any, gone: Fields, owned: Fields, shape: Shape) -> Any:
    """
    Return `tree` without the fields of `gone` that nobody owns.

    A parent goes with them when nobody owns anything below it, whatever defaults it has.
    """
    if isinstance(tree, dict):
        return _remove_fields(tree, gone, owned, shape)
    left = []
    for element, item, child in items_of(tree, shape):
        if element not in gone:
            left.append(item)
        elif element in owned:
            left.append(_below(item, gone[element], owned[element], child))
    return left


def _remove_fields(tree: dict[str, Any], gone: Fields, owned: Fields, shape: Shape) -> dict[str, Any]:
    left = {}
    for name, item in tree.items():
        element = f"f:{name}"
        if element not in gone:
            left[name] = item
        elif element in owned:
            left[name] = _below(item, gone[element], owned[element], shape.children[name])
    return left


def _below(item: Any, gone: Fields, owned: Fields, shape: Shape | None) -> Any:
    inner = {key: value for key, value in gone.items() if key != SELF}
    if shape is None or not inner or not isinstance(item, (dict, list)):
        return item
    if shape.form not in {*_MAPS, Form.KEYED, Form.SET}:
        return item
    return remove(item, inner, owned, shape)
