"""The verbs every resource has, as a table."""

from collections.abc import Mapping
from functools import partial

import msgspec

from edgekube.api import patch
from edgekube.api.errors import BadRequest, Cause, MethodNotAllowed, UnsupportedMediaType
from edgekube.apiserver import apply
from edgekube.apiserver.codec import from_json, join_list
from edgekube.apiserver.exchange import Exchange, Serve, answer, success
from edgekube.apiserver.registry import problems
from edgekube.apiserver.registry.deletion import DeleteOptions, options_from
from edgekube.apiserver.registry.parts import MAIN, Part
from edgekube.apiserver.registry.strategy import strategy_of
from edgekube.apiserver.request import Response, Tree
from edgekube.apiserver.route import Target

PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    apply.MEDIA,
)


async def get(exchange: Exchange) -> Response:
    """Read one object."""
    return Response(body=await exchange.parts.registry.get(exchange.target))


async def list_(exchange: Exchange) -> Response:
    """Read a collection."""
    return Response(body=await exchange.parts.reading.list(exchange.target, exchange.query))


async def watch(exchange: Exchange) -> Response:
    """Follow a collection."""
    events = await exchange.parts.reading.watch(exchange.target, exchange.query)
    return Response(events=events)


async def create(exchange: Exchange) -> Response:
    """Create an object."""
    if exchange.target.name:
        raise MethodNotAllowed("the server does not allow this method on the requested resource")
    return answer(await exchange.parts.registry.create(exchange.action(), exchange.tree()))


async def update(exchange: Exchange, *, part: Part = MAIN) -> Response:
    """Replace an object, or a part of it."""
    return answer(await exchange.parts.registry.update(exchange.action(), exchange.tree(), part=part))


async def patch_(exchange: Exchange, *, part: Part = MAIN) -> Response:
    """Change an object, or a part of it."""
    if exchange.request.headers.get("content-type", "").partition(";")[0].strip() == apply.MEDIA:
        return await apply.apply(exchange, part=part)
    if "force" in exchange.query:
        cause = Cause("FieldValueForbidden", "Forbidden: may not be specified for non-apply patch", "force")
        raise problems.invalid("PatchOptions", "meta.k8s.io", "", [cause])

    def plain(tree: Tree) -> Tree:
        return patched(exchange, tree, exchange.target.row.api_version, exchange.target.row.kind)

    async def viewed(tree: Tree) -> Tree:
        view = exchange.view
        assert view is not None
        shown = patched(exchange, await view.shown(tree), view.row.api_version, view.row.kind)
        # Only what is a whole object of this version can be converted.
        validation = exchange.query.get("fieldValidation", "")
        found = exchange.parts.codec.normalise(shown, view.row, validation, exchange.warnings)
        if found.missing:
            raise problems.invalid(view.row.kind, view.row.group, exchange.target.name, found.missing)
        return await view.stored(found.tree)

    wish = plain if exchange.view is None else viewed
    return answer(await exchange.parts.registry.change(exchange.action(), wish, part=part))


def patched(exchange: Exchange, tree: Tree, api_version: str, kind: str) -> Tree:
    """Return `tree`, an object of that kind, with the request's patch applied."""
    media = exchange.request.headers.get("content-type", "").partition(";")[0].strip()
    if media not in PATCH_TYPES or media == apply.MEDIA:
        accepted = ", ".join(PATCH_TYPES)
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format - accepted media types include: {accepted}"
        )
    change = from_json(exchange.request.body)
    if media == PATCH_TYPES[0]:
        return _object(patch.json_patch(tree, change))
    if not isinstance(change, dict):
        raise BadRequest("error decoding patch: a patch of this type is an object")
    if media == PATCH_TYPES[1]:
        return _object(patch.merge_patch(tree, change))
    definition = exchange.parts.codec.definition(api_version, kind)
    if definition is None:
        raise UnsupportedMediaType("strategic merge patches need a built-in kind")
    return _object(patch.strategic_patch(tree, change, exchange.parts.codec.schemas.shape(definition)))


def _object(tree: object) -> Tree:
    if not isinstance(tree, dict):
        raise BadRequest("error decoding patch: the result is not an object")
    return tree


async def delete(exchange: Exchange) -> Response:
    """Delete an object."""
    outcome = await exchange.parts.registry.delete(exchange.action(), delete_options(exchange))
    if outcome.gone and not strategy_of(exchange.target.row).returns_deleted:
        uid = msgspec.json.decode(outcome.body)["metadata"]["uid"]
        return success(exchange, uid=uid)
    return answer(outcome)


def delete_options(exchange: Exchange) -> DeleteOptions:
    """Read the request's options from body and query."""
    if not exchange.request.body:
        return options_from({}, exchange.query)
    found = exchange.parts.codec.check(exchange.tree(), "v1", "DeleteOptions", "Ignore", [])
    return options_from(found.tree, exchange.query)


async def delete_collection(exchange: Exchange) -> Response:
    """Delete what the selectors choose; answers with what was deleted."""
    target, options, action = exchange.target, delete_options(exchange), exchange.action()
    gone = []
    keys = await exchange.parts.reading.keys(target, exchange.query)
    for key in keys:
        one = Target(target.row, key.namespace, key.name)
        outcome = await exchange.parts.registry.delete_if_there(action, one, options)
        if outcome is not None:
            gone.append(outcome.body)
    return Response(body=join_list(target.row, gone, {}))


VERBS: Mapping[str, Serve] = {
    "get": get,
    "list": list_,
    "watch": watch,
    "create": create,
    "update": update,
    "patch": patch_,
    "delete": delete,
    "deletecollection": delete_collection,
}


def of_part(part: Part) -> Mapping[str, Serve]:
    """Return the verbs of a subresource that shows the whole object and changes one part."""
    return {"get": get, "update": partial(update, part=part), "patch": partial(patch_, part=part)}
