"""Answers in Kubernetes' protobuf: objects, lists and watches of built-in kinds (API concepts, "Alternate representations")."""

import struct
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from edgekube.api import protobuf
from edgekube.api.protobuf.wire import write_bytes
from edgekube.apiserver.codec import field_table
from edgekube.apiserver.negotiate import PROTOBUF, not_acceptable
from edgekube.apiserver.request import JSON, Response, Tree
from edgekube.apiserver.watching import Event, Events, close

STREAM = f"{PROTOBUF};stream=watch"


def encodable(api_version: str, kind: str) -> bool:
    """Tell whether a kind has a protobuf form."""
    return field_table().message_of(api_version, kind) is not None


def answer(response: Response, *, fallback: bool) -> Response:
    """Return the answer in protobuf; as JSON where there is no such form and the client takes that as well."""
    tree = msgspec.json.decode(response.body) if response.body else {}
    if encodable(str(tree.get("apiVersion", "")), str(tree.get("kind", ""))):
        response.body, response.content_type = encoded(tree), PROTOBUF
    elif not fallback and response.content_type == JSON:
        raise not_acceptable()
    return response


def encoded(tree: Tree) -> bytes:
    """Return an object in its envelope."""
    return protobuf.encode(tree, table=field_table())


async def events(plain: Events) -> AsyncIterator[Sequence[Event]]:
    """Frame a watch: four bytes of length, then a WatchEvent that holds the object's envelope."""
    try:
        async for batch in plain:
            yield [
                Event(item.type, item.raw, _frame(item.type, msgspec.json.decode(item.raw))) for item in batch
            ]
    finally:
        await close(plain)


def _frame(kind: str, tree: Any) -> bytes:
    extension = write_bytes(1, encoded(tree))
    message = write_bytes(1, kind.encode()) + write_bytes(2, extension)
    return struct.pack(">I", len(message)) + message
