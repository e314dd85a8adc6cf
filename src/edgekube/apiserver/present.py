"""Other shapes of an answer: Table, PartialObjectMetadata and their lists (meta.k8s.io/v1)."""

from collections.abc import Callable
from datetime import datetime

import msgspec

from edgekube.api.errors import BadRequest
from edgekube.api.resource import AnyResource
from edgekube.apiserver.exchange import Exchange
from edgekube.apiserver.printers import printer_of
from edgekube.apiserver.request import Response, Tree
from edgekube.apiserver.watching import Event, Events, close, event

META = "meta.k8s.io/v1"
INCLUDES = ("", "Metadata", "Object", "None")
LISTS = frozenset({"list", "deletecollection"})


class Presenter:
    """Turns plain answers into what `as=…` asks for."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now

    def present(self, exchange: Exchange, response: Response) -> Response:
        """Return the answer in the shape asked for; a Status stays as it is."""
        transform = exchange.media.transform
        if not transform:
            return response
        include = exchange.query.get("includeObject", "")
        if include not in INCLUDES:
            raise BadRequest(f'unrecognized includeObject value: "{include}"')
        row = exchange.target.row
        if response.events is not None:
            response.events = self._events(row, response.events, transform, include)
            return response
        tree = msgspec.json.decode(response.body)
        if tree.get("kind") == "Status":
            return response
        shaped = self._shape(row, tree, transform, include, listed=exchange.verb in LISTS)
        response.body = msgspec.json.encode(shaped)
        return response

    def _shape(self, row: AnyResource, tree: Tree, transform: str, include: str, *, listed: bool) -> Tree:
        items = tree["items"] if listed else [tree]
        if transform == "Table":
            fields = tree["metadata"]
            meta = fields if listed else {"resourceVersion": fields.get("resourceVersion", "")}
            return self.table(row, items, meta, include)
        if not listed:
            return partial_of(tree)
        kind = "PartialObjectMetadataList"
        return {
            "kind": kind,
            "apiVersion": META,
            "metadata": tree["metadata"],
            "items": [partial_of(i) for i in items],
        }

    def table(
        self, row: AnyResource, items: list[Tree], metadata: Tree, include: str, *, headers: bool = True
    ) -> Tree:
        """Return a Table of objects."""
        printer, now = printer_of(row), self._now()
        table: Tree = {"kind": "Table", "apiVersion": META, "metadata": metadata}
        table["columnDefinitions"] = [column.tree() for column in printer.columns] if headers else None
        shown = INCLUDE[include]
        table["rows"] = [{"cells": printer.cells(item, now), "object": shown(item)} for item in items]
        return table

    async def _events(self, row: AnyResource, events: Events, transform: str, include: str) -> Events:
        headers = True
        try:
            async for batch in events:
                shaped = []
                for item in batch:
                    if item.type == "ERROR":
                        shaped.append(item)
                        continue
                    tree = msgspec.json.decode(item.raw)
                    if transform == "Table":
                        tree = self._table_event(row, item, tree, include, headers=headers)
                        headers = headers and item.type == "BOOKMARK"
                    else:
                        tree = partial_of(tree)
                    shaped.append(event(item.type, msgspec.json.encode(tree)))
                yield shaped
        finally:
            await close(events)

    def _table_event(
        self, row: AnyResource, happened: Event, tree: Tree, include: str, *, headers: bool
    ) -> Tree:
        """Return one event's Table; a bookmark's has one row without cells that carries the metadata."""
        meta = {"resourceVersion": tree["metadata"].get("resourceVersion", "")}
        if happened.type != "BOOKMARK":
            return self.table(row, [tree], meta, include, headers=headers)
        rows = [{"cells": [None] * len(printer_of(row).columns), "object": partial_of(tree)}]
        return {
            "kind": "Table",
            "apiVersion": META,
            "metadata": meta,
            "columnDefinitions": None,
            "rows": rows,
        }


def partial_of(tree: Tree) -> Tree:
    """Return an object's metadata as PartialObjectMetadata."""
    return {"kind": "PartialObjectMetadata", "apiVersion": META, "metadata": tree["metadata"]}


def _nothing(_tree: Tree) -> Tree | None:
    return None


def _whole(tree: Tree) -> Tree | None:
    return tree


INCLUDE: dict[str, Callable[[Tree], Tree | None]] = {
    "": partial_of, "Metadata": partial_of, "Object": _whole, "None": _nothing,
}  # fmt: skip
