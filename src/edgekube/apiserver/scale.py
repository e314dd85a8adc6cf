"""The scale subresource: `autoscaling/v1 Scale` of anything that has replicas."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from edgekube.api.custom import Scale
from edgekube.api.resource import AnyResource
from edgekube.apiserver import apply, verbs
from edgekube.apiserver.exchange import Exchange, Serve, checked
from edgekube.apiserver.request import Response, Tree
from edgekube.apiserver.selectortext import selector_text

KIND = ("autoscaling/v1", "Scale")
BUILT_IN = Scale(("spec", "replicas"), ("status", "replicas"), ("spec", "selector"))
NAMES = ("name", "namespace", "uid", "creationTimestamp")


def places_of(row: AnyResource) -> Scale:
    """Return where a kind's numbers are."""
    return row.custom.scale if row.custom is not None and row.custom.scale else BUILT_IN


def scale_of(row: AnyResource, obj: Tree, version: str) -> Tree:
    """Return an object's scale."""
    places, fields = places_of(row), obj["metadata"]
    wanted, selector = _at(obj, places.spec), _selector(_at(obj, places.selector))
    return {
        "kind": KIND[1],
        "apiVersion": KIND[0],
        "metadata": {**{name: fields[name] for name in NAMES if name in fields}, "resourceVersion": version},
        "spec": {"replicas": wanted} if wanted else {},
        "status": {"replicas": _at(obj, places.status) or 0, **({"selector": selector} if selector else {})},
    }


def _selector(found: Any) -> str:
    """Return a selector as text: a LabelSelector, the plain map of a ReplicationController, or text already."""
    if not isinstance(found, dict):
        return found or ""
    plain = not found.keys() & {"matchLabels", "matchExpressions"}
    return selector_text({"matchLabels": found} if plain else found)


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        tree = tree.get(step) if isinstance(tree, dict) else None
    return tree if path else None


async def get(exchange: Exchange) -> Response:
    """Read the scale."""
    stored = await exchange.parts.registry.stored(exchange.target)
    scale = scale_of(exchange.target.row, stored.tree(), str(stored.revision))
    return Response(body=msgspec.json.encode(scale))


async def _set(exchange: Exchange, wish: Callable[[Tree], Tree]) -> Response:
    row = exchange.target.row

    async def scaled(tree: Tree) -> Tree:
        version = tree["metadata"]["resourceVersion"]
        scale = checked(exchange, wish(scale_of(row, tree, version)), *KIND)
        scale = await exchange.review(scale, KIND, verb="update", old=scale_of(row, tree, version))
        tree["metadata"]["resourceVersion"] = (scale.get("metadata") or {}).get("resourceVersion", version)
        _put(tree, places_of(row).spec, (scale.get("spec") or {}).get("replicas", 0))
        return tree

    action = exchange.action()
    action.reviewed = True
    outcome = await exchange.parts.registry.change(action, scaled)
    obj = msgspec.json.decode(outcome.body)
    return Response(body=msgspec.json.encode(scale_of(row, obj, obj["metadata"]["resourceVersion"])))


async def update(exchange: Exchange) -> Response:
    """Replace the scale."""
    sent = exchange.tree()
    return await _set(exchange, lambda _scale: sent)


async def patch(exchange: Exchange) -> Response:
    """Patch the scale, or apply one."""
    if exchange.request.headers.get("content-type", "").partition(";")[0].strip() == apply.MEDIA:
        return await _apply(exchange)
    return await _set(exchange, lambda scale: verbs.patched(exchange, scale, *KIND))


async def _apply(exchange: Exchange) -> Response:
    """Apply a Scale: what it says of replicas is said of the object that has them (KEP-555, subresources)."""
    row = exchange.target.row
    config = apply.configuration(exchange, *KIND)
    checked(exchange, dict(config), *KIND)
    meta = {
        name: value
        for name, value in config["metadata"].items()
        if name in {"name", "resourceVersion", "uid"}
    }
    parent: Tree = {"apiVersion": row.api_version, "kind": row.kind, "metadata": meta}
    if "replicas" in (config.get("spec") or {}):
        _put(parent, places_of(row).spec, config["spec"]["replicas"])
    wish = apply.wish_of(exchange, parent)

    async def scaled(tree: Tree) -> Tree:
        version = tree["metadata"]["resourceVersion"]
        new = await wish(tree)
        scale = await exchange.review(
            scale_of(row, new, version), KIND, verb="update", old=scale_of(row, tree, version)
        )
        _put(new, places_of(row).spec, (scale.get("spec") or {}).get("replicas", 0))
        return new

    action = exchange.action()
    action.applied = action.reviewed = True
    outcome = await exchange.parts.registry.change(action, scaled)
    obj = msgspec.json.decode(outcome.body)
    return Response(body=msgspec.json.encode(scale_of(row, obj, obj["metadata"]["resourceVersion"])))


def _put(tree: Tree, path: tuple[str, ...], value: Any) -> None:
    *way, last = path
    for step in way:
        tree[step] = dict(tree.get(step) or {})
        tree = tree[step]
    tree[last] = value


VERBS: Mapping[str, Serve] = {"get": get, "update": update, "patch": patch}
