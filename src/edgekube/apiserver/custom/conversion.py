"""Custom resources in versions that only their author's webhook can convert (ConversionReview v1)."""

import uuid
from collections.abc import Callable

import msgspec

from edgekube.api.errors import InternalError
from edgekube.apiserver.request import Tree
from edgekube.apiserver.versions import Convert
from edgekube.apiserver.webhook_client import WebhookClient, WebhookError

SECONDS = 30.0
MAY_CHANGE = frozenset({"labels", "annotations"})


def converter(client: WebhookClient) -> Callable[[Tree], Convert]:
    """Return what makes the conversion of a definition with strategy Webhook."""

    def of(definition: Tree) -> Convert:
        config = definition["spec"]["conversion"]["webhook"]["clientConfig"]

        async def convert(trees: list[Tree], api_version: str) -> list[Tree]:
            others = [tree for tree in trees if tree.get("apiVersion") != api_version]
            if not others:
                return trees
            converted = iter(await _ask(client, config, others, api_version))
            return [tree if tree.get("apiVersion") == api_version else next(converted) for tree in trees]

        return convert

    return of


async def _ask(client: WebhookClient, config: Tree, trees: list[Tree], api_version: str) -> list[Tree]:
    uid = str(uuid.uuid4())
    request = {"uid": uid, "desiredAPIVersion": api_version, "objects": trees}
    body = {"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "request": request}
    head = f"conversion webhook for {trees[0].get('apiVersion')}, Kind={trees[0].get('kind')} failed"
    try:
        answer = await client.post(config, body, seconds=SECONDS)
    except WebhookError as error:
        raise InternalError(f"{head}: {error}") from error
    response = answer.get("response")
    if not isinstance(response, dict) or response.get("uid") != uid:
        raise InternalError(f"{head}: expected response with the uid of the request")
    result = response.get("result") or {}
    if result.get("status") != "Success":
        raise InternalError(f"{head}: {result.get('message') or 'no reason given'}")
    found = response.get("convertedObjects") or []
    if len(found) != len(trees):
        raise InternalError(f"{head}: expected {len(trees)} converted objects, got {len(found)}")
    return [_kept(old, new, api_version, head) for old, new in zip(trees, found, strict=True)]


def _kept(old: Tree, new: object, api_version: str, head: str) -> Tree:
    """Return the converted object; of the metadata a webhook may change labels and annotations only."""
    if (
        not isinstance(new, dict)
        or new.get("apiVersion") != api_version
        or new.get("kind") != old.get("kind")
    ):
        raise InternalError(f"{head}: a converted object is not of {api_version}, Kind={old.get('kind')}")
    before, after = old.get("metadata") or {}, new.get("metadata") or {}
    meta = {name: value for name, value in before.items() if name not in MAY_CHANGE}
    meta |= {name: after[name] for name in MAY_CHANGE if after.get(name)}
    return msgspec.json.decode(msgspec.json.encode({**new, "metadata": meta}), type=dict)
